"""Slide loss.

Paper: Yu et al., "YOLO-FaceV2: A Scale and Occlusion Aware Face Detector", Pattern Recognition 2024, arXiv:2208.02019,
equation 5. Authors' code: https://github.com/Krasjet-Yu/YOLO-FaceV2 (GPL-3.0).
What differs: in the authors' code the weight between is e^m, in the paper e^(1-m); `middle` says which. The paper
weighs by the IoU of a prediction, and takes its mean over the objects' predictions. The target of Ultralytics'
assigner, which grows to the best IoU of an object, stands here for the IoU, as in the authors' code (there the target
is the IoU). The mean is at least 0.2, as in the authors' code.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from ablate.losses.boxes import precise

LEAST = 0.2
MARGIN = 0.1


class Slide(nn.Module):
    """Cross-entropy with weight 1 up to 0.1 below the mean target m, e^(1-m) up to the mean, e^(1-t) above it.

    Args:
        middle: The weight between: ``paper`` e^(1-m), or ``authors`` e^m.

    Raises:
        ValueError: `middle` is neither of the two.
    """

    def __init__(self, middle: Literal["paper", "authors"] = "paper") -> None:
        super().__init__()
        if middle not in ("paper", "authors"):
            raise ValueError(f"middle={middle}: paper or authors")
        self.middle = middle

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of logits (B, N, classes) with targets of the same shape, from 0 to 1."""
        logits, targets = precise(logits), precise(targets)
        mean = (targets.sum() / (targets > 0).sum().clamp(1)).clamp(LEAST)
        between = (1 - mean if self.middle == "paper" else mean).exp()
        weights = torch.where(targets < mean, between, (1 - targets).exp())
        weights = torch.where(targets <= mean - MARGIN, torch.ones_like(targets), weights)
        return weights * functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
