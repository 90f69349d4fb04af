"""Coordinate attention: weights for rows and columns of each channel.

Source: Hou et al., "Coordinate Attention for Efficient Mobile Network Design", CVPR 2021, arXiv:2103.02907; the
authors' code is `coordatt.py` of github.com/houqb/CoordAttention (MIT licence). This is an independent implementation
of the definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 (golden values).
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEWEST = 8  # hidden channels, as in the authors' code


class CoordAtt(nn.Module):
    """Weigh rows and columns, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        reduction: C / `reduction` hidden channels, but at least 8.

    Raises:
        ValueError: `channels` or `reduction` is below 1.
    """

    def __init__(self, channels: int, *, reduction: Annotated[int, ">= 1"] = 32) -> None:
        super().__init__()
        if min(channels, reduction) < 1:
            raise ValueError(
                f"CoordAtt needs at least 1 channel and a reduction of at least 1; got {channels}, {reduction}"
            )
        hidden = max(channels // reduction, FEWEST)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.norm = nn.BatchNorm2d(hidden)
        self.rows = nn.Conv2d(hidden, channels, 1)
        self.columns = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        height, width = x.shape[-2:]
        lines = torch.cat([x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)], dim=2)  # (B, C, H + W, 1)
        hidden: Tensor = F.hardswish(self.norm(self.reduce(lines)))  # (B, hidden, H + W, 1)
        rows, columns = torch.split(hidden, [height, width], dim=2)
        by_row: Tensor = self.rows(rows).sigmoid()  # (B, C, H, 1)
        by_column: Tensor = self.columns(columns.transpose(2, 3)).sigmoid()  # (B, C, 1, W)
        return x * by_column * by_row
