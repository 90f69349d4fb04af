"""BiFormer's bi-level routing attention: regions choose regions, then pixels attend to the pixels of those chosen.

Paper: L. Zhu et al., "BiFormer: Vision Transformer with Bi-Level Routing Attention", CVPR 2023, arXiv 2303.08810.
Authors' code: https://github.com/rayleizhu/BiFormer (MIT), `nchwBRA` in ops/bra_nchw.py at commit 1697bbb; the code
here is our own.

Status: output and gradients equal the authors' where the regions divide the map. Elsewhere padding takes no part here,
neither as a key nor as a region; theirs attends to it ("TODO: mask padding region").
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.precision import no_autocast, widen
from ablate.modules.kernels.traced import places
from ablate.modules.kernels.whole_windows import pad_to_multiple


class BiLevelRoutingAttention(nn.Module):
    """Attention of each region's pixels to the pixels of the regions most like it; (B, C, H, W) to (B, C, H, W).

    Args:
        channels: C; `num_heads` must divide it.
        num_heads: Attention heads.
        regions: Regions on each side of the map, whatever its size.
        topk: Regions that a region attends to; all of them where there are fewer.
        kernel_size: Side of the depthwise convolution of the values, which is added; odd, 0 for none.

    Raises:
        ValueError: `num_heads` does not divide the channels, or a number is not possible.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: Annotated[int, ">= 1"] = 8,
        regions: Annotated[int, ">= 1"] = 7,
        topk: Annotated[int, ">= 1"] = 4,
        kernel_size: Annotated[int, ">= 0"] = 3,
    ) -> None:
        super().__init__()
        if num_heads < 1 or channels % num_heads:
            raise ValueError(f"num_heads must divide the channels; got {num_heads} for {channels} channels")
        if regions < 1 or topk < 1:
            raise ValueError(f"regions and topk must be at least 1; got {regions} and {topk}")
        if kernel_size and kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, or 0 for no convolution; got {kernel_size}")
        self.channels = channels
        self.num_heads, self.regions, self.topk = num_heads, regions, min(topk, regions**2)
        self.scale = channels**-0.5  # of all channels, not of a head's: as the authors
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.local = (
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=channels)
            if kernel_size
            else None
        )
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        height, width = x.shape[2:]
        qkv = self.qkv(x)  # (B, 3 C, H, W)
        padded, inside = pad_to_multiple(qkv, self.regions)
        tokens = self._regions(padded)  # (B, R, T, 3 C): T pixels in each of R regions
        mask = None if inside is None else self._regions(inside)[0, :, :, 0]  # (R, T)
        chosen = self._route(tokens, mask)  # (B, R, k)
        y = self._attend(tokens, mask, chosen)  # (B R, heads, T, d)
        side, rows = self.regions, padded.shape[2] // self.regions
        y = rearrange(y, "(b i j) m (h w) d -> b (m d) (i h) (j w)", i=side, j=side, h=rows)[:, :, :height, :width]
        if self.local is not None:
            y = y + self.local(qkv[:, 2 * self.channels :])
        projected: Tensor = self.proj(y)
        return projected

    def _regions(self, maps: Tensor) -> Tensor:
        regions: Tensor = rearrange(maps, "b c (i h) (j w) -> b (i j) (h w) c", i=self.regions, j=self.regions)
        return regions

    def _route(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """For each region the numbers of those whose mean key is most like its mean query; without gradient."""
        with no_autocast(tokens):
            wide = widen(tokens[..., : 2 * self.channels].detach())
            if mask is None:
                means = wide.mean(2)  # (B, R, 2 C)
            else:
                weights = mask.to(wide.dtype)
                count = weights.sum(1, keepdim=True)  # (R, 1)
                means = (wide * weights[:, :, None]).sum(2) / count.clamp(min=1)
            q, k = means.chunk(2, dim=-1)
            alike = q @ k.transpose(1, 2)  # (B, R, R)
        if mask is not None:
            alike = alike.masked_fill(~mask.any(1), float("-inf"))  # a region of nothing but padding comes last
        return alike.topk(self.topk, dim=-1).indices

    def _attend(self, tokens: Tensor, mask: Tensor | None, chosen: Tensor) -> Tensor:
        batch, regions = chosen.shape[:2]
        q, kv = torch.split(tokens, [self.channels, 2 * self.channels], dim=-1)
        rows = (chosen + places(batch, chosen)[:, None, None] * regions).flatten()  # of (B R)
        kv = kv.flatten(0, 1).index_select(0, rows)  # (B R k, T, 2 C)
        k, v = rearrange(kv, "(n k) t (two m d) -> two n m (k t) d", k=self.topk, two=2, m=self.num_heads)
        q = rearrange(q, "b r t (m d) -> (b r) m t d", m=self.num_heads)
        if mask is not None:
            mask = mask.index_select(0, chosen.flatten()).view(batch * regions, 1, 1, -1)  # (B R, 1, 1, k T)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale)
