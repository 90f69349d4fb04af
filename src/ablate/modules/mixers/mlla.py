"""MLLA: a block with the shape of Mamba's whose mixer is linear attention with rotary positions.

Paper: D. Han et al., "Demystify Mamba in Vision: A Linear Attention Perspective", NeurIPS 2024, arXiv 2405.16605.
Authors' code: https://github.com/LeapLabTHU/MLLA (MIT), `MLLABlock` in models/mlla.py at commit 66b6d29; the code here
is our own.

Status: output and gradients equal the authors' on square maps. Theirs takes one square size; here the rotation is
computed for the map that comes in.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.precision import no_autocast, widen
from ablate.modules.kernels.traced import places

BASE = 10000.0  # of the wavelengths of the rotation
SMALL = 1e-6  # the authors' guard against zero


class MLLABlock(nn.Module):
    """Gated linear attention and an MLP, each added to its input; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C, a multiple of 4; `num_heads` must divide it.
        num_heads: Attention heads.
        mlp_ratio: Hidden channels of the MLP for each channel.
        qkv_bias: Bias of the projection to queries and keys.

    Raises:
        ValueError: The channels are no multiple of 4 or of `num_heads`, or the MLP has no channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: Annotated[int, ">= 1"] = 4,
        mlp_ratio: Annotated[float, "> 0"] = 4.0,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        if channels < 4 or channels % 4:
            raise ValueError(f"channels must be a multiple of 4, for two numbers on each of two axes; got {channels}")
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"num_heads must divide the channels; got {num_heads} for {channels} channels")
        hidden = int(channels * mlp_ratio)
        if hidden < 1:
            raise ValueError(f"mlp_ratio must give the MLP a channel; got {mlp_ratio} for {channels} channels")
        self.num_heads = num_heads
        self.position1 = _depthwise(channels)
        self.norm1 = nn.LayerNorm(channels)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.proj_gate = nn.Conv2d(channels, channels, 1)
        self.local = _depthwise(channels)
        self.qk = nn.Conv2d(channels, 2 * channels, 1, bias=qkv_bias)
        self.position_v = _depthwise(channels)
        self.proj_out = nn.Conv2d(channels, channels, 1)
        self.position2 = _depthwise(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.mlp = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.GELU(), nn.Conv2d(hidden, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        x = x + self.position1(x)
        y = _normalise(self.norm1, x)
        gate = F.silu(self.proj_gate(y))
        v = F.silu(self.local(self.proj_in(y)))
        y = self._attend(self.qk(v), v).to(v.dtype) + self.position_v(v)
        x = x + self.proj_out(y * gate)
        x = x + self.position2(x)
        out: Tensor = x + self.mlp(_normalise(self.norm2, x))
        return out

    def _attend(self, qk: Tensor, v: Tensor) -> Tensor:
        """Linear attention among all pixels in float32, (B, C, H, W).

        The rotation turns what queries and keys have to say to each other, but not the sum that divides it.
        """
        batch, channels, height, width = v.shape
        heads = batch, self.num_heads, channels // self.num_heads, height * width
        with no_autocast(v):
            q, k = (F.elu(t) + 1 for t in widen(qk).chunk(2, dim=1))
            turned_q, turned_k = (_rotate(t).reshape(heads) for t in (q, k))
            share = heads[3] ** -0.5
            pairs = (widen(v).reshape(heads) * share) @ (turned_k * share).transpose(2, 3)  # (B, heads, d, d)
            mean = k.reshape(heads).mean(-1, keepdim=True)  # (B, heads, d, 1)
            y: Tensor = (pairs @ turned_q) / ((mean * q.reshape(heads)).sum(2, keepdim=True) + SMALL)
        return y.reshape(v.shape)


def _depthwise(channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=1, groups=channels)


def _normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Layer norm over the channels of each pixel of (B, C, H, W)."""
    normal: Tensor = norm(x.permute(0, 2, 3, 1))
    return normal.permute(0, 3, 1, 2)


def _rotate(x: Tensor) -> Tensor:
    """Turn pairs of channels of (B, C, H, W), the first half of them with the row, the other half with the column."""
    batch, channels, height, width = x.shape
    quarter = channels // 4
    speed = BASE ** -(torch.arange(quarter, device=x.device).to(x.dtype) / quarter)[:, None, None]  # (C / 4, 1, 1)
    rows = speed * places(height, x).to(x.dtype)[:, None].expand(height, width)
    columns = speed * places(width, x).to(x.dtype).expand(height, width)
    angles = torch.cat([rows, columns])[:, None]  # (C / 2, 1, H, W)
    pairs = x.reshape(batch, 2 * quarter, 2, height, width)
    first, second = pairs[:, :, :1], pairs[:, :, 1:]
    cosine, sine = angles.cos(), angles.sin()
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=2).reshape(x.shape)
