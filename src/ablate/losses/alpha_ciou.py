"""Alpha-CIoU: the power form of CIoU.

Paper: He et al., "Alpha-IoU: A Family of Power Intersection over Union Losses for Bounding Box Regression", NeurIPS
2021, arXiv:2110.13675, equation 4. Authors' code: https://github.com/Jacobi93/Alpha-IoU (GPL-3.0).
What differs: EPS is added to what is divided by alone, not to what is raised to a power.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor

from ablate.losses.boxes import EPS, BoxLoss, Pairs, Scale


class AlphaCIoU(BoxLoss):
    """IoU^alpha - (distance^2 / diagonal^2)^alpha - (beta v)^alpha, with v from the angles of the diagonals.

    Args:
        alpha: The power; 1 is CIoU.

    Raises:
        ValueError: `alpha` is less than 1.
    """

    def __init__(self, alpha: Annotated[float, ">= 1"] = 3.0) -> None:
        super().__init__()
        if alpha < 1:
            raise ValueError(f"alpha={alpha}: it must be >= 1")
        self.alpha = alpha

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return alpha-CIoU (N,), at most 1, of boxes (N, 4) and (N, 4)."""
        pairs = Pairs.of(boxes, targets)
        angle = torch.atan2(pairs.width, pairs.height + EPS)
        aspect = (4 / math.pi**2) * (torch.atan2(pairs.true_width, pairs.true_height + EPS) - angle).square()
        with torch.no_grad():
            beta = aspect / (1 - pairs.iou + aspect + EPS)
        away = (pairs.distance / pairs.diagonal).pow(self.alpha)
        return pairs.iou.pow(self.alpha) - away - (beta * aspect).pow(self.alpha)
