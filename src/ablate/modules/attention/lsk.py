"""LSK: large selective kernel, for each position a choice between two receptive fields.

Source: Li et al., "Large Selective Kernel Network for Remote Sensing Object Detection", ICCV 2023, arXiv:2303.09030;
the authors' code is `mmrotate/models/backbones/lsknet.py` of github.com/zcablii/LSKNet (CC BY-NC 4.0). This is an
independent implementation of the definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class LSK(nn.Module):
    """Multiply a map by what the chosen kernels make of it, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.

    Raises:
        ValueError: There are fewer than 2 channels.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"LSK needs at least 2 channels; got {channels}")
        half = channels // 2
        self.small = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.large = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.reduce_small = nn.Conv2d(channels, half, 1)
        self.reduce_large = nn.Conv2d(channels, half, 1)
        self.select = nn.Conv2d(2, 2, 7, padding=3)
        self.expand = nn.Conv2d(half, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        narrow = self.small(x)  # 5x5
        wide = self.reduce_large(self.large(narrow))  # (B, C/2, H, W), 23x23
        narrow = self.reduce_small(narrow)  # (B, C/2, H, W)
        both = torch.cat([narrow, wide], dim=1)
        extremes = torch.cat([both.mean(1, keepdim=True), both.amax(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        for_narrow, for_wide = self.select(extremes).sigmoid().chunk(2, dim=1)
        weights: Tensor = self.expand(narrow * for_narrow + wide * for_wide)  # of any size and sign
        return x * weights
