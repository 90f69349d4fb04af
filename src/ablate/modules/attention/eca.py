"""ECA: efficient channel attention, a convolution along the channels of a map's means.

Source: Wang et al., "ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks", CVPR 2020,
arXiv:1910.03151; the authors' code is `models/eca_module.py` of github.com/BangguWu/ECANet (MIT licence). This is an
independent implementation of the definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values). The kernel size follows the
paper's equation 12 by default; the authors' class has a fixed default of 3.
"""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor, nn


class ECA(nn.Module):
    """Weigh the channels, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        kernel_size: Channels that decide about one weight, odd; 0: by the number of channels (`adaptive_kernel`).

    Raises:
        ValueError: `kernel_size` is even or negative.
    """

    def __init__(self, channels: int, *, kernel_size: Annotated[int, ">= 0"] = 0) -> None:
        super().__init__()
        if kernel_size < 0 or (kernel_size and not kernel_size % 2):
            raise ValueError(f"ECA: kernel_size must be odd, or 0 for one by the number of channels; got {kernel_size}")
        size = kernel_size or adaptive_kernel(channels)
        self.conv = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        means = x.mean((2, 3))[:, None]  # (B, 1, C)
        weights: Tensor = self.conv(means).sigmoid().transpose(1, 2)  # (B, C, 1)
        return x * weights[..., None]


def adaptive_kernel(channels: int, gamma: float = 2.0, offset: float = 1.0) -> int:
    """Return the kernel size of equation 12: |(log2 C + b) / gamma|, cut to an integer and then to the next odd one."""
    size = int(abs((math.log2(channels) + offset) / gamma))
    return size if size % 2 else size + 1
