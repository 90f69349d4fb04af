"""SHSA: attention with a single head on a part of the channels; the others pass by and are mixed in afterwards.

Paper: S. Yun and Y. Ro, "SHViT: Single-Head Vision Transformer with Memory Efficient Macro Design", CVPR 2024,
arXiv 2401.16456.
Authors' code: https://github.com/ysj9909/SHViT (MIT), `SHSA` in model/shvit.py at commit 6a729cc; the code here is our
own.

Status: output and gradients equal the authors'. Nothing differs.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SingleHeadSelfAttention(nn.Module):
    """Attention among all pixels on a part of the channels; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C.
        ratio: Share of the channels that attention works on (SHViT: 1 / 4.67), rounded.
        key_channels: Channels of queries and keys.
        residual: Whether the input is added, as the authors always do; the last batch norm then starts at zero.

    Raises:
        ValueError: The ratio is not in (0, 1], or `key_channels` is below 1.
    """

    def __init__(
        self,
        channels: int,
        *,
        ratio: Annotated[float, "> 0"] = 0.25,
        key_channels: Annotated[int, ">= 1"] = 16,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio must be over 0 and at most 1; got {ratio}")
        if key_channels < 1:
            raise ValueError(f"key_channels must be at least 1; got {key_channels}")
        part = max(1, round(channels * ratio))
        self.part, self.key_channels, self.residual = part, key_channels, residual
        self.pre_norm = nn.GroupNorm(1, part)
        self.qkv = _convolution(part, 2 * key_channels + part)
        last = nn.BatchNorm2d(channels)
        if residual:
            nn.init.zeros_(last.weight)
        self.proj = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False), last)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        mixed, rest = x[:, : self.part], x[:, self.part :]
        qkv = self.qkv(self.pre_norm(mixed)).flatten(2).transpose(1, 2)[:, None]  # (B, 1, H W, channels)
        q, k, v = torch.split(qkv, [self.key_channels, self.key_channels, self.part], dim=-1)
        y = F.scaled_dot_product_attention(q, k, v).squeeze(1).transpose(1, 2).reshape(mixed.shape)
        out: Tensor = self.proj(torch.cat([y, rest.to(y.dtype)], dim=1))
        return x + out if self.residual else out


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
