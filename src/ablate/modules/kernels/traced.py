"""What a recorded graph needs other operations for: each such step, with the form that is recorded beside it.

`torch.jit.trace`, and `torch.onnx.export` by way of it, record the operations on one example. ONNX has no operation for
some of them (a stable sort, `fold`, `unfold` of a map of unknown size), and what Python decides by the example is
decided for every input. Inside a trace, whose sizes are tensors, these functions do the same with indices and
comparisons; outside of it they are torch's own operations.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def tracing() -> bool:
    """Tell whether a graph is recorded by an example; sizes are tensors then."""
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def exporting() -> bool:
    """Tell whether a graph is recorded, by an example or by `torch.export`."""
    by_torch_export = getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)  # one word before 2.7
    return tracing() or bool(by_torch_export())


def divide_up(count: int, size: int) -> int:
    """`count` / `size` rounded up, of numbers of at least 0: ONNX rounds -(-count // size) towards 0."""
    return (count + size - 1) // size


def if_longer(length: int, limit: int, number: int) -> int:
    """`number` where the length is over the limit, else 0; a traced graph decides anew for each input."""
    if tracing():
        is_longer: Any = length > limit  # a tensor there
        chosen: Any = torch.where(is_longer, number, 0)
        return chosen  # type: ignore[no-any-return]
    return number if length > limit else 0


def places(count: int, like: Tensor) -> Tensor:
    """Count from 0 to `count` - 1 on the device of `like`; a traced graph does so on the device that it runs on."""
    if tracing():
        return like.new_ones(count, dtype=torch.long).cumsum(0) - 1
    return torch.arange(count, device=like.device)


def from_minus_one_to_one(count: int, like: Tensor) -> Tensor:
    """Positions on an axis (count,), evenly from -1 to 1, with dtype and device of `like`; a single one is at -1."""
    if tracing():
        steps = count - 1 + (count == 1)
        return places(count, like).to(like.dtype) * 2 / steps - 1
    return torch.linspace(-1, 1, count, dtype=like.dtype, device=like.device)


def descending_order(score: Tensor) -> Tensor:
    """Indices (B, C) that sort each row from high to low; equal ones stay in order."""
    if not exporting():
        return score.argsort(dim=1, descending=True, stable=True)
    place = places(score.shape[1], score)
    mine, other = score[:, :, None], score[:, None]
    is_before = (other > mine) | ((other == mine) & (place < place[:, None]))  # (B, C, C)
    rank = is_before.long().sum(-1)  # (B, C), each number once
    return torch.zeros_like(rank).scatter(1, rank, place.expand_as(rank))


def roll(x: Tensor, shifts: tuple[int, int], dims: tuple[int, int]) -> Tensor:
    """`torch.roll` along two axes."""
    if not tracing():
        return x.roll(shifts, dims)
    for shift, dim in zip(shifts, dims, strict=True):
        size = x.shape[dim]
        x = x.index_select(dim, (places(size, x) - shift) % size)
    return x


def unfold(x: Tensor, dim: int, size: int, step: int) -> Tensor:
    """`Tensor.unfold`: windows along an axis, which is replaced by their number; their positions are the last axis."""
    if not exporting():
        return x.unfold(dim, size, step)
    starts = places((x.shape[dim] - size) // step + 1, x) * step
    index = starts[:, None] + places(size, x)
    windows = x.index_select(dim, index.flatten()).reshape(*x.shape[:dim], -1, size, *x.shape[dim + 1 :])
    return windows.movedim(dim + 1, -1)


def gather_around(cells: Tensor) -> Tensor:
    """Take for each cell the 3x3 cells around it, 0 beyond the border: (B, C, rows, cols) to (B, rows * cols, C, 9)."""
    if not exporting():
        around: Tensor = rearrange(F.unfold(cells, 3, padding=1), "b (c k) t -> b t c k", k=9)
        return around
    rows, cols = cells.shape[2:]
    padded = F.pad(cells, (1, 1, 1, 1))
    moved = [padded[:, :, i : i + rows, j : j + cols] for i in range(3) for j in range(3)]
    return torch.stack(moved, -1).flatten(2, 3).transpose(1, 2)


def scatter_around(parts: Tensor, rows: int, cols: int) -> Tensor:
    """Sum what each cell gives to the 3x3 cells around it: (B, rows * cols, C, 9) to (B, C, rows, cols)."""
    if not exporting():
        return F.fold(rearrange(parts, "b t c k -> b (c k) t"), (rows, cols), 3, padding=1)
    maps = rearrange(parts, "b (i j) c k -> k b c i j", i=rows)
    moved = [F.pad(maps[3 * i + j], (j, 2 - j, i, 2 - i)) for i in range(3) for j in range(3)]
    return sum(moved[1:], start=moved[0])[:, :, 1:-1, 1:-1]
