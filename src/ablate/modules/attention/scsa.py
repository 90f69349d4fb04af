"""SCSA: shared multi-semantic spatial attention, and self-attention among channels after it.

Source: Si et al., "SCSA: Exploring the Synergistic Effects Between Spatial and Channel Attention", Neurocomputing 2025,
arXiv:2407.05128; the authors' code is `mmpretrain/models/attentions/SCSA.py` of github.com/HZAI-ZJNU/SCSA (Apache 2.0).
This is an independent implementation of the definitions.

Status: output and gradients equal the authors' code to 1e-5 in float32 where the window divides the map, and for every
map of at least one window with `fidelity="authors"` (golden values). The default differs at the border; see
`docs/modules/scsa.md`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.precision import widen
from ablate.modules.kernels.strips import odd_sizes
from ablate.modules.kernels.traced import divide_up, exporting

PARTS = 4  # of the channels, each with its own kernel size


class SCSA(nn.Module):
    """Weigh rows and columns, then channels, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C, divisible by 4 and by `heads`.
        heads: Heads of the attention among channels.
        window_size: Side in pixels of the windows whose means the channel attention sees; 0: one mean of the map.
        kernel_sizes: Of the four convolutions along rows and columns, odd.
        qkv_bias: Whether queries, keys and values have a bias.
        fidelity: "corrected" takes windows cut by the border too. "authors" leaves out the rows and columns beyond the
            last whole window, and needs maps of at least one window.

    Raises:
        ValueError: `channels` cannot be divided, or a size is not as said.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: Annotated[int, ">= 1"] = 8,
        window_size: Annotated[int, ">= 0"] = 7,
        kernel_sizes: Sequence[int] = (3, 5, 7, 9),
        qkv_bias: bool = False,
        fidelity: Literal["corrected", "authors"] = "corrected",
    ) -> None:
        super().__init__()
        if channels < 1 or channels % PARTS or heads < 1 or channels % heads:
            raise ValueError(f"SCSA: channels must be divisible by {PARTS} and by heads={heads}; got {channels}")
        sizes = odd_sizes("SCSA: kernel_sizes", kernel_sizes)
        if len(sizes) != PARTS:
            raise ValueError(f"SCSA: kernel_sizes must be {PARTS} odd numbers; got {kernel_sizes}")
        if window_size < 0:
            raise ValueError(f"SCSA: window_size must be at least 0; got {window_size}")
        if fidelity not in ("corrected", "authors"):
            raise ValueError(f"SCSA: fidelity must be 'corrected' or 'authors'; got {fidelity!r}")
        self.heads = heads
        self.window_size = window_size
        self.fidelity = fidelity
        part = channels // PARTS
        self.convs = nn.ModuleList(nn.Conv1d(part, part, size, padding=size // 2, groups=part) for size in sizes)
        self.norm_rows = nn.GroupNorm(PARTS, channels)
        self.norm_columns = nn.GroupNorm(PARTS, channels)
        self.norm = nn.GroupNorm(1, channels)
        self.q = nn.Conv2d(channels, channels, 1, bias=qkv_bias, groups=channels)
        self.k = nn.Conv2d(channels, channels, 1, bias=qkv_bias, groups=channels)
        self.v = nn.Conv2d(channels, channels, 1, bias=qkv_bias, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        rows = self.norm_rows(self._along(x.mean(3))).sigmoid()  # (B, C, H)
        columns = self.norm_columns(self._along(x.mean(2))).sigmoid()  # (B, C, W)
        x = x * rows[..., None] * columns[:, :, None]
        return x * self._channel_weights(x)

    def _along(self, lines: Tensor) -> Tensor:
        """Convolve each quarter of the channels of (B, C, N) along N with a kernel size of its own."""
        parts = lines.chunk(PARTS, dim=1)
        return torch.cat([conv(part) for conv, part in zip(self.convs, parts, strict=True)], dim=1)

    def _channel_weights(self, x: Tensor) -> Tensor:
        """Weights (B, C, 1, 1) by attention among the channels of each head, over the means of windows."""
        means = self.norm(self._window_means(x))
        layers = (self.q, self.k, self.v)
        shape = (means.shape[0], self.heads, means.shape[1] // self.heads, -1)
        queries, keys, values = (_scale(layer, means).reshape(shape) for layer in layers)  # (B, heads, c, N) each
        logits = queries @ keys.transpose(-2, -1) * shape[2] ** -0.5  # (B, heads, c, c)
        shares = widen(logits).softmax(-1).to(values.dtype)
        mixed = (shares @ values).mean(-1)  # (B, heads, c)
        weights: Tensor = mixed.flatten(1).sigmoid()
        return weights[..., None, None]

    def _window_means(self, x: Tensor) -> Tensor:
        """Means of windows (B, C, rows, columns); of a window that the border cuts, of the pixels inside."""
        size = self.window_size
        if not size:
            return x.mean((2, 3), keepdim=True)
        if self.fidelity == "authors":
            return F.avg_pool2d(x, size)
        if not exporting():
            return F.avg_pool2d(x, size, ceil_mode=True)
        height, width = x.shape[-2:]  # the same without ceil_mode, for which ONNX divides by the whole window
        pad = (0, divide_up(width, size) * size - width, 0, divide_up(height, size) * size - height)
        inside = F.avg_pool2d(F.pad(torch.ones_like(x[:1, :1]), pad), size)  # (1, 1, rows, columns), shares
        return F.avg_pool2d(F.pad(x, pad), size) / inside


def _scale(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Apply a 1x1 convolution of single channels, as the product that it is: faster on few pixels."""
    scaled: Tensor = x * layer.weight[:, 0]
    return scaled if layer.bias is None else scaled + layer.bias[:, None, None]
