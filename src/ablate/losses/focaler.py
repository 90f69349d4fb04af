"""Focaler-IoU, of any loss of boxes.

Paper: Zhang and Zhang, "Focaler-IoU: More Focused Intersection over Union Loss", 2024, arXiv:2401.10525, equations 8 to
13. Authors' code: https://github.com/malagoutou/Focaler-IoU, one line.
What differs: nothing.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from ablate.losses.boxes import BoxLoss, Pairs, Scale, precise


class Focaler(nn.Module):
    """The loss `of`, + IoU - the IoU stretched from `low` to `high`: 0 below, 1 above.

    Args:
        of: A loss of boxes.
        low, high: Ends of the interval.

    Raises:
        ValueError: The interval is empty, or not within 0 and 1.
    """

    def __init__(
        self, of: BoxLoss, low: Annotated[float, ">= 0 and < 1"] = 0.0, high: Annotated[float, "> 0 and <= 1"] = 0.95
    ) -> None:
        super().__init__()
        if not 0 <= low < high <= 1:
            raise ValueError(f"low={low}, high={high}: 0 <= low < high <= 1 is needed")
        self.of, self.low, self.high = of, low, high

    def forward(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return the losses (N,) of predicted boxes (N, 4) with true boxes (N, 4)."""
        loss: Tensor = self.of(precise(boxes), precise(targets), scale)
        return loss - self._gain(boxes, targets)

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return the similarity (N,) of the loss `of` with the stretched IoU in the place of the IoU."""
        return self.of.similarity(precise(boxes), precise(targets), scale) + self._gain(boxes, targets)

    def _gain(self, boxes: Tensor, targets: Tensor) -> Tensor:
        """Return how much the stretched IoU is above the IoU, (N,)."""
        iou = Pairs.of(boxes, targets).iou
        return ((iou - self.low) / (self.high - self.low)).clamp(0, 1) - iou
