"""Varifocal loss.

Paper: Zhang et al., "VarifocalNet: An IoU-aware Dense Object Detector", CVPR 2021, arXiv:2008.13367, equation 2.
Authors' code: https://github.com/hyz-xmaster/VarifocalNet (Apache-2.0).
What differs: Ultralytics' normaliser, the sum of the targets, is kept; the authors divide by the number of objects.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.losses.boxes import precise


class Varifocal(nn.Module):
    """Cross-entropy times the target where there is an object, else times alpha p^gamma.

    Args:
        gamma: Exponent of the score.
        alpha: Factor of what is no object.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(self, gamma: Annotated[float, ">= 1"] = 2.0, alpha: Annotated[float, "> 0"] = 0.75) -> None:
        super().__init__()
        if gamma < 1 or alpha <= 0:
            raise ValueError(f"gamma={gamma}, alpha={alpha}: they must be >= 1 and > 0")
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of logits (B, N, classes) with targets of the same shape, from 0 to 1."""
        logits, targets = precise(logits), precise(targets)
        weights = torch.where(targets > 0, targets, self.alpha * logits.sigmoid().pow(self.gamma))
        return weights * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
