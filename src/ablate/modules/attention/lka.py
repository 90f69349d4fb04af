"""LKA: large kernel attention, weights from a 21x21 kernel in two depthwise convolutions and a 1x1 convolution.

Source: Guo et al., "Visual Attention Network", Computational Visual Media 9, 2023, arXiv:2202.09741; the authors' code
is `models/van.py` of github.com/Visual-Attention-Network/VAN-Classification (Apache 2.0). This is an independent
implementation of equations 2 and 3.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from torch import Tensor, nn


class LKA(nn.Module):
    """Multiply a map by what a large kernel makes of it, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.dilated = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        weights: Tensor = self.mix(self.dilated(self.local(x)))  # of any size and sign
        return x * weights
