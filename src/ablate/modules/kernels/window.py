"""Attention inside windows with a relative position bias, composed of torch's operations: windows, indices, masks."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.precision import widen
from ablate.modules.kernels.traced import divide_up, places, unfold

KEPT_MASKS = 4  # attention masks that a module keeps, each for one map size and device


class WindowAttention(nn.Module):
    """Self-attention inside windows with a relative position bias, (B, windows, N, C); N = window_size^2."""

    relative_position_index: Tensor

    def __init__(self, channels: int, window_size: int, num_heads: int, qkv_bias: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        table = torch.empty((2 * window_size - 1) ** 2, num_heads)
        self.relative_position_bias_table = nn.Parameter(nn.init.trunc_normal_(table, std=0.02))
        self.register_buffer("relative_position_index", self_index(window_size), persistent=False)  # (N, N)
        self.qkv = nn.Linear(channels, 3 * channels, bias=qkv_bias)
        self.proj = nn.Linear(channels, channels)

    def forward(self, x: Tensor, blocked: Tensor | None, penalty: float) -> Tensor:
        """Attend; pairs marked in `blocked` (windows, N, N) get `penalty` on their logit."""
        qkv = rearrange(self.qkv(x), "b w n (three h d) -> three b w h n d", three=3, h=self.num_heads)
        out: Tensor = self.proj(attend(qkv[0], qkv[1], qkv[2], self.bias(), blocked, penalty))
        return out

    def bias(self) -> Tensor:
        """What is added to the logits, (N, N, heads)."""
        return self.relative_position_bias_table[self.relative_position_index]


def self_index(window: int) -> Tensor:
    """Row of the bias table for each query and key of a window, (window^2, window^2)."""
    place = torch.arange(window)
    offset = place[:, None] - place + window - 1  # query minus key on one axis, from 0
    index: Tensor = rearrange(offset * (2 * window - 1), "qy ky -> qy 1 ky 1") + offset[:, None]
    return index.reshape(window**2, window**2)


def overlap_index(window: int, outer: int) -> Tensor:
    """Row of the bias table for each query of a window and key of the larger one, (window^2, outer^2).

    The authors' indices start below 0 and reach their rows by wrapping around; these name the same rows.
    """
    span = window + outer - 1
    offset = torch.arange(outer) - torch.arange(window)[:, None] + window - outer + 1  # key minus query
    index: Tensor = rearrange(offset * span, "qy ky -> qy 1 ky 1") + offset[:, None]
    return index.reshape(window**2, outer**2) % span**2


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, blocked: Tensor | None, penalty: float) -> Tensor:
    """Multi-head attention with position bias and mask; logits and softmax are float32 at least.

    q (B, windows, heads, N, d), k and v (B, windows, heads, M, d), bias (N, M, heads) and blocked
    (windows, N, M) to (B, windows, N, heads * d).
    """
    logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, windows, heads, N, M)
    logits = widen(logits) + bias.permute(2, 0, 1)
    if blocked is not None:  # never blocks a whole row, not even of padding: every pixel sees itself
        logits = logits + torch.where(blocked, penalty, 0.0)[:, None]
    mixed = logits.softmax(-1).to(v.dtype) @ v  # (B, windows, heads, N, d)
    merged: Tensor = rearrange(mixed, "b w h n d -> b w n (h d)")
    return merged


class Masks:
    """A module's masks, each made once for a map size and a device; the last few are kept, in no copy or file."""

    def __init__(self, window: int, margin: int = 0) -> None:
        self.window, self.margin = window, margin
        self.kept: OrderedDict[Any, Tensor] = OrderedDict()

    def __reduce__(self) -> tuple[type[Masks], tuple[int, int]]:
        return Masks, (self.window, self.margin)

    def of(self, size: tuple[int, int], shift: tuple[int, int], like: Tensor) -> Tensor | None:
        """Say which pairs of pixels must not attend, on the device of `like`; None if all may."""
        window, margin = self.window, self.margin
        exact = all(isinstance(n, int) for n in size)  # False inside a traced graph, whose sizes may vary
        if exact and not (any(shift) or margin or size[0] % window or size[1] % window):
            return None
        if not exact or type(like) is not Tensor or torch.compiler.is_compiling():
            return build_mask(size, window, shift, margin, like)
        key = (size, shift, like.device)
        mask = self.kept.pop(key, None)
        if mask is None:
            mask = build_mask(size, window, shift, margin, like)
        self.kept[key] = mask
        while len(self.kept) > KEPT_MASKS:
            self.kept.popitem(last=False)
        return mask


def build_mask(size: tuple[int, int], window: int, shift: tuple[int, int], margin: int, like: Tensor) -> Tensor:
    """(windows, N, M) booleans on the device of `like`: True where query and key have different labels."""
    labels = []
    for n, s in zip(size, shift, strict=True):
        padded = divide_up(n, window) * window
        place = places(padded, like)
        # The two sides of the shift's seam are 0 and 1; padding is 2 or 3.
        labels.append((place >= padded - s).long() + 2 * ((place + s) % padded >= n))
    label = 4 * labels[0][:, None] + labels[1]  # (H', W'); equal for all pixels of the map that may meet
    queries = rearrange(label, "(i h) (j w) -> (i j) (h w) 1", h=window, w=window)
    label = F.pad(label, (margin,) * 4, value=-1)  # beyond the border: like no pixel
    outer = window + 2 * margin
    keys = rearrange(unfold(unfold(label, 0, outer, window), 1, outer, window), "i j h w -> (i j) 1 (h w)")
    blocked: Tensor = queries != keys
    return blocked
