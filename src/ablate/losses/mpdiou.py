"""Minimum point distance IoU.

Paper: Ma and Xu, "MPDIoU: A Loss for Efficient and Accurate Bounding Box Regression", 2023, arXiv:2307.07662,
algorithm 1. The authors published no code that could be had.
What differs: nothing. The distances are in parts of the diagonal of the training image, so boxes are taken to pixels.
"""

from __future__ import annotations

from torch import Tensor

from ablate.losses.boxes import BoxLoss, Pairs, Scale, precise


class MPDIoU(BoxLoss):
    """IoU - the squared distances of the upper left and of the lower right corners, in parts of the image."""

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return MPDIoU (N,), at most 1, of boxes (N, 4) and (N, 4)."""
        apart = (precise(boxes) - precise(targets)) * precise(scale.stride)  # pixels
        return Pairs.of(boxes, targets).iou - apart.square().sum(-1) / precise(scale.image).square().sum()
