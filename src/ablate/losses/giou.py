"""Generalised IoU.

Paper: Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019, arXiv:1902.09630, algorithm 2.
Authors' code: https://github.com/generalized-iou/g-darknet (C). The golden values are of
https://github.com/Zzh-tju/DIoU-SSD-pytorch (GPL-3.0), whose authors compare with GIoU.
What differs: nothing.
"""

from __future__ import annotations

from torch import Tensor

from ablate.losses.boxes import EPS, BoxLoss, Pairs, Scale


class GIoU(BoxLoss):
    """IoU - the part of the enclosing box that neither box covers."""

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return GIoU (N,), from -1 to 1, of boxes (N, 4) and (N, 4)."""
        pairs = Pairs.of(boxes, targets)
        enclosing = pairs.enclosing_width * pairs.enclosing_height
        return pairs.iou - (enclosing - pairs.union) / (enclosing + EPS)
