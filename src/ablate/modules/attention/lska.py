"""LSKA: large separable kernel attention, weights from a large depthwise kernel in four one-dimensional parts.

Source: Lau et al., "Large Separable Kernel Attention: Rethinking the Large Kernel Attention Design in CNN", Expert
Systems with Applications 236, 2024, arXiv:2309.01439; the authors' code is `models/van.py` of
github.com/StevenLauHKHK/Large-Separable-Kernel-Attention (Apache 2.0). This is an independent implementation of the
definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

# Kernel size: size of the local convolutions, size and dilation of the dilated ones (table 1 of the paper).
PARTS = {7: (3, 3, 2), 11: (3, 5, 2), 23: (5, 7, 3), 35: (5, 11, 3), 41: (5, 13, 3), 53: (5, 17, 3)}


class LSKA(nn.Module):
    """Multiply a map by what a large kernel makes of it, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        kernel_size: Side in pixels of the kernel that the four parts stand for.

    Raises:
        ValueError: `kernel_size` is none of the paper's.
    """

    def __init__(self, channels: int, *, kernel_size: Literal[7, 11, 23, 35, 41, 53] = 11) -> None:
        super().__init__()
        if kernel_size not in PARTS:
            raise ValueError(f"LSKA: kernel_size must be one of {', '.join(map(str, PARTS))}; got {kernel_size}")
        local, dilated, dilation = PARTS[kernel_size]
        self.local_row = _depthwise(channels, (1, local), 1)
        self.local_column = _depthwise(channels, (local, 1), 1)
        self.dilated_row = _depthwise(channels, (1, dilated), dilation)
        self.dilated_column = _depthwise(channels, (dilated, 1), dilation)
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        local = self.local_column(self.local_row(x))
        weights: Tensor = self.mix(self.dilated_column(self.dilated_row(local)))  # of any size and sign
        return x * weights


def _depthwise(channels: int, size: tuple[int, int], dilation: int) -> nn.Conv2d:
    rows, columns = (dilation * (side // 2) for side in size)
    return nn.Conv2d(channels, channels, size, padding=(rows, columns), dilation=dilation, groups=channels)
