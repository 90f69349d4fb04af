"""Complete IoU.

Paper: Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020,
arXiv:1911.08287, equations 8 to 11. Authors' code: https://github.com/Zzh-tju/DIoU-SSD-pytorch (GPL-3.0).
What differs: nothing from Ultralytics' loss of boxes. The steps are rounded in the same order, so that this loss, as
the control `identity`, gives the digits of the stock network, also in mixed precision. An inverted box has there the
sides it has, below zero; the heights have EPS added, the widths not.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ablate.losses.boxes import EPS, BoxLoss, Scale


class CIoU(BoxLoss):
    """IoU - distance^2 / diagonal^2 - alpha v, with v from the angles of the diagonals."""

    symmetric = True  # the assigner may give the true boxes first, as Ultralytics does

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return CIoU (N,), at most 1, of boxes (N, 4) and (N, 4)."""
        x1, y1, x2, y2 = boxes.unbind(-1)
        u1, v1, u2, v2 = targets.unbind(-1)
        width, height = x2 - x1, y2 - y1 + EPS
        true_width, true_height = u2 - u1, v2 - v1 + EPS
        overlap = (x2.minimum(u2) - x1.maximum(u1)).clamp(0) * (y2.minimum(v2) - y1.maximum(v1)).clamp(0)
        iou = overlap / (width * height + true_width * true_height - overlap + EPS)
        enclosing_width = x2.maximum(u2) - x1.minimum(u1)
        enclosing_height = y2.maximum(v2) - y1.minimum(v1)
        diagonal = enclosing_width.pow(2) + enclosing_height.pow(2) + EPS
        distance = ((u1 + u2 - x1 - x2).pow(2) + (v1 + v2 - y1 - y2).pow(2)) / 4
        aspect = (4 / math.pi**2) * ((true_width / true_height).atan() - (width / height).atan()).pow(2)
        with torch.no_grad():
            weight = aspect / (1 - iou + aspect + EPS)
        return iou - (distance / diagonal + aspect * weight)
