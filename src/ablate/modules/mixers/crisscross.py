"""Criss-cross attention: each pixel attends to its row and its column; twice, and it has seen the whole map.

Paper: Z. Huang et al., "CCNet: Criss-Cross Attention for Semantic Segmentation", ICCV 2019, arXiv 1811.11721.
Authors' code: https://github.com/speedinghzl/CCNet (MIT), `CrissCrossAttention` in cc_attention/functions.py at commit
1fae6c6; the code here is our own.

Status: output and gradients equal the authors'. Nothing differs; applying it more than once is an option here, and a
loop in their network.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from ablate.modules.kernels.precision import no_autocast, widen
from ablate.modules.kernels.traced import places


class CrissCrossAttention(nn.Module):
    """x + gamma times attention to row and column; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C.
        reduction: Queries and keys have C / reduction channels, at least 1.
        recurrence: How often the same attention is applied; with 2 every pixel reaches every other.

    Raises:
        ValueError: An option is below 1.
    """

    def __init__(
        self, channels: int, *, reduction: Annotated[int, ">= 1"] = 8, recurrence: Annotated[int, ">= 1"] = 2
    ) -> None:
        super().__init__()
        if min(reduction, recurrence) < 1:
            raise ValueError(f"reduction and recurrence must be at least 1; got {reduction} and {recurrence}")
        self.recurrence = recurrence
        hidden = max(channels // reduction, 1)
        self.query = nn.Conv2d(channels, hidden, 1)
        self.key = nn.Conv2d(channels, hidden, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def no_weight_decay(self) -> set[str]:
        """The weight of the attention, a scalar that starts at zero."""
        return {"gamma"}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        for _ in range(self.recurrence):
            x = x + self.gamma.to(x.dtype) * self._attend(self.query(x), self.key(x), self.value(x)).to(x.dtype)
        return x

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of each pixel to its column and its row, itself once; in float32 or wider, (B, C, H, W)."""
        height = q.shape[2]
        with no_autocast(q):
            q, k, v = (widen(t).permute(0, 2, 3, 1) for t in (q, k, v))  # (B, H, W, c)
            down = q.transpose(1, 2) @ k.permute(0, 2, 3, 1)  # (B, W, H, H)
            row = places(height, q)
            down = down.masked_fill(row[:, None] == row, float("-inf"))  # its own place is among its row's
            along = q @ k.transpose(2, 3)  # (B, H, W, W)
            shares = torch.cat([down.transpose(1, 2), along], dim=3).softmax(3)  # (B, H, W, H + W)
            down, along = shares[..., :height], shares[..., height:]
            y = (down.transpose(1, 2) @ v.transpose(1, 2)).transpose(1, 2) + along @ v  # (B, H, W, C)
            return y.permute(0, 3, 1, 2)
