"""iRMB: an inverted residual block whose expansion attends within windows.

Paper: J. Zhang et al., "Rethinking Mobile Block for Efficient Attention-based Models" (EMO), ICCV 2023,
arXiv 2301.01146.
Authors' code: https://github.com/zhangzjn/EMO (no licence stated), `iRMB` in model/emo.py, read at commit 27d9b40 for
its definitions; the code here is our own.

Status: output and gradients equal the authors' where the window divides the map. Elsewhere padded pixels take no part
here; theirs are keys without a mask.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.whole_windows import pad_to_multiple

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "gelu": nn.GELU}
EPS = 1e-6  # of the authors' norms


class InvertedResidualMobileBlock(nn.Module):
    """x + projection of (attention + its depthwise convolution); (B, C, H, W) to (B, C, H, W), any H x W.

    A window's pixels lie as far apart as there are windows on an axis: each window is the whole map, thinned out.

    Args:
        channels: C; `head_channels` must divide it.
        expand: Hidden channels for each channel.
        head_channels: Channels of an attention head.
        window_size: Pixels on each side of a window.
        kernel_size: Side of the depthwise convolution; odd.
        attend_first: Whether attention mixes the input, which is then expanded (as in the published EMO networks), or
            the expanded values.
        norm: `batch` or `layer` (over the channels of each pixel) on the input.
        activation: `relu`, `silu` or `gelu` after the expansion.
        qkv_bias: Bias of queries, keys and expansion.

    Raises:
        ValueError: `head_channels` does not divide the channels, the heads do not divide the hidden channels, or an
            option has no such value.
    """

    def __init__(
        self,
        channels: int,
        *,
        expand: Annotated[float, "> 0"] = 1.0,
        head_channels: Annotated[int, ">= 1"] = 16,
        window_size: Annotated[int, ">= 1"] = 7,
        kernel_size: Annotated[int, ">= 1"] = 3,
        attend_first: bool = True,
        norm: Literal["batch", "layer"] = "batch",
        activation: Literal["relu", "silu", "gelu"] = "relu",
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        hidden = int(channels * expand)
        if head_channels < 1 or channels % head_channels:
            raise ValueError(f"head_channels must divide the channels; got {head_channels} for {channels} channels")
        heads = channels // head_channels
        if hidden < 1 or (not attend_first and hidden % heads):
            raise ValueError(f"{heads} heads cannot share {hidden} hidden channels, {expand} times {channels}")
        if window_size < 1:
            raise ValueError(f"window_size must be at least 1; got {window_size}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd; got {kernel_size}")
        if norm not in ("batch", "layer"):
            raise ValueError(f"norm must be one of batch, layer; got {norm!r}")
        if activation not in ACTIVATIONS:
            raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}; got {activation!r}")
        self.heads, self.head_channels = heads, head_channels
        self.window_size, self.attend_first = window_size, attend_first
        self.norm = nn.BatchNorm2d(channels, eps=EPS) if norm == "batch" else nn.LayerNorm(channels, eps=EPS)
        self.qk = nn.Conv2d(channels, 2 * channels, 1, bias=qkv_bias)
        self.v = nn.Conv2d(channels, hidden, 1, bias=qkv_bias)
        self.activation = ACTIVATIONS[activation]()
        self.local = nn.Sequential(
            nn.Conv2d(hidden, hidden, kernel_size, padding=kernel_size // 2, groups=hidden, bias=False),
            nn.BatchNorm2d(hidden, eps=EPS),
            nn.SiLU(),
        )
        self.proj = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        y = self._normalise(x)
        qk = self.qk(y)
        if self.attend_first:
            y = self.activation(self.v(self._attend(qk, y)))
        else:
            y = self._attend(qk, self.activation(self.v(y)))
        y = y + self.local(y)
        out: Tensor = x + self.proj(y)
        return out

    def _normalise(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, nn.LayerNorm):
            x = x.permute(0, 2, 3, 1)
        normal: Tensor = self.norm(x)
        return normal.permute(0, 3, 1, 2) if isinstance(self.norm, nn.LayerNorm) else normal

    def _attend(self, qk: Tensor, v: Tensor) -> Tensor:
        """Attention within windows, (B, V, H, W) as the values `v`."""
        size, (height, width) = self.window_size, v.shape[2:]
        qk, inside = pad_to_multiple(qk, size)
        v, _ = pad_to_multiple(v.to(qk.dtype), size)
        rows, columns = v.shape[2] // size, v.shape[3] // size
        part = "b ({}m d) (h i) (w j) -> {}(b i j) m (h w) d"
        q, k = rearrange(qk, part.format("two ", "two "), two=2, m=self.heads, i=rows, j=columns)
        v = rearrange(v, part.format("", ""), m=self.heads, i=rows, j=columns)  # (B windows, heads, T, d)
        mask = None
        if inside is not None:
            mask = rearrange(inside, "b c (h i) (w j) -> b (i j) c (h w)", i=rows, j=columns)
            mask = mask.expand(qk.shape[0], -1, -1, -1).flatten(0, 1)[:, None]  # (B windows, 1, 1, T)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.head_channels**-0.5)
        y = rearrange(y, "(b i j) m (h w) d -> b (m d) (h i) (w j)", i=rows, j=columns, h=size)
        whole: Tensor = y[:, :, :height, :width]
        return whole
