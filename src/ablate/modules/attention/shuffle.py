"""Shuffle attention (SA-Net): channel and spatial attention on two halves of each group, then a channel shuffle.

Source: Zhang and Yang, "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks", ICASSP 2021,
arXiv:2102.00240; the authors' code is `models/sa_resnet.py` of github.com/wofmanaf/SA-Net, which has no licence file.
This is an independent implementation of the definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn


class ShuffleAttention(nn.Module):
    """Weigh one half of each group's channels by means, the other by positions, for any H, W >= 1.

    Args:
        channels: C, divisible by 2 `groups`.
        groups: Groups of channels; all share the same weights.

    Raises:
        ValueError: 2 `groups` does not divide `channels`.
    """

    def __init__(self, channels: int, *, groups: Annotated[int, ">= 1"] = 8) -> None:
        super().__init__()
        if groups < 1 or channels < 1 or channels % (2 * groups):
            raise ValueError(f"ShuffleAttention: channels must be divisible by 2 groups={2 * groups}; got {channels}")
        half = channels // (2 * groups)
        self.groups = groups
        self.norm = nn.GroupNorm(half, half)
        self.channel_scale = nn.Parameter(torch.zeros(half))
        self.channel_bias = nn.Parameter(torch.ones(half))
        self.spatial_scale = nn.Parameter(torch.zeros(half))
        self.spatial_bias = nn.Parameter(torch.ones(half))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        batch, channels, height, width = x.shape
        grouped = x.reshape(batch * self.groups, channels // self.groups, height, width)
        by_channel, by_place = grouped.chunk(2, dim=1)  # (BG, c, H, W) each

        means = by_channel.mean((2, 3), keepdim=True)
        by_channel = by_channel * _affine(means, self.channel_scale, self.channel_bias).sigmoid()
        norm = self.norm  # nn.GroupNorm's forward refuses a single value in training
        spread = torch.group_norm(by_place, norm.num_groups, norm.weight, norm.bias, norm.eps)
        by_place = by_place * _affine(spread, self.spatial_scale, self.spatial_bias).sigmoid()

        y = torch.cat([by_channel, by_place], dim=1).reshape(batch, 2, channels // 2, height, width)
        return y.transpose(1, 2).reshape(x.shape)  # channel shuffle in two groups

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that are not weight matrices: the scales; biases need no naming."""
        return {"channel_scale", "spatial_scale"}


def _affine(x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    return x * scale[:, None, None] + bias[:, None, None]
