"""Distance IoU.

Paper: Zheng et al., "Distance-IoU Loss: Faster and Better Learning for Bounding Box Regression", AAAI 2020,
arXiv:1911.08287, equation 7. Authors' code: https://github.com/Zzh-tju/DIoU-SSD-pytorch (GPL-3.0).
What differs: the authors clamp the loss to [0, 2], which changes nothing but rounding; here it is not.
"""

from __future__ import annotations

from torch import Tensor

from ablate.losses.boxes import BoxLoss, Pairs, Scale


class DIoU(BoxLoss):
    """IoU - distance^2 / diagonal^2."""

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return DIoU (N,), from -1 to 1, of boxes (N, 4) and (N, 4)."""
        pairs = Pairs.of(boxes, targets)
        return pairs.iou - pairs.distance / pairs.diagonal
