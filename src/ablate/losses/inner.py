"""Inner-IoU, of any loss of boxes.

Paper: Zhang et al., "Inner-IoU: More Effective Intersection over Union Loss with Auxiliary Bounding Box", 2023,
arXiv:2311.02877, equations 8 to 16. Authors' code: https://github.com/malagoutou/Inner-IoU.
What differs: the paper has the sum L + IoU - inner IoU for each loss L; so has this wrapper, for every loss.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from ablate.losses.boxes import BoxLoss, Pairs, Scale, precise


class Inner(nn.Module):
    """The loss `of`, + IoU - the IoU of the boxes scaled about their centres.

    Args:
        of: A loss of boxes.
        ratio: Size of the inner boxes in parts of the boxes.

    Raises:
        ValueError: `ratio` is not positive.
    """

    def __init__(self, of: BoxLoss, ratio: Annotated[float, "> 0"] = 0.75) -> None:
        super().__init__()
        if ratio <= 0:
            raise ValueError(f"ratio={ratio}: it must be > 0")
        self.of, self.ratio = of, ratio

    def forward(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return the losses (N,) of predicted boxes (N, 4) with true boxes (N, 4)."""
        loss: Tensor = self.of(precise(boxes), precise(targets), scale)
        return loss - self._gain(boxes, targets)

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return the similarity (N,) of the loss `of` with the inner IoU in the place of the IoU."""
        return self.of.similarity(precise(boxes), precise(targets), scale) + self._gain(boxes, targets)

    def _gain(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """Return how much the IoU of the inner boxes is above that of the boxes, (N,)."""
        inner = Pairs.of(_scaled(boxes, self.ratio), _scaled(targets, self.ratio))
        return inner.iou - Pairs.of(boxes, targets).iou


def _scaled(boxes: Tensor, ratio: float) -> Tensor:
    """Return boxes (N, 4) scaled about their centres."""
    low, high = precise(boxes).chunk(2, -1)
    centre, half = (low + high) / 2, (high - low) / 2 * ratio
    return torch.cat((centre - half, centre + half), -1)
