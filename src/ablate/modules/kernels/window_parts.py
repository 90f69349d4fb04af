"""Attention inside windows, piece by piece: as fast as matrix products allow, and nothing large is ever made.

A window is taken for what is left of it inside the map: a rectangle, most of them whole, of a few sizes. So there is
nothing to pad, shift or mask. The rectangles of one size are done together, as many at once as stay in the cache, and
the backward pass makes the weights of attention anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ablate.modules.kernels.once import once
from ablate.modules.kernels.precision import wide_dtype

CHUNK = 2**19  # logits at once: 2 MB, which stay in the cache


class Span(NamedTuple):
    """Windows along one axis, one beside the other, whose parts inside the map are of one size; in pixels.

    There are `windows` of them, `step` apart. `query` and `key` are where the queries and keys of the first window
    begin, `queries` and `keys` how many each window has, `query_inset` and `key_inset` where they begin in a whole
    window. Pairs on two sides of the `seam`, a place in the window, are penalised.
    """

    windows: int
    step: int
    query: int
    queries: int
    query_inset: int
    key: int
    keys: int
    key_inset: int
    seam: int = 0


def spans(length: int, window: int, shift: int = 0, margin: int = 0) -> list[Span]:
    """Windows of an axis whose grid is moved by `shift`; their keys reach `margin` pixels beyond, inside the map."""
    joined: list[Span] = []
    for start in range(shift - window if shift else 0, length, window):
        query, key = max(start, 0), max(start - margin, 0)
        queries = min(start + window, length) - query
        keys = min(start + window + margin, length) - key
        new = Span(1, window, query, queries, query - start, key, keys, key - start + margin)
        if joined and joined[-1][3:5] == new[3:5] and joined[-1][6:] == new[6:]:
            joined[-1] = joined[-1]._replace(windows=joined[-1].windows + 1)
        else:
            joined.append(new)
    return joined


def rolled_spans(length: int, window: int, shift: int) -> list[Span]:
    """Windows of an axis that was rolled by `-shift`, a multiple of the window long; the last one has the seam."""
    whole = Span(length // window, window, 0, window, 0, 0, window, 0)
    if not shift:
        return [whole]
    last = whole._replace(windows=1, query=length - window, key=length - window, seam=window - shift)
    return [whole._replace(windows=whole.windows - 1), last] if whole.windows > 1 else [last]


def padded_spans(length: int, window: int, margin: int) -> list[Span]:
    """Windows of an axis with `margin` zeros added on both sides, which the keys of all windows reach into."""
    return [Span(length // window, window, margin, window, 0, 0, window + 2 * margin, 0)]


def attend_in_parts(
    qkv: Tensor, bias: Tensor, window: int, shift: int = 0, margin: int = 0, *, authors: bool = False
) -> Tensor:
    """Multi-head attention inside windows, (B, H, W, 3 * heads * d) to (B, H, W, heads * d).

    bias (N, M, heads) of whole windows. The windows are moved by `shift` pixels where there are several;
    their keys reach `margin` pixels beyond. For `authors` the map is rolled and all windows have to be whole: pairs
    across the seam get -100, and zeros beyond the border are keys and values. Logits and softmax are float32 at least.
    """
    height, width = qkv.shape[1:3]
    if not authors:
        rows, columns = (spans(n, window, shift if n > window else 0, margin) for n in (height, width))
        return attend_in_spans(qkv, bias, rows, columns)
    if margin:
        qkv = F.pad(qkv, (0, 0, margin, margin, margin, margin))
        rows, columns = (padded_spans(n, window, margin) for n in (height, width))
        return attend_in_spans(qkv, bias, rows, columns)[:, margin : margin + height, margin : margin + width]
    rows, columns = (rolled_spans(n, window, shift) for n in (height, width))
    qkv = qkv.roll((-shift, -shift), (1, 2)) if shift else qkv
    out = attend_in_spans(qkv, bias, rows, columns, penalty=-100.0)
    return out.roll((shift, shift), (1, 2)) if shift else out


def attend_in_spans(qkv: Tensor, bias: Tensor, rows: list[Span], columns: list[Span], penalty: float = 0.0) -> Tensor:
    """Do the same for given windows; the output of pixels that are no window's queries is arbitrary."""
    window = rows[0].step
    heads, outer = bias.shape[-1], round(bias.shape[1] ** 0.5)
    bias = bias.permute(2, 0, 1).reshape(heads, window, window, outer, outer)
    plan = _Plan(tuple(rows), tuple(columns), penalty)
    if qkv.device.type != "cpu":
        return _attend_by_sdpa(qkv.contiguous(), bias, plan)
    out: Tensor = _Attention.apply(qkv, bias, plan)
    return out


class _Piece(NamedTuple):
    """Windows of one kind, of some images, that are done at once."""

    image: int
    images: int
    row: Span
    column: Span

    def queries(self, x: Tensor, heads: int, part: int = 0, parts: int = 1) -> Tensor:
        """View of a map's part (B, H, W, parts * heads * d), (images, rows, columns, heads, h, w, d)."""
        row, column = self.row, self.column
        return self._cut(x, (row.query, column.query), (row.queries, column.queries), heads, part, parts)

    def keys(self, x: Tensor, heads: int, part: int = 0, parts: int = 1) -> Tensor:
        """View of a map's part as in `queries`; windows may overlap."""
        row, column = self.row, self.column
        return self._cut(x, (row.key, column.key), (row.keys, column.keys), heads, part, parts)

    def _cut(
        self, x: Tensor, start: tuple[int, int], size: tuple[int, int], heads: int, part: int, parts: int
    ) -> Tensor:
        per_image, down, right, _ = x.stride()  # channels are dense
        depth = x.shape[-1] // (heads * parts)
        row, column = self.row, self.column
        shape = (self.images, row.windows, column.windows, heads, *size, depth)
        stride = (per_image, row.step * down, column.step * right, depth, down, right, 1)
        first = self.image * per_image + start[0] * down + start[1] * right + part * heads * depth
        return x.as_strided(shape, stride, x.storage_offset() + first)


@dataclass(frozen=True)
class _Plan:
    rows: tuple[Span, ...]
    columns: tuple[Span, ...]
    penalty: float

    def pieces(self, batch: int, heads: int) -> Iterator[_Piece]:
        for row, column in product(self.rows, self.columns):
            logits = column.windows * heads * row.queries * column.queries * row.keys * column.keys
            rows = max(CHUNK // logits, 1)
            images = max(rows // row.windows, 1)
            for image, first in product(range(0, batch, images), range(0, row.windows, rows)):
                moved = first * row.step
                number = min(rows, row.windows - first)
                part = row._replace(windows=number, query=row.query + moved, key=row.key + moved)
                yield _Piece(image, min(images, batch - image), part, column)

    def bias(self, bias: Tensor, row: Span, column: Span) -> Tensor:
        """What is added to the logits of these windows, (heads, N, M), of (heads, window, window, outer, outer)."""
        part = _bias_part(bias, row, column)
        if row.seam or column.seam:
            down, across = (_apart(s, bias.device) for s in (row, column))
            part = part + self.penalty * (down[:, None, :, None] | across[:, None])
        return part.reshape(len(bias), row.queries * column.queries, row.keys * column.keys)


class _Space:
    """Memory that one piece after the other uses; what the system gives anew comes as fresh pages, slowly."""

    def __init__(self, like: Tensor) -> None:
        self.like, self.flat = like, dict[str, Tensor]()

    def take(self, name: str, *shape: int) -> Tensor:
        """Uninitialised tensor of this shape; what had the same name before is lost."""
        size = math.prod(shape)
        if name not in self.flat or self.flat[name].numel() < size:
            self.flat[name] = self.like.new_empty(size, dtype=wide_dtype(self.like.dtype))
        return self.flat[name][:size].view(shape)

    def by_head(self, name: str, x: Tensor) -> Tensor:
        """Copy (b, i, j, heads, h, w, d) to (b * i * j * heads, h * w, d)."""
        *windows, h, w, d = x.shape
        return self.take(name, *x.shape).copy_(x).view(math.prod(windows), h * w, d)

    def weights(self, q: Tensor, k: Tensor, bias: Tensor) -> Tensor:
        """Softmax of the logits of scaled queries, (windows * heads, N, M)."""
        heads, queries, keys = bias.shape
        logits = self.take("weights", len(q), queries, keys)
        logits.view(-1, heads, queries, keys).copy_(bias)
        return torch.softmax(logits.baddbmm_(q, k.transpose(1, 2)), -1, out=logits)


class _Attention(torch.autograd.Function):
    """Saves what it was given; the weights of attention are computed anew in the backward pass."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.float32)  # type: ignore[untyped-decorator]
    def forward(ctx: Any, qkv: Tensor, bias: Tensor, plan: _Plan) -> Tensor:
        qkv = qkv.contiguous()
        ctx.save_for_backward(qkv, bias)
        ctx.plan = plan
        heads, depth = len(bias), qkv.shape[-1] // (3 * len(bias))
        out = qkv.new_empty(*qkv.shape[:3], heads * depth)
        space = _Space(qkv)
        for piece in plan.pieces(len(qkv), heads):
            q = space.by_head("q", piece.queries(qkv, heads, 0, 3)).mul_(depth**-0.5)
            k = space.by_head("k", piece.keys(qkv, heads, 1, 3))
            v = space.by_head("v", piece.keys(qkv, heads, 2, 3))
            weights = space.weights(q, k, plan.bias(bias, piece.row, piece.column))
            _put(piece.queries(out, heads), torch.bmm(weights, v, out=q))
        return out

    @staticmethod
    @once
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients(ctx.plan, grad.contiguous(), *saved), None


def _gradients(plan: _Plan, grad: Tensor, qkv: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    heads, depth = len(bias), qkv.shape[-1] // (3 * len(bias))
    shared = bias.shape[3] > bias.shape[1]  # keys belong to several windows
    grad_qkv = (torch.zeros_like if shared else torch.empty_like)(qkv, dtype=wide_dtype(qkv.dtype))
    put = _add if shared else _put
    grad_bias = torch.zeros_like(bias, dtype=wide_dtype(bias.dtype))
    space = _Space(qkv)
    for piece in plan.pieces(len(qkv), heads):
        q = space.by_head("q", piece.queries(qkv, heads, 0, 3)).mul_(depth**-0.5)
        k = space.by_head("k", piece.keys(qkv, heads, 1, 3))
        v = space.by_head("v", piece.keys(qkv, heads, 2, 3))
        g = space.by_head("grad", piece.queries(grad, heads))
        added = plan.bias(bias, piece.row, piece.column)
        weights = space.weights(q, k, added)
        grad_logits = torch.bmm(g, v.transpose(1, 2), out=space.take("grad_logits", *weights.shape))
        put(piece.keys(grad_qkv, heads, 2, 3), torch.bmm(weights.transpose(1, 2), g, out=v), piece)
        torch.ops.aten._softmax_backward_data.out(grad_logits, weights, -1, weights.dtype, grad_input=grad_logits)
        part = _bias_part(grad_bias, piece.row, piece.column)
        part += grad_logits.view(-1, *added.shape).sum(0).view(part.shape)
        put(piece.keys(grad_qkv, heads, 1, 3), torch.bmm(grad_logits.transpose(1, 2), q, out=v), piece)
        _put(piece.queries(grad_qkv, heads, 0, 3), torch.bmm(grad_logits, k, out=g).mul_(depth**-0.5))
    return grad_qkv.to(qkv.dtype), grad_bias.to(bias.dtype)


def _put(into: Tensor, x: Tensor, _: object = None) -> None:
    """Write the values of windows into their view of a map."""
    into.copy_(x.view(into.shape))


def _add(into: Tensor, x: Tensor, piece: _Piece) -> None:
    """Add the values of windows to their view of a map, in turns where they have pixels in common."""
    x = x.view(into.shape)
    down, across = (-(-s.keys // s.step) for s in (piece.row, piece.column))
    for i, j in product(range(min(down, piece.row.windows)), range(min(across, piece.column.windows))):
        into[:, i::down, j::across].add_(x[:, i::down, j::across])


def _attend_by_sdpa(qkv: Tensor, bias: Tensor, plan: _Plan) -> Tensor:
    """The same by torch's attention, which picks a kernel for the device and differentiates the bias."""
    heads = len(bias)
    lines = []
    for row in plan.rows:
        line = []
        for column in plan.columns:
            piece = _Piece(0, len(qkv), row, column)
            cut = (piece.queries(qkv, heads, 0, 3), piece.keys(qkv, heads, 1, 3), piece.keys(qkv, heads, 2, 3))
            q, k, v = (rearrange(t, "b i j n h w d -> (b i j) n (h w) d") for t in cut)
            added = plan.bias(bias, row, column)[None].to(q.dtype)  # not expanded: torch pads what it is given
            mixed = F.scaled_dot_product_attention(q, k, v, added)
            sizes = {"i": row.windows, "j": column.windows, "h": row.queries}
            line.append(rearrange(mixed, "(b i j) n (h w) d -> b (i h) (j w) (n d)", **sizes))
        lines.append(torch.cat(line, 2))
    return torch.cat(lines, 1)


def _bias_part(bias: Tensor, row: Span, column: Span) -> Tensor:
    """View of the (heads, window, window, outer, outer) that the parts of windows inside the map have."""
    bias = bias.narrow(1, row.query_inset, row.queries).narrow(2, column.query_inset, column.queries)
    return bias.narrow(3, row.key_inset, row.keys).narrow(4, column.key_inset, column.keys)


def _apart(span: Span, device: torch.device) -> Tensor:
    """Which queries and keys of a window lie on two sides of its seam, (queries, keys)."""
    beyond = torch.arange(span.keys, device=device) >= (span.seam or span.keys)
    return beyond[:, None] != beyond
