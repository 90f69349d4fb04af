"""HAB, OCAB and RHAG as the paper has them: windows cut out, logits and masks of all of them made, nothing clever."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.hat import HAB, OCAB, RHAG


class PlainHAB(HAB):
    """The same parameters and options; (B, C, H, W) to (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Attention in windows beside channel attention, then an MLP."""
        normed = norm(x, self.norm1)
        first, _, second, gate = self.conv_block.get_submodule("cab").children()
        local = convolve(F.gelu(convolve(normed, first, 1)), second, 1)
        _, squeeze, _, excite, _ = gate.get_submodule("attention").children()
        means = local.mean((2, 3), keepdim=True)
        local = local * convolve(convolve(means, squeeze, 0).relu(), excite, 0).sigmoid()
        x = x + self.attended(normed) + self.conv_scale * local
        return x + mlp(norm(x, self.norm2), self.mlp)

    def attended(self, x: Tensor) -> Tensor:
        """Attention of (B, C, H, W) in (shifted) windows, through the output projection."""
        (height, width), window, authors = x.shape[2:], self.window_size, self.fidelity == "authors"
        if authors and (height % window or width % window):
            raise ValueError("the windows do not divide the map")
        shifts = [self.shift_size if authors or n > window else 0 for n in (height, width)]
        x = F.pad(x, (0, -width % window, 0, -height % window))
        padded = x.shape[2:]
        region = torch.zeros(padded)  # a number for each part of the rolled map, 1 for what has come round, ...
        for n, real, s, axis in zip(padded, (height, width), shifts, (0, 1), strict=True):
            place = torch.arange(n)
            number = (place >= n - s) + 2.0 * ((place + s) % n >= real)  # ... 2 for padding
            region = 4 * region + (number[:, None] if axis == 0 else number)
        labels = cut(region[None, None].to(x), window, window, 0)[0, :, :, 0]  # (windows, N)
        penalty = (labels[:, :, None] != labels[:, None, :]).to(x) * (-100 if authors else -1e30)

        x = torch.roll(x, (-shifts[0], -shifts[1]), (2, 3))
        tokens = cut(x, window, window, 0)  # (B, windows, N, C)
        q, k, v = project(tokens, self.attn.qkv).chunk(3, -1)
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        down, right = (place[:, None] - place).unbind(-1)  # query minus key
        row = (down + window - 1) * (2 * window - 1) + right + window - 1
        bias = self.attn.relative_position_bias_table[row]
        out = attention(q, k, v, bias, penalty[:, None], self.attn.num_heads)
        x = lay(project(out, self.attn.proj), window, padded)
        return torch.roll(x, (shifts[0], shifts[1]), (2, 3))[:, :, :height, :width]


class PlainOCAB(OCAB):
    """The same parameters and options; (B, C, H, W) to (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """Attention of windows to the larger windows around them, then an MLP."""
        x = x + self.attended(norm(x, self.norm1))
        return x + mlp(norm(x, self.norm2), self.mlp)

    def attended(self, x: Tensor) -> Tensor:
        """Attention of windows of (B, C, H, W) to larger ones, through the output projection."""
        (height, width), window, authors = x.shape[2:], self.window_size, self.fidelity == "authors"
        if authors and (height % window or width % window):
            raise ValueError("the windows do not divide the map")
        outer = window + 2 * self.margin
        q, k, v = project(x.permute(0, 2, 3, 1), self.qkv).permute(0, 3, 1, 2).chunk(3, 1)
        inside = torch.ones_like(x[:1, :1])
        padding = (0, -width % window, 0, -height % window)
        q, k, v, inside = (F.pad(t, padding) for t in (q, k, v, inside))
        queries = cut(q, window, window, 0)
        keys, values, seen = (cut(t, outer, window, self.margin) for t in (k, v, inside))
        penalty = (1 - seen[0, :, :, 0]) * (0 if authors else -1e30)  # (windows, M)
        small = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        large = torch.cartesian_prod(torch.arange(outer), torch.arange(outer))
        down, right = (large - small[:, None] + window - outer + 1).unbind(-1)  # key minus query
        row = down * (window + outer - 1) + right  # below zero in part: those rows are counted from the end
        out = attention(
            queries, keys, values, self.relative_position_bias_table[row], penalty[:, None, None], self.num_heads
        )
        merged = lay(out, window, q.shape[2:])[:, :, :height, :width]
        return project(merged.permute(0, 2, 3, 1), self.proj).permute(0, 3, 1, 2)


class PlainRHAG(RHAG):
    """The same parameters and options, with plain blocks; (B, C, H, W) to (B, C, H, W)."""

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        for block in self.residual_group.blocks:
            block.__class__ = PlainHAB
        self.residual_group.overlap_attn.__class__ = PlainOCAB

    def forward(self, x: Tensor) -> Tensor:
        """Block after block, a convolution, and the input added."""
        y = x
        for block in self.residual_group.blocks:
            y = block(y)
        return x + convolve(self.residual_group.overlap_attn(y), self.conv, 1)


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor, penalty: Tensor, heads: int) -> Tensor:
    """(B, windows, N, C), (B, windows, M, C) twice and a bias of (N, M, heads) to (B, windows, N, C)."""
    q, k, v = (torch.unflatten(t, -1, (heads, -1)).transpose(2, 3) for t in (q, k, v))
    logits = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias.permute(2, 0, 1) + penalty
    attended: Tensor = logits.softmax(-1) @ v
    return attended.transpose(2, 3).flatten(3)


def cut(x: Tensor, size: int, step: int, margin: int) -> Tensor:
    """(B, C, H, W) to windows of size * size pixels (B, windows, size * size, C), zeros beyond the border."""
    patches = F.unfold(x, size, padding=margin, stride=step)
    return torch.unflatten(patches, 1, (x.shape[1], size * size)).permute(0, 3, 2, 1)


def lay(windows: Tensor, size: int, shape: Any) -> Tensor:
    """Windows side by side, (B, windows, size * size, C), to (B, C, H, W)."""
    return F.fold(windows.permute(0, 3, 2, 1).flatten(1, 2), tuple(shape), size, stride=size)


def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
    """Layer norm over the channels of (B, C, H, W)."""
    centred = x - x.mean(1, keepdim=True)
    scaled = centred / (centred.square().mean(1, keepdim=True) + layer.eps).sqrt()
    return scaled * layer.weight[:, None, None] + layer.bias[:, None, None]


def mlp(x: Tensor, layers: Any) -> Tensor:
    """Two linear layers with GELU between, at each pixel of (B, C, H, W)."""
    return project(F.gelu(project(x.permute(0, 2, 3, 1), layers.fc1)), layers.fc2).permute(0, 3, 1, 2)


def project(x: Tensor, layer: Any) -> Tensor:
    """A linear layer on the last axis."""
    return F.linear(x, layer.weight, layer.bias)


def convolve(x: Tensor, layer: Any, padding: int) -> Tensor:
    """A convolution, of (B, C, H, W)."""
    return F.conv2d(x, layer.weight, layer.bias, padding=padding)
