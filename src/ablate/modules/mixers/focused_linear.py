"""Focused linear attention: attention in linear time whose kernel function sharpens the direction of its features.

Paper: D. Han et al., "FLatten Transformer: Vision Transformer using Focused Linear Attention", ICCV 2023,
arXiv 2308.00442.
Authors' code: https://github.com/LeapLabTHU/FLatten-Transformer (no licence stated), `FocusedLinearAttention` in
models/flatten_pvt.py and flatten_swin.py, read at commit abdb115 for its definitions; the code here is our own.

Status: output and gradients equal the authors' at the size of the position table. At other sizes the table is
interpolated, where theirs raises.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.precision import no_autocast, widen
from ablate.modules.kernels.traced import places

SMALL = 1e-6  # the authors' guard against zero


class FocusedLinearAttention(nn.Module):
    """Linear attention plus a depthwise convolution of the values; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C; `num_heads` must divide it.
        num_heads: Attention heads.
        focusing_factor: Power of the features before they get their length back.
        kernel_size: Side of the depthwise convolution, which all heads share; odd.
        position_size: Side of the learnt table that is added to the keys, interpolated to the map; 0 for none.
        qkv_bias: Bias of the projection to queries, keys and values.

    Raises:
        ValueError: `num_heads` does not divide the channels, or an option has no such value.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: Annotated[int, ">= 1"] = 8,
        focusing_factor: Annotated[float, "> 0"] = 3.0,
        kernel_size: Annotated[int, ">= 1"] = 5,
        position_size: Annotated[int, ">= 0"] = 7,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"num_heads must divide the channels; got {num_heads} for {channels} channels")
        if focusing_factor <= 0:
            raise ValueError(f"focusing_factor must be over 0; got {focusing_factor}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd; got {kernel_size}")
        if position_size < 0:
            raise ValueError(f"position_size must be at least 0; got {position_size}")
        self.num_heads, self.focusing_factor = num_heads, focusing_factor
        part = channels // num_heads
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=qkv_bias)
        self.scale = nn.Parameter(torch.zeros(channels))
        self.position = nn.Parameter(torch.zeros(1, channels, position_size, position_size)) if position_size else None
        self.local = nn.Conv2d(part, part, kernel_size, padding=kernel_size // 2, groups=part)
        self.proj = nn.Conv2d(channels, channels, 1)

    def no_weight_decay(self) -> set[str]:
        """The scale of each channel and the table of positions."""
        return {"scale"} if self.position is None else {"scale", "position"}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        q, k, v = self.qkv(x).chunk(3, dim=1)
        y = self._attend(q, k, v).to(v.dtype).reshape(v.shape)
        local = self.local(v.reshape(-1, v.shape[1] // self.num_heads, *v.shape[2:]))  # heads as images
        projected: Tensor = self.proj(y + local.reshape(v.shape))
        return projected

    def _attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Linear attention among all pixels in float32, (B, heads, d, H W)."""
        with no_autocast(q):
            q, k, v = widen(q), widen(k), widen(v)
            heads = q.shape[0], self.num_heads, q.shape[1] // self.num_heads
            if self.position is not None:
                rows, columns = (_interpolation(size, widen(self.position)) for size in k.shape[2:])
                k = k + rows @ widen(self.position) @ columns.T
            length = F.softplus(widen(self.scale))[:, None]
            q, k = self._focus(q.flatten(2), length), self._focus(k.flatten(2), length)
            q, k, v = (t.reshape(*heads, -1) for t in (q, k, v))  # (B, heads, d, N)
            mean = k.mean(-1, keepdim=True)  # (B, heads, d, 1)
            pairs = (v * k.shape[-1] ** -0.5) @ (k * k.shape[-1] ** -0.5).transpose(2, 3)  # (B, heads, d, d)
            mixed: Tensor = (pairs @ q) / ((mean * q).sum(2, keepdim=True) + SMALL)
            return mixed

    def _focus(self, features: Tensor, length: Tensor) -> Tensor:
        """Raise positive features (B, C, N) to a power, and give each pixel's the length that it had."""
        features = (features.relu() + SMALL) / length
        norm = features.norm(dim=1, keepdim=True)
        sharp = (features / norm) ** self.focusing_factor  # of unit length first: no power over- or underflows
        focused: Tensor = sharp / sharp.norm(dim=1, keepdim=True) * norm
        return focused


def _interpolation(size: int, table: Tensor) -> Tensor:
    """Weights by which an axis of `size` places reads the last axis of the table linearly: (size, table's size).

    As `F.interpolate` with `align_corners=False`, which exports with the size of the example, and whose gradient on a
    GPU is not the same each time.
    """
    entries = table.shape[-1]
    centres = (places(size, table).to(table.dtype) + 0.5) * entries / size - 0.5
    return (1 - (centres.clamp(0, entries - 1)[:, None] - places(entries, table)).abs()).clamp(min=0)
