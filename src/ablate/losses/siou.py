"""SCYLLA-IoU.

Paper: Gevorgyan, "SIoU Loss: More Powerful Learning for Bounding Box Regression", 2022, arXiv:2205.12740.
The author published no code; that of YOLOv6 (https://github.com/meituan/YOLOv6, GPL-3.0) is the usual one.
What differs: the cost of the angle, 1 - 2 sin^2(arcsin x - pi/4) of the paper, is written as the equal
2 |dx| |dy| / (dx^2 + dy^2), whose gradient is finite everywhere.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from ablate.losses.boxes import EPS, BoxLoss, Pairs, Scale


class SIoU(BoxLoss):
    """IoU - (cost of distance, which the angle changes, + cost of shape) / 2.

    Args:
        theta: Exponent of the cost of shape.

    Raises:
        ValueError: `theta` is not positive.
    """

    def __init__(self, theta: Annotated[float, ">= 1"] = 4.0) -> None:
        super().__init__()
        if theta < 1:
            raise ValueError(f"theta={theta}: it must be >= 1")
        self.theta = theta

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return SIoU (N,), at most 1, of boxes (N, 4) and (N, 4)."""
        pairs = Pairs.of(boxes, targets)
        angle = 2 * (pairs.dx * pairs.dy).abs() / (pairs.distance + EPS)  # 0 along an axis, 1 at 45 degrees
        steepness = 2 - angle
        across = (pairs.dx / (pairs.enclosing_width + EPS)).square()
        down = (pairs.dy / (pairs.enclosing_height + EPS)).square()
        distance = 2 - (-steepness * across).exp() - (-steepness * down).exp()
        shape = self._shape(pairs.width, pairs.true_width) + self._shape(pairs.height, pairs.true_height)
        return pairs.iou - (distance + shape) / 2

    def _shape(self, side: Tensor, true_side: Tensor) -> Tensor:
        difference = (side - true_side).abs() / (side.maximum(true_side) + EPS)
        return (1 - (-difference).exp()).pow(self.theta)
