"""Efficient IoU, and Focal-EIoU.

Paper: Zhang et al., "Focal and Efficient IOU Loss for Accurate Bounding Box Regression", Neurocomputing 2022,
arXiv:2101.08158, equations 7 and 11. The authors published no code that could be had.
What differs: Focal-EIoU is divided by the sum of its weights in the paper; Ultralytics' normaliser, the sum of the
targets, is kept here. The weight IoU^gamma has no gradient.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from ablate.losses.boxes import EPS, BoxLoss, Pairs, Scale


class EIoU(BoxLoss):
    """IoU - distance^2 / diagonal^2 - the squared differences of width and height in parts of the enclosing box.

    Args:
        gamma: Exponent of the focal weight IoU^gamma of a box's loss; 0 for none.

    Raises:
        ValueError: `gamma` is negative.
    """

    def __init__(self, gamma: Annotated[float, ">= 0"] = 0.0) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"gamma={gamma}: it must be >= 0")
        self.gamma = gamma

    def forward(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return the losses (N,), focal where gamma is above 0."""
        loss = super().forward(boxes, targets, scale)
        if self.gamma == 0:
            return loss
        return loss * Pairs.of(boxes.detach(), targets).iou.pow(self.gamma)

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return EIoU (N,), at most 1, of boxes (N, 4) and (N, 4)."""
        pairs = Pairs.of(boxes, targets)
        across = (pairs.true_width - pairs.width).square() / (pairs.enclosing_width.square() + EPS)
        down = (pairs.true_height - pairs.height).square() / (pairs.enclosing_height.square() + EPS)
        return pairs.iou - pairs.distance / pairs.diagonal - across - down
