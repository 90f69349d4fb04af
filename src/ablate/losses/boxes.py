"""What losses of boxes share: the contract of a loss, and the geometry of pairs of boxes.

A loss of boxes maps N predicted boxes and their true boxes, both (N, 4) as x1, y1, x2, y2, to N losses. In training
the unit is a cell of the feature map that a box was predicted on; `Scale` has what turns it into pixels. Predicted
boxes may be empty or turned inside out (x2 < x1).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

EPS = 1e-7  # added to what is divided by


@dataclass(frozen=True)
class Scale:
    """What turns the boxes' unit into pixels of the training image.

    Attributes:
        stride: Pixels in a unit, (N, 1).
        image: Height and width of the images in pixels, (2,).
    """

    stride: Tensor
    image: Tensor


class BoxLoss(nn.Module):
    """A loss that is 1 - similarity; subclasses define `similarity`."""

    def forward(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return the losses (N,) of predicted boxes (N, 4) with true boxes (N, 4)."""
        return 1.0 - self.similarity(boxes, targets, scale)

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return a similarity (N,): 1 for equal boxes; negative values count as 0 for the assigner."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pairs:
    """Geometry of N pairs of boxes, each field (N,), at least in single precision.

    Attributes:
        width, height: Of the predicted boxes; negative where one is turned inside out.
        true_width, true_height: Of the true boxes.
        dx, dy: From the centre of the predicted box to that of the true one.
        enclosing_width, enclosing_height: Of the smallest box around both.
        union: Area of the union.
        iou: Intersection over union.
    """

    width: Tensor
    height: Tensor
    true_width: Tensor
    true_height: Tensor
    dx: Tensor
    dy: Tensor
    enclosing_width: Tensor
    enclosing_height: Tensor
    union: Tensor
    iou: Tensor

    @classmethod
    def of(cls, boxes: Tensor, targets: Tensor) -> Pairs:
        """Return the geometry of predicted boxes (N, 4) and true boxes (N, 4)."""
        x1, y1, x2, y2 = precise(boxes).unbind(-1)
        u1, v1, u2, v2 = precise(targets).unbind(-1)
        width, height, true_width, true_height = x2 - x1, y2 - y1, u2 - u1, v2 - v1
        overlap = (x2.minimum(u2) - x1.maximum(u1)).clamp(0) * (y2.minimum(v2) - y1.maximum(v1)).clamp(0)
        union = width.clamp(0) * height.clamp(0) + true_width.clamp(0) * true_height.clamp(0) - overlap
        return cls(
            width=width,
            height=height,
            true_width=true_width,
            true_height=true_height,
            dx=(u1 + u2 - x1 - x2) / 2,
            dy=(v1 + v2 - y1 - y2) / 2,
            enclosing_width=x2.maximum(u2) - x1.minimum(u1),
            enclosing_height=y2.maximum(v2) - y1.minimum(v1),
            union=union,
            iou=overlap / (union + EPS),
        )

    @property
    def distance(self) -> Tensor:
        """Return the squared distance of the centres."""
        return self.dx.square() + self.dy.square()

    @property
    def diagonal(self) -> Tensor:
        """Return the squared diagonal of the enclosing box."""
        return self.enclosing_width.square() + self.enclosing_height.square() + EPS


def precise(tensor: Tensor) -> Tensor:
    """Return a tensor in single precision, or in its own where that is higher."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()
