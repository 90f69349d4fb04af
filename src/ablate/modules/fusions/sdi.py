"""SDI: semantics and detail infusion, maps multiplied in place of concatenated.

Paper: Y. Peng, M. Sonka, D. Z. Chen, "U-Net v2: Rethinking the Skip Connections of U-Net for Medical Image
Segmentation", ISBI 2025, arXiv 2311.17791. Authors' code: https://github.com/yaoppeng/U-Net_v2 (no licence), `SDI` and
`BasicConv2d` in PolypSeg/unet_v2/UNet_v2.py, read at commit 8a43be2; the code here is our own.

What differs: the maps that meet in YOLO's neck have one size already, so nothing is resized; a 1x1 convolution leads
to the channels that the next layer expects. The attention that U-Net v2 has before SDI is not part of it. Status:
output and gradients equal the authors' to 1e-5 in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Annotated

from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm


class SDI(nn.Module):
    """The product of the maps, each reduced to a common width and smoothed; list of (B, C_i, H, W) to (B, C', H, W).

    Args:
        channels: C_i of each map.
        out_channels: C'.
        width: Channels of the product; 0 is the smallest C_i. If it is not C', a 1x1 convolution and batch norm follow.

    Raises:
        ValueError: No maps, or a negative width.
    """

    def __init__(self, channels: Sequence[int], out_channels: int, *, width: Annotated[int, ">= 0"] = 0) -> None:
        super().__init__()
        if not channels or width < 0:
            raise ValueError(f"SDI needs a map and a width of at least 0; got {list(channels)} and {width}")
        width = width or min(channels)
        self.reduce = nn.ModuleList(ConvNorm(count, width, activation="none") for count in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.expand = nn.Identity() if width == out_channels else ConvNorm(width, out_channels, activation="none")

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """List of (B, C_i, H, W) to (B, C', H, W)."""
        reduced = [reduce(x) for reduce, x in zip(self.reduce, maps, strict=True)]
        smoothed = [smooth(x) for smooth, x in zip(self.smooth, reduced, strict=True)]
        y: Tensor = self.expand(prod(smoothed[1:], start=smoothed[0]))
        return y
