"""Shape-IoU.

Paper: Zhang and Zhang, "Shape-IoU: More Accurate Metric considering Bounding Box Shape and Scale", 2023,
arXiv:2312.17663, equations 5 to 10. Authors' code: https://github.com/malagoutou/Shape-IoU.
What differs: nothing. The weights are of the true box's sides, in the boxes' unit; they are the same in any unit.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from ablate.losses.boxes import EPS, BoxLoss, Pairs, Scale


class ShapeIoU(BoxLoss):
    """IoU - weighted distance of the centres - weighted cost of shape / 2.

    Args:
        scale: Exponent of the sides in the weights 2 w^scale / (w^scale + h^scale).

    Raises:
        ValueError: `scale` is negative.
    """

    def __init__(self, scale: Annotated[float, ">= 0"] = 0.0) -> None:
        super().__init__()
        if scale < 0:
            raise ValueError(f"scale={scale}: it must be >= 0")
        self.exponent = scale

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return Shape-IoU (N,), at most 1, of boxes (N, 4) and (N, 4)."""
        pairs = Pairs.of(boxes, targets)
        width, height = pairs.true_width.clamp(EPS), pairs.true_height.clamp(EPS)
        wide = 2 / (1 + (height / width).pow(self.exponent))
        tall = 2 - wide
        distance = (tall * pairs.dx.square() + wide * pairs.dy.square()) / pairs.diagonal
        shape = _shape(tall, pairs.width, pairs.true_width) + _shape(wide, pairs.height, pairs.true_height)
        return pairs.iou - distance - shape / 2


def _shape(weight: Tensor, side: Tensor, true_side: Tensor) -> Tensor:
    difference = (side - true_side).abs() / (side.maximum(true_side) + EPS)
    return (1 - (-weight * difference).exp()).pow(4)
