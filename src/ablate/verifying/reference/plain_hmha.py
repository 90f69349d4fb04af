"""HMHA as its paper has it, step by step: the oracle of the module's forms."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.modules.hmha import CACHE_DECAY, HMHA


class PlainHMHA(HMHA):
    """`HMHA` with every map made: sorted copies, unit rows, a correlation matrix, one head after the other."""

    def forward_with_cache(self, x: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) and the incoming cache to the output and the outgoing cache."""
        batch, channels, height, width = x.shape
        projected = F.conv2d(x, self.qkv.weight, self.qkv.bias)
        projected = F.conv2d(projected, self.qkv_dwconv.weight, self.qkv_dwconv.bias, padding=1, groups=3 * channels)
        q, k, v = projected.reshape(batch, 3, channels, height * width).unbind(1)
        orders = self.orders(q.detach())
        q, k, v = (torch.stack([t[i, order] for i, order in enumerate(orders)]) for t in (q, k, v))
        q = q / q.norm(dim=2, keepdim=True).clamp_min(1e-12)
        k = k / k.norm(dim=2, keepdim=True).clamp_min(1e-12)

        maps, ends = [], torch.tensor(self.sizes).cumsum(0).tolist()
        spans = [slice(end - size, end) for end, size in zip(ends, self.sizes, strict=True)]
        for span, temperature in zip(spans, self.temperature, strict=True):
            maps.append(torch.softmax(q[:, span] @ k[:, span].transpose(1, 2) * temperature, dim=2))
        if self.cache != "none":
            maps, cache = self.modulated(maps, cache)
        y = torch.cat([a @ v[:, span] for a, span in zip(maps, spans, strict=True)], dim=1)

        intra = self.intra_modulator
        mixed = y + (q + k).detach()
        gated = F.gelu(F.conv1d(mixed, intra.gatingConv.weight, intra.gatingConv.bias)) * mixed
        gated = F.conv1d(gated, intra.down.weight, intra.down.bias)
        y = y + F.conv1d(gated, intra.up.weight, intra.up.bias)
        y = y.reshape(batch, channels, height, width)
        return F.conv2d(y, self.project_out.weight, self.project_out.bias), cache

    def orders(self, q: Tensor) -> list[Tensor]:
        """The order of each image's channels, from the mean of each row of the correlation matrix."""
        if self.rerank == "none":
            return [torch.arange(q.shape[1])] * len(q)
        orders = []
        for image in q.mean(0, keepdim=True).expand_as(q) if self.rerank == "batch" else q:
            centred = image - image.mean(1, keepdim=True)
            length = centred.norm(dim=1)
            correlation = centred @ centred.T / (length[:, None] * length)
            correlation = torch.nan_to_num(correlation, nan=0.0)  # a constant channel correlates with none
            orders.append(correlation.mean(1).argsort(descending=True, stable=True))
        return orders

    def modulated(self, maps: list[Tensor], cache: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """The maps as the cache modulates them, and the cache for the next layer."""
        channels, as_authors = self.channels, self.fidelity == "authors"
        if cache is not None:
            cache = F.adaptive_avg_pool2d(cache.detach(), channels)
        if cache is not None or not as_authors:
            seen = maps[0].new_zeros(1, channels, channels) if cache is None else cache
            maps = [self.one_modulated(i, a, seen) for i, a in enumerate(maps, start=1)]
        update = torch.zeros(1, channels, channels, dtype=maps[0].dtype)
        for a in maps:
            seen = a.detach().mean(0, keepdim=True) if as_authors else a.detach()
            size = (channels, channels)
            seen = F.interpolate(seen[:, None], size=size, mode="bilinear", align_corners=False)[:, 0]
            share = seen * a.shape[2]
            update = update + (torch.floor(share / channels) if self.cache == "authors" else share / channels)
        if cache is None:
            return maps, CACHE_DECAY * update
        return maps, CACHE_DECAY * cache + (1 - CACHE_DECAY) * update

    def one_modulated(self, index: int, a: Tensor, cache: Tensor) -> Tensor:
        """One head's map, scaled, shifted and gated, added to itself."""
        modulator: Any = self.get_submodule(f"inter_modulator{index}")
        width, gate = modulator.conv_width, modulator.gatingConv
        pooled = F.adaptive_avg_pool2d(cache, a.shape[2])
        scale, shift = F.conv1d(pooled + a, width.weight, width.bias).chunk(2, dim=1)
        changed = a * scale + shift
        return a + changed * F.gelu(F.conv1d(changed, gate.weight, gate.bias))
