"""Attention of each query to the window of keys around it, without an unfolded copy of the keys.

The map of queries is cut into tiles of 4 x 4. A tile's windows lie in one square region of keys, so its logits are one
small matrix product, with a mask for what is in the region but not in a query's window. A few tiles at a time pass
through buffers that stay in the processor's cache; whole-map tensors are only what goes in and what comes out. The
backward pass makes the attention again from the logarithm of its sums, one number a query.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ablate.modules.kernels.once import once
from ablate.modules.kernels.precision import wide_dtype

TILE = 4  # queries a side: 16 x 100 logits for windows of 7 x 7, twice what is needed; 8 x 8 needs four times as many
BUFFERED = (
    300_000  # numbers in the buffers of one step on a CPU, for each thread: about the size of a second-level cache
)
BUFFERED_ELSEWHERE = 60_000_000
LOG2E = 1 / math.log(2)  # exp2 is several times as fast as exp


def neighbourhood_attention(q: Tensor, k: Tensor, v: Tensor, kernel: int, dilation: int = 1, stride: int = 1) -> Tensor:
    """Let each query attend to its window of keys: softmax over q . k, then the weighted sum of v.

    The window of query (i, j) are the padded positions (i stride + a dilation, j stride + b dilation) for
    0 <= a, b < kernel. Logits, softmax and sums are in float32 or wider. It is fastest where the channels are next to
    each other in memory: strides of (B, m, H, W, d). An infinite or undefined number spoils its tile.

    Args:
        q: Queries (B, m, d, H', W'), scaled.
        k: Keys (B, m, d, H + p, W + p), padded by p = dilation (kernel - 1).
        v: Values, shaped as the keys.
        kernel: Side of the window.
        dilation: Distance between the positions in a window.
        stride: Distance between the windows of two queries next to each other.

    Returns:
        (B, m, d, H', W') with the dtype of the values and the strides of (B, m, H', W', d).

    Raises:
        ValueError: A window reaches out of the keys, or the shapes do not belong together.
    """
    tiling = _Tiling(kernel, dilation, stride)
    _check(q, k, v, tiling)
    if q.is_cuda:
        from ablate.modules.kernels import (
            neighbourhood_triton as triton,
        )  # registers operators: only where they are used

        if triton.available(q, k, v, kernel, dilation, stride):
            return triton.neighbourhood_attention(q, k, v, kernel, dilation, stride)
    y: Tensor = _Attention.apply(q, k, v, tiling)
    return y


@dataclass(frozen=True)
class _Tiling:
    """How tiles of queries lie on the keys."""

    kernel: int
    dilation: int
    stride: int

    @property
    def step(self) -> int:
        """From one tile's region of keys to the next one's."""
        return TILE * self.stride

    @property
    def side(self) -> int:
        """Of a tile's region of keys."""
        return self.reach(TILE)

    def reach(self, queries: int) -> int:
        """How many keys in a row that many queries in a row see between them."""
        return (queries - 1) * self.stride + (self.kernel - 1) * self.dilation + 1

    def mask(self, like: Tensor) -> Tensor:
        """0 where a tile's query sees a key of the region, else -inf: (1, queries, keys)."""
        place = torch.arange(self.side) - self.stride * torch.arange(TILE)[:, None]  # in the query's window
        seen = (place >= 0) & (place < self.kernel * self.dilation) & (place % self.dilation == 0)
        both = (seen[:, None, :, None] & seen[None, :, None, :]).reshape(TILE**2, self.side**2)
        return torch.zeros(both.shape, dtype=like.dtype).masked_fill_(~both, -math.inf).to(like.device)[None]


class _Attention(torch.autograd.Function):
    """`_attend` and `_attend_backward` on maps of any dtype and layout."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, tiling: _Tiling) -> Tensor:
        with torch.autocast(q.device.type, enabled=False):
            y, lse = _attend(*_aligned(q, k, v, tiling), tiling)
        ctx.tiling = tiling
        ctx.save_for_backward(q, k, v, lse)
        return _maps(y, q.shape).to(v.dtype)

    @staticmethod
    @once
    def backward(ctx: Any, saved: tuple[Tensor, ...], gradient: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, lse = saved
        with torch.autocast(q.device.type, enabled=False):
            queries, keys, values = _aligned(q, k, v, ctx.tiling)
            g = _planes(gradient, queries.shape[1], queries.shape[2], queries.dtype)
            gradients = _attend_backward(g, queries, keys, values, lse, ctx.tiling)
            made = [_maps(t, like.shape).to(like.dtype) for t, like in zip(gradients, (q, k, v), strict=True)]
        return *made, None


def _aligned(q: Tensor, k: Tensor, v: Tensor, tiling: _Tiling) -> tuple[Tensor, Tensor, Tensor]:
    """As planes, with whole tiles and the keys for them, in float32 or wider; what is so already is not copied."""
    rows, columns = (-(-n // TILE) * TILE for n in q.shape[3:])
    tall, broad = (max(tiling.reach(n), m) for n, m in zip((rows, columns), k.shape[3:], strict=True))
    wide = wide_dtype(torch.promote_types(q.dtype, v.dtype))
    return _planes(q, rows, columns, wide), _planes(k, tall, broad, wide), _planes(v, tall, broad, wide)


def _planes(t: Tensor, rows: int, columns: int, dtype: torch.dtype) -> Tensor:
    """(B, m, d, H, W) as (B m, rows, columns, d) side by side in memory, with zeros beyond H and W."""
    t = t.permute(0, 1, 3, 4, 2)
    height, width = t.shape[2:4]
    if (height, width) == (rows, columns):
        return t.to(dtype).contiguous().flatten(0, 1)
    planes = t.new_zeros(*t.shape[:2], rows, columns, t.shape[4], dtype=dtype)
    planes[:, :, :height, :width] = t
    return planes.flatten(0, 1)


def _maps(planes: Tensor, shape: torch.Size) -> Tensor:
    """The reverse of `_planes`: a view (B, m, d, H, W)."""
    b, m, _, height, width = shape
    return planes.view(b, m, *planes.shape[1:])[:, :, :height, :width].permute(0, 1, 4, 2, 3)


def _attend(q: Tensor, k: Tensor, v: Tensor, tiling: _Tiling) -> tuple[Tensor, Tensor]:
    """Queries (P, H', W', d), a multiple of the tile, and keys and values (P, H, W, d), as far as the windows reach.

    Returns:
        The sums (P, H', W', d), and for each query, tile by tile, the base-2 logarithm of its attention's sum.
    """
    y = torch.empty_like(q)
    queries, keys, values, sums = _tiles(q), _regions(k, q, tiling), _regions(v, q, tiling), _tiles(y)
    lse = q.new_empty(*queries.shape[:3], TILE**2, 1)
    mask = tiling.mask(q)
    buffers = _Buffers(q, tiling, ["q", "k", "logits"])
    for planes, rows in buffers.parts():
        part, (some_q, some_k, logits) = (planes, rows), buffers.take(planes, rows)
        _fill(some_q, queries[part])
        _fill(some_k, keys[part])
        torch.baddbmm(mask.expand_as(logits), some_q, some_k.mT, alpha=LOG2E, out=logits)
        top = logits.amax(-1, keepdim=True)
        attention = logits.sub_(top).exp2_()
        total = attention.sum(-1, keepdim=True)
        _fill(some_k, values[part])  # the keys are no longer needed
        sums[part] = torch.bmm(attention, some_k, out=some_q).div_(total).view(sums[part].shape)
        lse[part] = top.add_(total.log2_()).view(lse[part].shape)
    return y, lse


def _attend_backward(
    g: Tensor, q: Tensor, k: Tensor, v: Tensor, lse: Tensor, tiling: _Tiling
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of queries, keys and values for the gradient g (P, H', W', d) of the sums."""
    dq = torch.empty_like(q)
    queries, gradients, keys, values, dqueries = (
        _tiles(q), _tiles(g), _regions(k, q, tiling), _regions(v, q, tiling), _tiles(dq),
    )  # fmt: skip
    dk, dv = _Overlap(k, q, tiling), _Overlap(v, q, tiling)
    mask = tiling.mask(q)
    buffers = _Buffers(q, tiling, ["q", "q", "k", "k", "logits", "logits"])
    for planes, rows in buffers.parts():
        part, (some_q, some_g, some_k, some_v, logits, slopes) = (planes, rows), buffers.take(planes, rows)
        for buffer, source in ((some_q, queries), (some_g, gradients), (some_k, keys), (some_v, values)):
            _fill(buffer, source[part])
        torch.baddbmm(mask.expand_as(logits), some_q, some_k.mT, alpha=LOG2E, out=logits)
        attention = logits.sub_(lse[part].view(-1, TILE**2, 1)).exp2_()
        torch.bmm(some_g, some_v.mT, out=slopes).mul_(attention)
        slopes.addcmul_(attention, slopes.sum(-1, keepdim=True), value=-1)  # now of the logits
        dv.add(torch.bmm(attention.mT, some_g, out=some_v), planes, rows)
        dqueries[part] = torch.bmm(slopes, some_k, out=some_g).view(dqueries[part].shape)
        dk.add(torch.bmm(slopes.mT, some_q, out=some_k), planes, rows)
    return dq, dk.total, dv.total


def _tiles(q: Tensor) -> Tensor:
    """View of queries (P, H', W', d) as tiles (P, H' / t, W' / t, t, t, d)."""
    planes, height, width, d = q.shape
    return q.view(planes, height // TILE, TILE, width // TILE, TILE, d).transpose(2, 3)


def _regions(k: Tensor, q: Tensor, tiling: _Tiling) -> Tensor:
    """View of keys (P, H, W, d) as the overlapping regions of the tiles, (P, H' / t, W' / t, side, side, d)."""
    side, step = tiling.side, tiling.step
    regions = k.unfold(1, side, step).unfold(2, side, step).permute(0, 1, 2, 4, 5, 3)
    return regions[:, : q.shape[1] // TILE, : q.shape[2] // TILE]


def _fill(buffer: Tensor, source: Tensor) -> None:
    """Copy some tiles (p, r, columns, side, side, d) to a buffer (tiles, side side, d)."""
    buffer.view(source.shape).copy_(source)


class _Buffers:
    """Cuts the work into parts of a few tiles and lends memory for one part.

    Args:
        q: Queries (P, H', W', d).
        tiling: How tiles lie on the keys.
        kinds: What is needed: "q" and "k" for the queries and the keys of the tiles, "logits" for each of their pairs.
    """

    def __init__(self, q: Tensor, tiling: _Tiling, kinds: list[str]) -> None:
        self._planes, height, width, d = q.shape
        self._rows, self._columns = height // TILE, width // TILE
        queries, keys = TILE**2, tiling.side**2
        shapes = {"q": (queries, d), "k": (keys, d), "logits": (queries, keys)}
        self._shapes = [shapes[kind] for kind in kinds]
        needed = sum(a * b for a, b in self._shapes)
        budget = BUFFERED * torch.get_num_threads() if q.device.type == "cpu" else BUFFERED_ELSEWHERE
        self._tiles = max(1, budget // needed)
        self._like, self._lent = q, [q.new_empty(0)]

    def parts(self) -> Iterator[tuple[slice, slice]]:
        """Planes and rows of tiles in each part: rows of one plane, or several small planes whole."""
        rows = min(self._rows, max(1, self._tiles // self._columns))
        planes = max(1, self._tiles // (self._rows * self._columns)) if rows == self._rows else 1
        for plane in range(0, self._planes, planes):
            for row in range(0, self._rows, rows):
                yield slice(plane, min(plane + planes, self._planes)), slice(row, min(row + rows, self._rows))

    def take(self, planes: slice, rows: slice) -> list[Tensor]:
        """Memory for a part, one tensor (tiles, ...) of each kind; the last part's is used again."""
        tiles = (planes.stop - planes.start) * (rows.stop - rows.start) * self._columns
        if len(self._lent[0]) != tiles:
            self._lent = [self._like.new_empty(tiles, *shape) for shape in self._shapes]
        return self._lent


class _Overlap:
    """Adds up the overlapping regions of keys to a map `total`, which is at least as large as the keys."""

    def __init__(self, k: Tensor, q: Tensor, tiling: _Tiling) -> None:
        planes, height, width, d = k.shape
        self._side, self._step = tiling.side, tiling.step
        tiles = [n // TILE for n in q.shape[1:3]]
        spans = -(-self._side // self._step)  # a region is so many steps wide
        sizes = [max((n + spans - 1) * self._step, m) for n, m in zip(tiles, (height, width), strict=True)]
        self.total = k.new_zeros(planes, *sizes, d)
        self._columns = tiles[1]

    def add(self, regions: Tensor, planes: slice, rows: slice) -> None:
        """Add regions (tiles, side side, d): cut each at the steps, and the pieces of one kind lie side by side."""
        side, step, columns = self._side, self._step, self._columns
        d = regions.shape[-1]
        count = (planes.stop - planes.start, rows.stop - rows.start, columns)
        plane, row, column, _ = self.total.stride()
        target = (plane, step * row, step * column, row, column, 1)
        source = (count[1] * columns * side**2 * d, columns * side**2 * d, side**2 * d, side * d, d, 1)
        origin = planes.start * plane + rows.start * step * row
        for top in range(0, side, step):
            for left in range(0, side, step):
                size = (*count, min(step, side - top), min(step, side - left), d)
                piece = regions.as_strided(size, source, (top * side + left) * d)
                self.total.as_strided(size, target, origin + top * row + left * column).add_(piece)


def _check(q: Tensor, k: Tensor, v: Tensor, tiling: _Tiling) -> None:
    if min(tiling.kernel, tiling.dilation, tiling.stride) < 1:
        raise ValueError(f"kernel, dilation and stride are at least 1; got {tiling}")
    if q.dim() != 5 or k.shape != v.shape or q.shape[:3] != k.shape[:3]:
        raise ValueError(f"queries, keys and values do not belong together: {[tuple(t.shape) for t in (q, k, v)]}")
    if any(tiling.reach(n) > m for n, m in zip(q.shape[3:], k.shape[3:], strict=True)):
        raise ValueError(f"keys of {tuple(k.shape[3:])} are too few for queries of {tuple(q.shape[3:])} with {tiling}")
