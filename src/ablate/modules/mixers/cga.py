"""CGA: heads of attention that work on their own channels one after another, each with the result of the one before.

Paper: X. Liu et al., "EfficientViT: Memory Efficient Vision Transformer with Cascaded Group Attention", CVPR 2023,
arXiv 2305.07027.
Authors' code: https://github.com/microsoft/Cream (MIT), `CascadedGroupAttention` and `LocalWindowAttention` in
EfficientViT/classification/model/efficientvit.py at commit 4a13c40; the code here is our own.

Status: output and gradients equal the authors' where the window divides the map. Elsewhere padded pixels take no part
here, neither as keys nor in the statistics of a batch norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.whole_windows import pad_to_multiple


class CascadedGroupAttention(nn.Module):
    """Cascaded window attention; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C; `num_heads` must divide it.
        num_heads: Attention heads, one after another.
        key_channels: Channels of a head's queries and keys.
        window_size: Pixels on each side of a window.
        kernel_sizes: Side of each head's depthwise convolution of its queries; one number for all heads, or one each.
        residual: Whether the input is added, as the authors always do; the last batch norm then starts at zero.

    Raises:
        ValueError: `num_heads` does not divide the channels, or an option has no such value.
    """

    pairs: Tensor

    def __init__(
        self,
        channels: int,
        *,
        num_heads: Annotated[int, ">= 1"] = 4,
        key_channels: Annotated[int, ">= 1"] = 16,
        window_size: Annotated[int, ">= 1"] = 7,
        kernel_sizes: int | Sequence[int] = 5,
        residual: bool = True,
    ) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"num_heads must divide the channels; got {num_heads} for {channels} channels")
        if min(key_channels, window_size) < 1:
            raise ValueError(f"key_channels and window_size must be at least 1; got {key_channels} and {window_size}")
        sizes = [kernel_sizes] * num_heads if isinstance(kernel_sizes, int) else list(kernel_sizes)
        if len(sizes) != num_heads or any(size < 1 or size % 2 == 0 for size in sizes):
            raise ValueError(f"kernel_sizes must be odd, one for each of {num_heads} heads; got {kernel_sizes}")
        part = channels // num_heads
        self.window_size, self.residual = window_size, residual
        self.split = [key_channels, key_channels, part]
        self.qkvs = nn.ModuleList(_convolution(part, sum(self.split)) for _ in sizes)
        self.query_convs = nn.ModuleList(
            nn.Conv2d(key_channels, key_channels, size, padding=size // 2, groups=key_channels, bias=False)
            for size in sizes
        )
        self.query_norms = nn.ModuleList(nn.BatchNorm2d(key_channels) for _ in sizes)
        last = nn.BatchNorm2d(channels)
        if residual:
            nn.init.zeros_(last.weight)
        self.proj = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, channels, 1, bias=False), last)
        self.position_bias_table = nn.Parameter(torch.zeros(num_heads, window_size**2))
        self.register_buffer("pairs", _distances(window_size), persistent=False)  # (T, T), columns of the table

    def no_weight_decay(self) -> set[str]:
        """The table of relative positions."""
        return {"position_bias_table"}

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        outputs: list[Tensor] = []
        for head, part in enumerate(x.chunk(len(self.qkvs), dim=1)):
            y = part + outputs[-1] if outputs else part
            q, k, v = self.qkvs[head](y).split(self.split, dim=1)
            outputs.append(self._attend(head, q, k, v))
        out: Tensor = self.proj(torch.cat(outputs, dim=1))
        return x + out if self.residual else out

    def _attend(self, head: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one head within windows, (B, C / heads, H, W)."""
        size, batch, (height, width) = self.window_size, q.shape[0], q.shape[2:]
        padded, _ = pad_to_multiple(q, size)
        rows, columns = padded.shape[2] // size, padded.shape[3] // size
        windows = rearrange(padded, "b c (i h) (j w) -> (b i j) c h w", h=size, w=size)
        q = rearrange(self.query_convs[head](windows), "(b i j) c h w -> b c (i h) (j w)", i=rows, j=columns)
        q = self.query_norms[head](q[:, :, :height, :width])  # without what was padded: it is no statistic of the map
        tokens, inside = pad_to_multiple(torch.cat([q, k.to(q.dtype), v.to(q.dtype)], dim=1), size)
        tokens = rearrange(tokens, "b c (i h) (j w) -> (b i j) (h w) c", h=size, w=size)
        q, k, v = tokens[:, None].split(self.split, dim=-1)  # (B windows, 1, T, d)
        bias = self.position_bias_table[head].to(q.dtype)[self.pairs]  # (T, T)
        if inside is not None:
            mask = rearrange(inside, "b c (i h) (j w) -> b (i j) c (h w)", h=size, w=size)  # (1, windows, 1, T)
            bias = bias.expand(mask.shape[1], -1, -1).masked_fill(~mask[0], float("-inf"))  # (windows, T, T)
            bias = bias.repeat(batch, 1, 1)[:, None]  # (B windows, 1, T, T)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
        y = rearrange(y, "(b i j) one (h w) d -> b (one d) (i h) (j w)", i=rows, j=columns, h=size)
        whole: Tensor = y[:, :, :height, :width]
        return whole


def _convolution(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))


def _distances(size: int) -> Tensor:
    """For each two pixels of a window the number of their distance: (T, T), rows apart times `size` + columns apart."""
    place = torch.arange(size)
    apart = (place[:, None] - place).abs()
    pairs = apart[:, None, :, None] * size + apart[None, :, None, :]  # (row, column, row, column)
    return pairs.reshape(size**2, size**2)
