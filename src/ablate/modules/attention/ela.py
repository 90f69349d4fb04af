"""ELA: efficient local attention, weights for rows and columns of each channel without a reduction.

Source: Xu and Wan, "ELA: Efficient Local Attention for Deep Convolutional Neural Networks", 2024, arXiv:2403.01123. The
paper names no repository. This is an independent implementation of section 3.3.

Status: output and gradients equal the form in github.com/HZAI-ZJNU/SCSA (`mmpretrain/models/attentions/ELA.py`, Apache
2.0) to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn


class ELA(nn.Module):
    """Weigh rows and columns, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Rows and columns share one convolution and one norm.

    Args:
        channels: C, divisible by `conv_groups` and `norm_groups`.
        kernel_size: Of the convolution along rows and columns, odd.
        conv_groups: Groups of the convolution; 0: as many as channels.
        norm_groups: Groups of the group norm.

    Raises:
        ValueError: `channels` cannot be divided, or `kernel_size` is even.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: Annotated[int, ">= 1"] = 7,
        conv_groups: Annotated[int, ">= 0"] = 0,
        norm_groups: Annotated[int, ">= 1"] = 16,
    ) -> None:
        super().__init__()
        if kernel_size < 1 or not kernel_size % 2:
            raise ValueError(f"ELA: kernel_size must be odd; got {kernel_size}")
        groups = conv_groups or channels
        if min(channels, groups, norm_groups) < 1 or channels % groups or channels % norm_groups:
            raise ValueError(
                f"ELA: channels must be divisible by conv_groups={conv_groups} (0: any) and norm_groups={norm_groups}; "
                f"got {channels}"
            )
        self.conv = nn.Conv1d(channels, channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
        self.norm = nn.GroupNorm(norm_groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        rows, columns = self._weigh(x.mean(3)), self._weigh(x.mean(2))  # (B, C, H), (B, C, W)
        return x * rows[..., None] * columns[:, :, None]

    def _weigh(self, lines: Tensor) -> Tensor:
        norm = self.norm
        lines = self.conv(lines)
        # nn.GroupNorm's forward refuses a single value for each group in training.
        return torch.group_norm(lines, norm.num_groups, norm.weight, norm.bias, norm.eps).sigmoid()
