"""Wise-IoU.

Paper: Tong et al., "Wise-IoU: Bounding Box Regression Loss with Dynamic Focusing Mechanism", 2023, arXiv:2301.10051,
equations 6 to 8 and 11. Authors' code: https://github.com/Instinct323/wiou.
What differs: the running mean of 1 - IoU is one for each head and process, is part of the checkpoint, and does not
move in a validation. It begins at 1. The authors' code moves it by 1 % of a batch (in their second version, with alpha
1.7 and delta 2.7); copies of their first one by 1 - 0.5^(1/7000), about 0.0001, which is the default here.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from ablate.losses.boxes import EPS, Pairs, Scale


class WIoU(nn.Module):
    """(1 - IoU) exp(distance^2 / diagonal^2), in version 3 with a weight of how unusual a box's IoU is.

    Args:
        version: ``v1`` or ``v3``.
        alpha, delta: Of the weight of version 3: beta / (delta alpha^(beta - delta)), beta = (1 - IoU) / mean.
        momentum: Share of a batch in the running mean.

    Raises:
        ValueError: An option is out of range.
    """

    mean: Tensor

    def __init__(
        self,
        version: Literal["v1", "v3"] = "v3",
        alpha: Annotated[float, "> 1"] = 1.9,
        delta: Annotated[float, "> 0"] = 3.0,
        momentum: Annotated[float, "> 0 and <= 1"] = 1e-4,
    ) -> None:
        super().__init__()
        if version not in ("v1", "v3") or alpha <= 1 or delta <= 0 or not 0 < momentum <= 1:
            raise ValueError(
                f"version={version}, alpha={alpha}, delta={delta}, momentum={momentum}: v1 or v3, > 1, > 0, in (0, 1]"
            )
        self.version, self.alpha, self.delta, self.momentum = version, alpha, delta, momentum
        if version == "v3":
            self.register_buffer("mean", torch.ones(()))

    def forward(self, boxes: Tensor, targets: Tensor, scale: Scale) -> Tensor:
        """Return the losses (N,) of predicted boxes (N, 4) with true boxes (N, 4); training moves the mean."""
        pairs = Pairs.of(boxes, targets)
        loss = 1 - pairs.iou
        attention = (pairs.distance / pairs.diagonal.detach()).exp()
        if self.version == "v1":
            return attention * loss
        if self.training and torch.is_grad_enabled() and len(boxes):
            self.mean.lerp_(loss.detach().mean().to(self.mean.dtype), self.momentum)
        outlier = loss.detach() / (self.mean + EPS)
        return outlier / (self.delta * self.alpha ** (outlier - self.delta)) * attention * loss
