"""Channel attention of heads of unequal size, with gradients by hand: what HMHA's fused form consists of.

Three things make it fast. Maps lie pixel by pixel, (B, N, C), from the first convolution to the last: the depthwise
convolution and the matrix products of torch's CPU library are up to twice as fast there, and heads are column slices
that matrix products read in place. Samples are worked off in chunks that fit into a processor's cache. And only what
is expensive to make again is kept for the backward pass.

Vocabulary: `rows` is a map as (b, N, c) with N = H W; a chunk holds b of the B samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.modules.kernels.once import once
from ablate.modules.kernels.pixel_rows import (
    bias_gradient,
    depthwise_convolution,
    depthwise_gradients,
    empty_map,
    is_channels_last,
    pointwise_convolution,
    pointwise_gradient,
    sum_of_rows,
    to_rows,
    write_rows,
)
from ablate.modules.kernels.precision import wide_dtype

CHUNK = 1 << 20
"""Elements of one map of a chunk: 4 MiB in float32. Twice and half as many were slower at (4, 64, 80, 80)."""

LARGE_MAP = 1 << 18
"""Elements of one sample's map from which its queries are computed twice, to sort weights instead of maps."""

SMALL_HEAD = 16
"""Channels under which a head's matrix products are so slow that two heads in one are faster."""

EPS = 1e-12
"""Rows are divided by their length or this, as `F.normalize` does."""


class Plan(NamedTuple):
    """What the forward pass of one input needs to know beside tensors.

    Attributes:
        rerank: sample, batch or none.
        sizes: channels of each head.
        keep: whether a backward pass may follow.
    """

    rerank: str
    sizes: list[int]
    keep: bool


class Correlated(NamedTuple):
    """What `correlate` hands to `mix`: chunks of sorted channels, and the heads' cosines.

    Attributes:
        cosines: of queries and keys, (B, c, c) for each head, in at least float32.
        values: v of each chunk, (b, N, C).
        pairs: q and k of each chunk side by side, (b, N, 2C); without gradient.
        scale: one over the lengths of q's and k's channels, (B, 2C); without gradient.
    """

    cosines: list[Tensor]
    values: list[Tensor]
    pairs: list[Tensor]
    scale: Tensor


def correlate(
    x: Tensor, pointwise: Sequence[Tensor | None], depthwise: Sequence[Tensor | None], plan: Plan
) -> Correlated:
    """Project x (B, C, H, W) to queries, keys and values, sort their channels and correlate each head's.

    Args:
        x: the map.
        pointwise: weight (3C, C, 1, 1) and bias of the first convolution.
        depthwise: weight (3C, 1, 3, 3) and bias of the second.
        plan: the rest.
    """
    *tensors, scale = _Correlate.apply(x, *pointwise, *depthwise, plan)
    heads = len(plan.sizes)
    chunks = (len(tensors) - heads) // 2
    return Correlated(tensors[:heads], tensors[heads : heads + chunks], tensors[heads + chunks :], scale)


def mix(
    x: Tensor, correlated: Correlated, maps: Sequence[Tensor], weights: Sequence[Tensor | None], plan: Plan
) -> Tensor:
    """Apply the heads' attention maps to the values, gate them by queries and keys, and project.

    Args:
        x: the module's input, for the shape and layout of the output.
        correlated: what `correlate` found.
        maps: (B, c, c) of each head.
        weights: weight and bias of the gate, of the modulator's down and up and of the last projection.
        plan: the rest.
    """
    shape = (*x.shape, is_channels_last(x))
    out: Tensor = _Mix.apply(shape, plan, correlated.scale, *correlated.pairs, *correlated.values, *maps, *weights)
    return out


# --- the two halves ---


class _Correlate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, w1: Tensor, b1: Tensor | None, w3: Tensor, b3: Tensor | None, plan: Plan
    ) -> tuple[Tensor, ...]:
        batch, channels, height, width = x.shape
        chunks = _chunks(batch, channels * height * width, plan.rerank)
        weights = (w1, b1, w3, b3)
        order = None  # of the channels, (B or 1, C)
        early = plan.rerank != "none" and _ranks_early(x, plan.rerank)
        if early and plan.rerank == "batch":  # the convolutions are linear: they take the mean to the mean
            order = _order(_queries(to_rows(x.mean(0, keepdim=True)), weights, height))
        elif early:
            order = torch.cat([_order(_queries(to_rows(x[chunk]), weights, height)) for chunk in chunks])
        rows, before, after = [], [], []  # of the map, and before and after the depthwise convolution
        for chunk in chunks:
            first, first_bias, second, second_bias = _sorted(weights, order, chunk)
            row = to_rows(x[chunk])
            t = pointwise_convolution(row, first, first_bias)
            after.append(depthwise_convolution(t, second, second_bias, height))
            if plan.keep:
                rows.append(row)
                before.append(t)
            del row, t
        if plan.rerank != "none" and not early:
            queries = [d[..., :channels] for d in after]
            if plan.rerank == "batch":
                queries = [torch.cat(queries).mean(0, keepdim=True)]
            order = torch.cat([_order(q) for q in queries])
            place = _threefold(order)[:, None]
            after = [d.gather(2, _of(place, chunk).expand_as(d)) for d, chunk in zip(after, chunks, strict=True)]
        wide = wide_dtype(x.dtype)
        pairs, values = zip(*(torch.split(d, [2 * channels, channels], 2) for d in after), strict=True)
        length = torch.cat([sum_of_rows(p.to(wide).square()) for p in pairs]).sqrt_()  # (B, 2C)
        scale = length.clamp_min(EPS).reciprocal_()
        cosines = [x.new_empty(batch, size, size, dtype=wide) for size in plan.sizes]
        for pair, chunk in zip(pairs, chunks, strict=True):
            q, k = (torch.split(p, plan.sizes, 2) for p in pair.to(wide).chunk(2, 2))
            for query, key, cosine in zip(q, k, cosines, strict=True):
                torch.bmm(query.mT, key, out=cosine[chunk])
        for cosine, row, column in zip(cosines, *_halves(scale, plan.sizes), strict=True):
            cosine.mul_(row[:, :, None]).mul_(column[:, None])
        ctx.plan, ctx.chunks, ctx.early, ctx.shape = plan, chunks, early, x.shape
        ctx.channels_last = is_channels_last(x)
        ctx.mark_non_differentiable(*pairs, scale)
        ctx.set_materialize_grads(False)
        if plan.keep:
            ctx.save_for_backward(w1, b1, w3, b3, order, length, scale, *cosines, *pairs, *rows, *before)
        return (*cosines, *values, *pairs, scale)

    @staticmethod
    @once
    def backward(ctx: Any, saved: tuple[Tensor, ...], *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        plan, chunks, heads = ctx.plan, ctx.chunks, len(ctx.plan.sizes)
        w1, b1, w3, b3, order, length, scale, *rest = saved
        cosines, pairs, rows, before = _cut(rest, heads, *[len(chunks)] * 3)
        height, wide = ctx.shape[2], scale.dtype
        inner, by_query, by_key = [], [], []  # gradients of the products of q and k, and those times the cosines
        for g, cosine, row, column in zip(gradients[:heads], cosines, *_halves(scale, plan.sizes), strict=True):
            g = torch.zeros_like(cosine) if g is None else g
            weighted = g * cosine
            by_query.append(weighted.sum(2))
            by_key.append(weighted.sum(1))
            inner.append(weighted.copy_(g).mul_(row[:, :, None]).mul_(column[:, None]))
        along = torch.cat(by_query + by_key, 1) * scale.square()
        along.masked_fill_(length < EPS, 0).neg_()  # (B, 2C): what does not change a channel's length is no gradient
        order_of_weights, order_of_maps = (order, None) if ctx.early else (None, order)
        back = None if order_of_maps is None else _threefold(order_of_maps.argsort(1))[:, None]  # (B or 1, 1, 3C)
        dx = empty_map(ctx.shape, w1, ctx.channels_last) if ctx.needs_input_grad[0] else None
        totals = _Totals()
        for i, chunk in enumerate(chunks):
            pair, of_v = pairs[i].to(wide), gradients[heads + i]
            q, k = pair.chunk(2, 2)
            dv = torch.zeros_like(q) if of_v is None else of_v.to(wide)
            of_q = _blocks(k, [g[chunk].mT for g in inner], plan.sizes)
            dd = torch.cat([*of_q, *_blocks(q, [g[chunk] for g in inner], plan.sizes), dv], 2)
            del of_q, dv, of_v
            dd[..., : pair.shape[2]].addcmul_(pair, along[chunk, None])
            dd = dd.to(rows[i].dtype)
            if back is not None:
                dd = dd.gather(2, _of(back, chunk).expand_as(dd))
            first, _, second, _ = _sorted((w1, None, w3, None), order_of_weights, chunk)
            dt, dw3, db3 = depthwise_gradients(dd, before[i], second, b3, height)
            del dd, pair, q, k
            dw1 = pointwise_gradient(dt, rows[i]) if ctx.needs_input_grad[1] else None
            db1 = None if b1 is None else sum_of_rows(dt).sum(0)
            if dx is not None:
                write_rows(dx[chunk], pointwise_convolution(dt, first.transpose(0, 1)))
            sums = [dw1, db1, dw3, db3]
            if order_of_weights is not None:
                place = _threefold(_of(order_of_weights, chunk))[0].argsort()
                sums = [None if d is None else d[place] for d in sums]
            totals.add(**dict(zip(("w1", "b1", "w3", "b3"), sums, strict=True)))
        return dx, totals.like("w1", w1), totals.like("b1", b1), totals.like("w3", w3), totals.like("b3", b3), None


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, shape: tuple[Any, ...], plan: Plan, scale: Tensor, *tensors: Any) -> Tensor:
        batch, channels, height, width, last = shape
        chunks = _chunks(batch, channels * height * width, plan.rerank)
        heads = len(plan.sizes)
        pairs, values, maps, weights = _cut(tensors, len(chunks), len(chunks), heads, 8)
        gate, gate_bias, down, down_bias, up, up_bias, project, project_bias = weights
        out = empty_map(shape[:4], project, last)
        inner: list[Tensor] = []
        for pair, value, chunk in zip(pairs, values, chunks, strict=True):
            y = torch.cat(_blocks(value, [a[chunk].mT for a in maps], plan.sizes), 2)
            q, k = pair.to(scale.dtype).chunk(2, 2)
            q_scale, k_scale = scale[chunk, None].chunk(2, 2)
            mixed = torch.addcmul(y.to(scale.dtype), q, q_scale).addcmul_(k, k_scale).to(y.dtype)
            gating = pointwise_convolution(mixed, gate, gate_bias)
            hidden = pointwise_convolution(F.gelu(gating).mul_(mixed), down, down_bias)
            z = pointwise_convolution(hidden, up, up_bias).add_(y)
            write_rows(out[chunk], pointwise_convolution(z, project, project_bias))
            if plan.keep:
                inner += [mixed, gating, hidden, z]
        ctx.plan, ctx.chunks = plan, chunks
        if plan.keep:
            ctx.save_for_backward(*values, *maps, *weights, *inner)
        return out

    @staticmethod
    @once
    def backward(ctx: Any, saved: tuple[Tensor, ...], gradient: Tensor) -> tuple[Tensor | None, ...]:
        plan, chunks = ctx.plan, ctx.chunks
        values, maps, weights, inner = _cut(saved, len(chunks), len(plan.sizes), 8, 4 * len(chunks))
        gate, gate_bias, down, down_bias, up, up_bias, project, project_bias = weights
        names = ("gate", "gate_bias", "down", "down_bias", "up", "up_bias", "project", "project_bias")
        totals = _Totals()
        map_gradients = [torch.empty_like(a) for a in maps]
        value_gradients = []
        for i, (chunk, value) in enumerate(zip(chunks, values, strict=True)):
            mixed, gating, hidden, z = inner[4 * i : 4 * i + 4]
            g = to_rows(gradient[chunk])
            dz = pointwise_convolution(g, project.transpose(0, 1))
            totals.add(project=pointwise_gradient(g, z), project_bias=bias_gradient(g, project_bias))
            active = F.gelu(gating)
            gated = active * mixed
            totals.add(up=pointwise_gradient(dz, hidden), up_bias=bias_gradient(dz, up_bias))
            del g
            dh = pointwise_convolution(dz, up.transpose(0, 1))
            totals.add(down=pointwise_gradient(dh, gated), down_bias=bias_gradient(dh, down_bias))
            del gated
            dg = pointwise_convolution(dh, down.transpose(0, 1))
            dy = active.mul_(dg).add_(dz)
            de = torch.ops.aten.gelu_backward(dg.mul_(mixed), gating)
            totals.add(gate=pointwise_gradient(de, mixed), gate_bias=bias_gradient(de, gate_bias))
            dy.add_(pointwise_convolution(de, gate.transpose(0, 1)))
            value_gradients.append(torch.cat(_blocks(dy, [a[chunk] for a in maps], plan.sizes), 2))
            for d, v, da in zip(
                torch.split(dy, plan.sizes, 2), torch.split(value, plan.sizes, 2), map_gradients, strict=True
            ):
                torch.bmm(d.mT, v, out=da[chunk])
        sums = [totals.like(name, weight) for name, weight in zip(names, weights, strict=True)]
        return (None, None, None, *[None] * len(chunks), *value_gradients, *map_gradients, *sums)


# --- parts ---


def _ranks_early(x: Tensor, rerank: str) -> bool:
    """Whether to rank by queries that are computed for that alone, and to sort the weights then instead of the maps."""
    return (rerank == "batch" and len(x) > 1) or x[0].numel() > LARGE_MAP


def _queries(rows: Tensor, weights: Sequence[Tensor | None], height: int) -> Tensor:
    w1, b1, w3, b3 = (None if w is None else w[: rows.shape[2]] for w in weights)
    assert w1 is not None
    assert w3 is not None
    return depthwise_convolution(pointwise_convolution(rows, w1, b1), w3, b3, height)


def _order(q: Tensor) -> Tensor:
    """The ranking that `HMHA._order` defines, (b, C), of queries (b, N, C)."""
    q = q.to(wide_dtype(q.dtype))
    eps = torch.finfo(q.dtype).eps
    mean = q.mean(1, keepdim=True)
    centred = q - mean
    square = (centred * centred).sum(1, keepdim=True)  # (b, 1, C)
    norm = square.sqrt()
    varies = norm > 32 * eps * (square + q.shape[1] * mean.square()).sqrt()
    inverse = torch.where(varies, norm.clamp_min(eps**2).reciprocal(), 0.0)
    together = centred @ inverse.mT  # (b, N, 1): the sum of all channels of unit length
    score = centred.mul_(together).sum(1) * inverse[:, 0]
    return score.argsort(dim=1, descending=True, stable=True)


def _threefold(order: Tensor) -> Tensor:
    """(b, C) to (b, 3C): the order of queries, keys and values side by side."""
    channels = order.shape[1]
    return torch.cat([order, order + channels, order + 2 * channels], 1)


def _sorted(weights: Sequence[Tensor | None], order: Tensor | None, chunk: slice) -> Sequence[Any]:
    """Weights and biases of 3C outputs, as they are or in the order of the chunk, which is then of one sample."""
    if order is None:
        return weights
    place = _threefold(_of(order, chunk))[0]
    return [None if w is None else w[place] for w in weights]


def _blocks(rows: Tensor, maps: Sequence[Tensor], sizes: list[int]) -> list[Tensor]:
    """Each head's rows (b, N, c) by its matrix (b, c, c)."""
    if sizes[0] < SMALL_HEAD:  # the first two heads as one of 3c channels, with zeros between them
        first, second, *others = maps
        together = torch.cat([F.pad(first, (0, sizes[1])), F.pad(second, (sizes[0], 0))], 1)
        maps, sizes = [together, *others], [sizes[0] + sizes[1], *sizes[2:]]
    return [torch.bmm(part, a) for part, a in zip(torch.split(rows, sizes, 2), maps, strict=True)]


class _Totals:
    """Gradients of weights, summed over chunks."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}

    def add(self, **gradients: Tensor | None) -> None:
        for name, gradient in gradients.items():
            if gradient is not None:
                self.sums[name] = self.sums[name].add_(gradient) if name in self.sums else gradient

    def like(self, name: str, weight: Tensor | None) -> Tensor | None:
        return self.sums[name].view(weight.shape) if weight is not None and name in self.sums else None


def _chunks(batch: int, elements: int, rerank: str) -> list[slice]:
    """Which samples go together; each goes alone where weights are sorted for it."""
    size = 1 if rerank == "sample" and elements > LARGE_MAP else max(1, CHUNK // elements)
    return [slice(start, min(start + size, batch)) for start in range(0, batch, size)]


def _cut(items: Sequence[Any], *lengths: int) -> list[Sequence[Any]]:
    parts, start = [], 0
    for length in lengths:
        parts.append(items[start : start + length])
        start += length
    return parts


def _halves(pair: Tensor, sizes: list[int]) -> list[Sequence[Tensor]]:
    """Both halves of (B, 2C), each split into heads."""
    return [torch.split(half, sizes, 1) for half in pair.chunk(2, 1)]


def _of(index: Tensor, chunk: slice) -> Tensor:
    return index if len(index) == 1 else index[chunk]
