"""CBAM: convolutional block attention module, weights for channels and then for positions.

Source: Woo et al., "CBAM: Convolutional Block Attention Module", ECCV 2018, arXiv:1807.06521; the authors' code is
`MODELS/cbam.py` of github.com/Jongchan/attention-module (MIT licence). This is an independent implementation of the
definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values). The number of hidden units has
a lower limit of 4, which the authors' code has not. Ultralytics' CBAM is another module: see docs/modules/cbam.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

FEWEST = 4  # hidden units, where a map has few channels


class CBAM(nn.Module):
    """Weigh channels, then positions, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        reduction: C / `reduction` hidden units in the channel attention, but at least 4.
        kernel_size: Of the convolution of the spatial attention, odd.
        spatial: Whether there is spatial attention at all.

    Raises:
        ValueError: `channels` or `reduction` is below 1, or `kernel_size` is even.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: Annotated[int, ">= 1"] = 16,
        kernel_size: Annotated[int, ">= 1"] = 7,
        spatial: bool = True,
    ) -> None:
        super().__init__()
        if min(channels, reduction) < 1:
            raise ValueError(
                f"CBAM needs at least 1 channel and a reduction of at least 1; got {channels}, {reduction}"
            )
        if kernel_size < 1 or not kernel_size % 2:
            raise ValueError(f"CBAM: kernel_size must be odd; got {kernel_size}")
        hidden = max(channels // reduction, FEWEST)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1))
        self.spatial: nn.Module | None = None
        if spatial:
            conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
            self.spatial = nn.Sequential(conv, nn.BatchNorm2d(1, momentum=0.01))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        logits = self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(x.amax((2, 3), keepdim=True))  # (B, C, 1, 1)
        x = x * logits.sigmoid()
        if self.spatial is None:
            return x
        extremes = torch.cat([x.amax(1, keepdim=True), x.mean(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        weights: Tensor = self.spatial(extremes).sigmoid()  # (B, 1, H, W)
        return x * weights
