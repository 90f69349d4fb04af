"""MSCA: multi-scale convolutional attention, weights from depthwise strips of several lengths.

Source: Guo et al., "SegNeXt: Rethinking Convolutional Attention Design for Semantic Segmentation", NeurIPS 2022,
arXiv:2209.08575; the authors' code is `AttentionModule` in `mmseg/models/backbones/mscan.py` of
github.com/Visual-Attention-Network/SegNeXt (Apache 2.0). This is an independent implementation of equations 1 and 2.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class MSCA(nn.Module):
    """Multiply a map by what strips of several lengths make of it, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        strips: Lengths of the strips in pixels, odd; each is a row, then a column.

    Raises:
        ValueError: A length is even, or there is none.
    """

    def __init__(self, channels: int, *, strips: Sequence[int] = (7, 11, 21)) -> None:
        super().__init__()
        if not strips or any(length < 1 or not length % 2 for length in strips):
            raise ValueError(f"MSCA: strips must be odd numbers; got {list(strips)}")
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(_strip(channels, length) for length in strips)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        local = self.local(x)
        summed = local
        for strip in self.strips:
            summed = summed + strip(local)
        weights: Tensor = self.mix(summed)  # of any size and sign
        return x * weights


def _strip(channels: int, length: int) -> nn.Sequential:
    row = nn.Conv2d(channels, channels, (1, length), padding=(0, length // 2), groups=channels)
    column = nn.Conv2d(channels, channels, (length, 1), padding=(length // 2, 0), groups=channels)
    return nn.Sequential(row, column)
