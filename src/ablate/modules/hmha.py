"""Hierarchical multi-head attention (HMHA): heads of unequal size over channels sorted by how alike they are.

Paper: S. Zhou et al., "Devil is in the Uniformity: Exploring Diverse Learners within Transformer for Image
Restoration" (HINT), arXiv 2503.20174. Authors' code: https://github.com/joshyZhou/HINT, `Attention` in
basicsr/models/archs/HINT_arch.py, read at commit acb5417 for its definitions; the code here is our own.

Two forms of one computation (`fused`): the composed one reads top to bottom in `HMHA._compose`, the fused one, with
gradients by hand, is made of kernels/channel_attention.py.

Status: with `fidelity="authors"` output, cache and gradients equal the authors' to 1e-5 in float32 and
to rounding in float64, with and without an incoming cache, in both forms. What differs by default:
docs/modules/hmha.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any, Literal, Self

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.channel_attention import Plan, correlate, mix
from ablate.modules.kernels.precision import widen
from ablate.modules.kernels.switch import check_fused, fuses
from ablate.modules.kernels.traced import descending_order, places

HEADS = (1, 2, 2, 3)
"""Relative sizes of the four heads, from the most typical channels to the least."""

SMALL = 102_400
"""Elements of an input (B, C, H, W) under which the fused form's calls cost more than they save."""

CACHE_DECAY = 0.9
"""Share of the incoming cache in the outgoing one (the authors' update factor)."""


class IntraModulator(nn.Module):
    """Gate the heads' joint output by the queries and keys that made it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv1d(channels, channels // 2, 1)
        self.up = nn.Conv1d(channels // 2, channels, 1)
        self.gatingConv = nn.Conv1d(channels, channels, 1)

    def forward(self, y: Tensor, qk: Tensor) -> Tensor:
        """(B, C, N) and (B, C, N) to (B, C, N)."""
        mixed = y + qk
        out: Tensor = self.up(self.down(F.gelu(self.gatingConv(mixed)) * mixed))
        return out


class InterModulator(nn.Module):
    """Scale, shift and gate one head's attention map by the cache of the layers before."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.conv_width = nn.Conv1d(size, 2 * size, 1)
        self.gatingConv = nn.Conv1d(size, size, 1)

    def forward(self, attention: Tensor, cache: Tensor) -> Tensor:
        """(B, c, c) and (B or 1, C, C) to (B, c, c)."""
        scale, shift = self.conv_width(_pool(cache, attention.shape[-1]) + attention).chunk(2, dim=1)
        modulated: Tensor = attention * scale + shift
        return modulated * F.gelu(self.gatingConv(modulated))


class HMHA(nn.Module):
    """Hierarchical multi-head channel attention; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C; must divide by 8, the sum of the heads' relative sizes 1:2:2:3.
        bias: give the three convolutions a bias.
        rerank: what the channels are sorted by: each image by itself (`sample`), the mean image of the batch
            (`batch`, the authors'; the same for one image), or nothing (`none`: they stay as they come).
        cache: modulate the attention maps by those of the HMHA before this one (see `link`): `none`; `paper`,
            where the cache is the weighted sum of the maps; `authors`, whose floor division leaves next to
            nothing of it.
        fidelity: `authors` turns the rerank `sample` into `batch`, averages the cache over the batch, and
            leaves the inter-layer modulators unused where no cache comes in. With `corrected` each image has
            its own cache, and a layer that gets none starts from zeros, so all its parameters are trained.
        fused: compute in the fused form: `true` wherever it is possible, `false` never, `auto` where it was found to
            be no slower, which is on CPUs. It cannot be differentiated twice.

    Raises:
        ValueError: channels do not divide by 8, or an option has no such value.
    """

    def __init__(
        self,
        channels: int,
        *,
        bias: bool = False,
        rerank: Literal["sample", "batch", "none"] = "sample",
        cache: Literal["none", "authors", "paper"] = "none",
        fidelity: Literal["corrected", "authors"] = "corrected",
        fused: bool | Literal["auto"] = "auto",
    ) -> None:
        super().__init__()
        if channels < 8 or channels % 8:
            raise ValueError(f"HMHA has heads of 1:2:2:3 channels: their number must divide by 8; got {channels}")
        _one_of("rerank", rerank, "sample", "batch", "none")
        _one_of("cache", cache, "none", "authors", "paper")
        _one_of("fidelity", fidelity, "corrected", "authors")
        check_fused(fused)
        self.channels, self.cache, self.fidelity, self.fused = channels, cache, fidelity, fused
        self.rerank = "batch" if fidelity == "authors" and rerank == "sample" else rerank
        self.sizes = [ratio * channels // sum(HEADS) for ratio in HEADS]

        self.temperature = nn.Parameter(torch.ones(len(HEADS), 1, 1))
        self.qkv = nn.Conv2d(channels, 3 * channels, 1, bias=bias)
        self.qkv_dwconv = nn.Conv2d(3 * channels, 3 * channels, 3, padding=1, groups=3 * channels, bias=bias)
        self.project_out = nn.Conv2d(channels, channels, 1, bias=bias)
        self.intra_modulator = IntraModulator(channels)
        if cache != "none":  # without a cache their parameters would never receive a gradient
            for i, size in enumerate(self.sizes, start=1):
                self.add_module(f"inter_modulator{i}", InterModulator(size))
        self._relay: _Relay | None = None
        self._place = 0

    @classmethod
    def from_authors(cls, dim: int, num_heads: int = 8, bias: bool = False) -> Self:
        """Build the authors' `Attention(dim, num_heads, bias)`; as in theirs, `num_heads` has no effect."""
        return cls(dim, bias=bias, cache="authors", fidelity="authors")

    @staticmethod
    def link(modules: Sequence[HMHA], network: nn.Module | None = None) -> None:
        """Let each module's cache reach the next one within a forward pass.

        A module takes the cache only if its predecessor was the last of the chain to run, and takes it once;
        one that is called alone, first or out of turn gets none. So the next pass, which begins at the first
        module, begins afresh. Copies and pickles carry no cache. Channels may differ: caches are pooled.

        Args:
            modules: the HMHA of one network in forward order.
            network: the network itself, if at hand: a hook then drops the cache at the end of its forward
                pass, also when an exception ends it halfway.
        """
        relay = _Relay(len(modules))
        for place, module in enumerate(modules):
            module._relay, module._place = relay, place
        if network is not None:
            network.register_forward_hook(relay.drop, always_call=True)

    def no_weight_decay(self) -> set[str]:
        """The temperatures: scales, not weight matrices."""
        return {"temperature"}

    def uncounted_flops(self, height: int, width: int) -> int:
        """Norms of queries and keys; for the ranking two norms and a product with the sum: 2 an element each."""
        return 2 * (2 if self.rerank == "none" else 5) * self.channels * height * width

    def forward(self, x: Tensor, cache: Tensor | None = None) -> Tensor:
        """(B, C, H, W) to (B, C, H, W); `cache` as below, instead of the one that comes by `link`."""
        if self._relay is None or self.cache == "none":
            return self.forward_with_cache(x, cache)[0]
        passed = self._relay.take(self._place, len(x))
        y, cache = self.forward_with_cache(x, passed if cache is None else cache)
        self._relay.give(self._place + 1, cache)
        return y

    def forward_with_cache(self, x: Tensor, cache: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Attend, and return the cache for the next layer as well.

        Args:
            x: (B, C, H, W).
            cache: (B, D, D) or (1, D, D) from the layer before, of any D.

        Returns:
            The output (B, C, H, W); the cache (B, C, C), which carries no gradient. It is (1, C, C) with
            `fidelity="authors"` and None with `cache="none"`.

        Raises:
            ValueError: a cache is given to a module built with `cache="none"`.
        """
        if cache is not None and self.cache == "none":
            raise ValueError('this HMHA was built with cache="none" and has no use for a cache')
        if fuses(self.fused, x) and (self.fused is True or self._pays(x)):
            return self._fuse(x, cache)
        return self._compose(x, cache)

    def _compose(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The composed form of `forward_with_cache`: torch's own operations in the paper's order."""
        q, k, v = self.qkv_dwconv(self.qkv(x)).flatten(2).chunk(3, dim=1)  # 3 x (B, C, N), N = H W
        if self.rerank != "none":
            order = self._order(q)[..., None].expand_as(q)  # (B, C, N)
            q, k, v = (t.gather(1, order) for t in (q, k, v))
        q, k = _unit(q), _unit(k)
        maps = self._attend(q, k)  # 4 x (B, c, c)
        if self.cache != "none":
            maps, cache = self._modulate(maps, cache)
        values = torch.split(v, self.sizes, dim=1)  # 4 x (B, c, N)
        y = torch.cat([a @ value for a, value in zip(maps, values, strict=True)], dim=1)  # (B, C, N)
        y = y + self.intra_modulator(y, (q + k).detach())
        return self.project_out(rearrange(y, "b c (h w) -> b c h w", h=x.shape[-2])), cache

    @staticmethod
    def _pays(x: Tensor) -> bool:
        """Whether the fused form is the faster one: measured on CPUs, where it has more calls and less to compute."""
        return x.device.type == "cpu" and x.numel() >= SMALL

    def _fuse(self, x: Tensor, cache: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The fused form of `forward_with_cache`. Under autocast all maps have its precision, as convolutions have."""
        intra = self.intra_modulator
        layers = [self.qkv, self.qkv_dwconv, intra.gatingConv, intra.down, intra.up, self.project_out]
        weights = [weight for layer in layers for weight in (layer.weight, layer.bias)]
        device = x.device.type
        autocast = torch.is_autocast_enabled(device)
        if autocast:
            dtype = torch.get_autocast_dtype(device)
            x, weights = x.to(dtype), [None if w is None else w.to(dtype) for w in weights]
        keep = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in (x, *weights))
        plan = Plan(self.rerank, self.sizes, keep)
        with torch.autocast(device, enabled=False) if autocast else nullcontext():
            correlated = correlate(x, weights[:2], weights[2:4], plan)
            logits = [cosine * t for cosine, t in zip(correlated.cosines, self.temperature, strict=True)]
            maps = [widen(logit).softmax(dim=-1).to(x.dtype) for logit in logits]
        if self.cache != "none":
            maps, cache = self._modulate(maps, cache)
        with torch.autocast(device, enabled=False) if autocast else nullcontext():
            return mix(x, correlated, [a.to(x.dtype) for a in maps], weights[4:], plan), cache

    @torch.no_grad()
    def _order(self, q: Tensor) -> Tensor:
        """Order the channels of q (B, C, N) by mean Pearson correlation with all, highest first: (B or 1, C).

        Row i of the correlation matrix sums to z_i . (z_1 + ... + z_C) for centred channels z of unit length:
        the matrix is not needed. A constant channel correlates with none (0, not 0 / 0); ties stay in order.
        """
        q = widen(q)
        if self.rerank == "batch":
            q = q.mean(0, keepdim=True)
        eps = torch.finfo(q.dtype).eps
        centred = q - q.mean(-1, keepdim=True)
        norm = centred.norm(dim=-1, keepdim=True)
        varies = norm > 32 * eps * q.norm(dim=-1, keepdim=True)  # more than the rounding of the mean explains
        z = torch.where(varies, centred / norm.clamp_min(eps**2), 0.0)  # (B, C, N)
        score = (z * z.sum(1, keepdim=True)).sum(-1)  # (B, C)
        return descending_order(score)

    def _attend(self, q: Tensor, k: Tensor) -> list[Tensor]:
        """Channel attention maps of the four heads, (B, c, c) each; the softmax is taken in float32."""
        queries, keys = torch.split(q, self.sizes, dim=1), torch.split(k, self.sizes, dim=1)
        logits = [(q @ k.transpose(-1, -2)) * t for q, k, t in zip(queries, keys, self.temperature, strict=True)]
        return [widen(logit).softmax(dim=-1).to(q.dtype) for logit in logits]

    def _modulate(self, maps: list[Tensor], cache: Tensor | None) -> tuple[list[Tensor], Tensor]:
        """Modulate the four maps by the incoming cache; also return the outgoing one, (B or 1, C, C)."""
        carried = None if cache is None else _pool(cache.detach().to(maps[0].dtype), self.channels)
        seen = carried
        if seen is None and self.fidelity == "corrected":
            seen = maps[0].new_zeros(1, self.channels, self.channels)
        if seen is not None:
            modulators = [self.get_submodule(f"inter_modulator{i}") for i in range(1, len(HEADS) + 1)]
            maps = [a + modulator(a, seen) for a, modulator in zip(maps, modulators, strict=True)]
        if seen is None and self.cache == "authors":  # means of softmax are at most 1, and shares under 1 floor to 0
            update = maps[0].new_zeros(1, self.channels, self.channels)
        else:
            update = self._summary(maps)
        if carried is None:
            return maps, CACHE_DECAY * update
        return maps, CACHE_DECAY * carried + (1 - CACHE_DECAY) * update

    @torch.no_grad()
    def _summary(self, maps: list[Tensor]) -> Tensor:
        """The four maps enlarged to (B, C, C) and summed, each weighted by its head's share of channels."""
        size = (self.channels, self.channels)
        total = maps[0].new_zeros(1, *size)
        for a in maps:
            a = a.mean(0, keepdim=True) if self.fidelity == "authors" else a
            large = F.interpolate(a[:, None], size=size, mode="bilinear")[:, 0] * a.shape[-1]
            total = total + (large // self.channels if self.cache == "authors" else large / self.channels)
        return total

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if self.cache == "none":  # the authors' weights hold modulators that take no part without a cache
            for key in [key for key in state_dict if key.startswith(f"{prefix}inter_modulator")]:
                del state_dict[key]
        super()._load_from_state_dict(state_dict, prefix, *args)


class _Relay:
    """Holds the cache between two linked modules: for the one at `place`, once, not in copies or pickles."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.place = 0
        self.cache: Tensor | None = None

    def give(self, place: int, cache: Tensor | None) -> None:
        self.place, self.cache = place, cache if place < self.length else None

    def take(self, place: int, batch: int) -> Tensor | None:
        cache, due = self.cache, self.place == place
        self.drop()
        return cache if due and cache is not None and len(cache) in (1, batch) else None

    def drop(self, *_: object) -> None:
        self.cache = None

    def __getstate__(self) -> dict[str, Any]:
        return {"length": self.length, "place": 0, "cache": None}


def _unit(t: Tensor) -> Tensor:
    """Scale the rows of (B, C, N) to length 1; the norm is taken in float32, the result has t's dtype."""
    return F.normalize(widen(t), dim=-1).to(t.dtype)


def _pool(square: Tensor, size: int) -> Tensor:
    """Adaptive average pooling of (B, D, D) to (B, size, size), as two products: exports for any sizes."""
    side = square.shape[-1]
    if side == size:
        return square
    row, column = places(size, square)[:, None], places(side, square)
    inside = (column >= row * side // size) & (column < ((row + 1) * side + size - 1) // size)  # (size, D)
    mean = inside.to(square.dtype) / inside.sum(1, keepdim=True)
    return mean @ square @ mean.transpose(-1, -2)


def _one_of(name: str, value: str, *choices: str) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(choices)}; got {value!r}")
