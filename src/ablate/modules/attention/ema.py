"""EMA: efficient multi-scale attention with cross-spatial learning.

Source: Ouyang et al., "Efficient Multi-Scale Attention Module with Cross-Spatial Learning", ICASSP 2023,
arXiv:2305.13563; the authors' code is github.com/YOLOonMe/EMA-attention-module, which has no licence file. This is an
independent implementation of the definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn


class EMA(nn.Module):
    """Weigh the positions of each group of channels, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    A group is weighed by two branches: pooled rows and columns through a shared 1x1 convolution, and a 3x3 convolution.
    Each branch's mean channels, as a softmax, mix the other branch's channels to one map of weights.

    Args:
        channels: C; `groups` must divide it.
        groups: Groups of channels, G; all share the same weights of C/G channels. The authors' default is 32.

    Raises:
        ValueError: `groups` does not divide `channels`.
    """

    def __init__(self, channels: int, *, groups: Annotated[int, ">= 1"] = 8) -> None:
        super().__init__()
        if groups < 1 or channels < groups or channels % groups:
            raise ValueError(f"EMA: {channels} channels cannot be divided into groups={groups} groups")
        width = channels // groups
        self.groups = groups
        self.conv1x1 = nn.Conv2d(width, width, 1)
        self.conv3x3 = nn.Conv2d(width, width, 3, padding=1)
        self.norm = nn.GroupNorm(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        batch, channels, height, width = x.shape
        grouped = x.reshape(batch * self.groups, channels // self.groups, height, width)  # (BG, c, H, W)

        rows, columns = grouped.mean(3, keepdim=True), grouped.mean(2, keepdim=True)  # (BG, c, H, 1), (BG, c, 1, W)
        pooled = self.conv1x1(torch.cat([rows, columns.transpose(2, 3)], dim=2))  # (BG, c, H + W, 1)
        rows, columns = pooled.split([height, width], dim=2)
        gated = grouped * rows.sigmoid() * columns.transpose(2, 3).sigmoid()
        # torch.group_norm, for nn.GroupNorm's forward refuses a single value in training.
        gated = torch.group_norm(gated, self.norm.num_groups, self.norm.weight, self.norm.bias, self.norm.eps)
        local = self.conv3x3(grouped)  # (BG, c, H, W)

        logits = _mix(gated, local) + _mix(local, gated)  # (BG, 1, H, W)
        return (grouped * logits.sigmoid()).reshape(x.shape)

    def no_weight_decay(self) -> set[str]:
        """Name the parameters that are not weight matrices: the 1x1 convolution of a single channel is a scale."""
        return {"conv1x1.weight"} if self.conv1x1.weight.numel() == 1 else set()


def _mix(weighing: Tensor, weighed: Tensor) -> Tensor:
    """Sum the channels of (N, c, H, W), weighed by the softmax of the other's mean channels: (N, 1, H, W)."""
    shares = weighing.mean((2, 3)).softmax(1)[:, None]  # (N, 1, c)
    mixed = shares.to(weighed.dtype) @ weighed.flatten(2)  # (N, 1, H W)
    return mixed.reshape(-1, 1, *weighed.shape[2:])
