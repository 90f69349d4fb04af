"""Normalised Wasserstein distance, mixed with another loss of boxes.

Paper: Wang et al., "A Normalized Gaussian Wasserstein Distance for Tiny Object Detection", 2021, arXiv:2110.13389,
equations 4 to 7. Authors' code: https://github.com/jwwangchn/NWD (Apache-2.0).
What differs: the mix with a loss of IoU, which the paper does not have; it is the usual form in YOLO, and `ratio: 1`
is the paper's loss. Boxes are taken to pixels, in which the paper has its constant.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from ablate.losses.boxes import EPS, BoxLoss, Scale, precise


class NWD(nn.Module):
    """ratio (1 - exp(-distance / constant)) + (1 - ratio) of another loss, with the distance of two Gaussians.

    Args:
        of: The other loss of boxes.
        ratio: Share of NWD.
        constant: C in pixels.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        of: BoxLoss,
        ratio: Annotated[float, "> 0 and <= 1"] = 0.5,
        constant: Annotated[float, "> 0"] = 12.8,
    ) -> None:
        super().__init__()
        if not 0 < ratio <= 1 or constant <= 0:
            raise ValueError(f"ratio={ratio}, constant={constant}: they must be in (0, 1] and > 0")
        self.of, self.ratio, self.constant = of, ratio, constant

    def forward(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return the losses (N,) of predicted boxes (N, 4) with true boxes (N, 4)."""
        loss = self.ratio * (1 - self._closeness(boxes, targets, scale))
        return loss if self.ratio == 1 else loss + (1 - self.ratio) * self.of(precise(boxes), precise(targets), scale)

    def similarity(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return the mix (N,) of exp(-distance / constant) and the similarity of the other loss."""
        mix = self.ratio * self._closeness(boxes, targets, scale)
        return (
            mix
            if self.ratio == 1
            else mix + (1 - self.ratio) * self.of.similarity(precise(boxes), precise(targets), scale)
        )

    def _closeness(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return exp(-distance / constant), (N,), from 0 to 1."""
        low, high = ((precise(boxes) - precise(targets)) * precise(scale.stride)).chunk(2, -1)  # pixels
        parts = torch.cat(((low + high) / 2, (high - low) / 2), -1)  # differences of the means and of the deviations
        distance = (parts.square().sum(-1) + EPS).sqrt()
        return (-distance / self.constant).exp()
