"""MSCA: multi-scale convolutional attention, weights from depthwise strips of several lengths.

Source: Guo et al., "SegNeXt: Rethinking Convolutional Attention Design for Semantic Segmentation", NeurIPS 2022,
arXiv:2209.08575; the authors' code is `AttentionModule` in `mmseg/models/backbones/mscan.py` of
github.com/Visual-Attention-Network/SegNeXt (Apache 2.0). This is an independent implementation of equations 1 and 2.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from ablate.modules.kernels.strips import odd_sizes, strip


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
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(strip(channels, length) for length in odd_sizes("MSCA: strips", strips))
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        local = self.local(x)
        summed = local
        for branch in self.strips:
            summed = summed + branch(local)
        weights: Tensor = self.mix(summed)  # of any size and sign
        return x * weights
