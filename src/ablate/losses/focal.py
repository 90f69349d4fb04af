"""Focal loss.

Paper: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, arXiv:1708.02002, equation 5.
Authors' code: https://github.com/facebookresearch/fvcore (Apache-2.0), in torchvision `sigmoid_focal_loss`.
What differs: targets t between 0 and 1, which the paper has not, weigh as in the authors' code, with
p_t = p t + (1 - p)(1 - t). Ultralytics' normaliser, the sum of the targets, is kept.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn
from torch.nn import functional

from ablate.losses.boxes import precise

EPS = 1e-12  # below it a power of less than 1 has no finite gradient


class Focal(nn.Module):
    """Cross-entropy times alpha_t (1 - p_t)^gamma.

    Args:
        gamma: Exponent of 1 - p_t.
        alpha: Weight of a class that is there, 1 - alpha that of one that is not; 0 for no weights.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(self, gamma: Annotated[float, ">= 0"] = 2.0, alpha: Annotated[float, ">= 0 and < 1"] = 0.25) -> None:
        super().__init__()
        if gamma < 0 or not 0 <= alpha < 1:
            raise ValueError(f"gamma={gamma}, alpha={alpha}: they must be >= 0 and in [0, 1)")
        self.gamma, self.alpha = gamma, alpha

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the losses of logits (B, N, classes) with targets of the same shape, from 0 to 1."""
        logits, targets = precise(logits), precise(targets)
        entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        scores = logits.sigmoid()
        wrong = scores * (1 - targets) + (1 - scores) * targets  # 1 - p_t
        if self.alpha > 0:
            entropy = entropy * (self.alpha * targets + (1 - self.alpha) * (1 - targets))
        return entropy if self.gamma == 0 else entropy * wrong.clamp(EPS).pow(self.gamma)
