"""Sharing pixels out among super tokens, and reading the super tokens back, a few images at a time.

A group of images small enough for a core's caches is copied into cells (cells, n, C) and back; everything between is
batched matrix products of cells. Super tokens lie channels last inside a border of zeros, so that the 3x3 around a cell
are three runs of memory. The softmax runs over the middle of (cells, 9, n): along the last axis it could not be
vectorised.

For the backward pass only the input, the last association (9 numbers a pixel) and the super tokens of each round (one
n-th of the input each) are kept. It cannot be differentiated again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ablate.modules.kernels.once import once
from ablate.modules.kernels.precision import no_autocast, wide_dtype

TINY = 1e-12  # the authors' guard of the division by a super token's total association
GROUP_BYTES = 1 << 20  # of pixels worked on together, for each thread: with what is made of them they fit its caches


@dataclass(frozen=True)
class Cells:
    """A grid of cells of h x w pixels over a map of height x width; T = rows * cols cells of n = h * w pixels.

    With an open border the padded pixels and the super tokens beyond the border take part, as in the authors' code.
    """

    height: int
    width: int
    h: int
    w: int
    open_border: bool

    @property
    def rows(self) -> int:
        """How many cells lie one below the other."""
        return -(-self.height // self.h)

    @property
    def cols(self) -> int:
        """How many cells lie side by side."""
        return -(-self.width // self.w)

    @property
    def ragged(self) -> bool:
        """Whether some cells reach beyond the map."""
        return bool(self.height % self.h or self.width % self.w)

    def groups(self, x: Tensor) -> Iterator[slice]:
        """Cut the batch of `x` (B, C, height, width) into groups of images to work on together."""
        image = self.rows * self.cols * self.h * self.w * x.shape[1] * wide_dtype(x.dtype).itemsize
        size = max(1, GROUP_BYTES * torch.get_num_threads() // image)
        return (slice(first, first + size) for first in range(0, len(x), size))

    def pixels(self, x: Tensor) -> Tensor:
        """Copy maps (G, C, height, width) into cells (G * T, n, C), at least in float32, 0 where padded."""
        make = torch.zeros if self.ragged else torch.empty
        cells = make(
            (len(x), self.rows, self.cols, self.h, self.w, x.shape[1]), dtype=wide_dtype(x.dtype), device=x.device
        )
        for in_cells, in_map in self._parts(cells, x):
            in_cells.copy_(in_map)
        return cells.view(-1, self.h * self.w, x.shape[1])

    def put(self, pixels: Tensor, out: Tensor) -> None:
        """Copy cells (G * T, n, C) back into maps (G, C, height, width)."""
        for in_cells, in_map in self._parts(pixels.view(len(out), self.rows, self.cols, self.h, self.w, -1), out):
            in_map.copy_(in_cells)

    def _parts(self, cells: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Pair the whole cells with their pixels, then those that the map's lower and right edges cut."""
        for top, tall, h in _cuts(self.height, self.h):
            for left, across, w in _cuts(self.width, self.w):
                y, z = top * self.h, left * self.w
                part = x[:, :, y : y + tall * h, z : z + across * w]
                part = part.view(*x.shape[:2], tall, h, across, w).permute(0, 2, 4, 3, 5, 1)
                yield cells[:, top : top + tall, left : left + across, :h, :w], part

    def counts(self, like: Tensor) -> Tensor | int:
        """Count the pixels of each cell: a number, or (rows, cols, 1) where the cells differ."""
        if self.open_border or not self.ragged:
            return self.h * self.w
        tall, across = like.new_full((self.rows, 1, 1), self.h), like.new_full((self.cols, 1), self.w)
        tall[-1] -= self.rows * self.h - self.height
        across[-1] -= self.cols * self.w - self.width
        return tall * across

    def bordered(self, tokens: Tensor) -> Tensor:
        """Put super tokens (G, rows, cols, C) inside a border of zeros, (G, rows + 2, cols + 2, C)."""
        inside = tokens.new_zeros(len(tokens), self.rows + 2, self.cols + 2, tokens.shape[3])
        inside[:, 1:-1, 1:-1] = tokens
        return inside

    def gather(self, bordered: Tensor, scale: float = 1.0, out: Tensor | None = None) -> Tensor:
        """Take the 3x3 super tokens around each cell, times `scale`: `bordered` to (G * T, 9, C)."""
        (images, _, _, channels), (image, row, col, last) = bordered.shape, bordered.stride()
        shape = (images, self.rows, self.cols, 3, 3, channels)
        around = bordered.as_strided(shape, (image, row, col, row, col, last))
        if out is None:
            out = bordered.new_empty(images * self.rows * self.cols, 9, channels)
        torch.mul(around, scale, out=out.view(shape))
        return out

    def scatter(self, parts: Tensor) -> Tensor:
        """Sum what cells give to the 3x3 super tokens around: (G * T, 9, C), overwritten, to (G, rows, cols, C)."""
        parts = parts.view(-1, self.rows, self.cols, 3, 3, parts.shape[2])
        parts[:, :-1, :, 1].add_(parts[:, 1:, :, 0])  # what the cells below give upwards
        parts[:, 1:, :, 1].add_(parts[:, :-1, :, 2])
        middle = parts[:, :, :, 1]
        middle[:, :, :-1, 1].add_(middle[:, :, 1:, 0])  # what the cells to the right give to the left
        middle[:, :, 1:, 1].add_(middle[:, :, :-1, 2])
        return middle[:, :, :, 1]

    def associate(self, pixels: Tensor, around: Tensor, out: Tensor) -> Tensor:
        """Share pixels (G * T, n, C) out among the super tokens (G * T, 9, C), scaled, around: (G * T, 9, n)."""
        logits = torch.bmm(around, pixels.transpose(1, 2))
        if not self.open_border:
            beside = logits.view(-1, self.rows, self.cols, 3, 3, logits.shape[2])
            for beyond in (beside[:, 0, :, 0], beside[:, -1, :, 2], beside[:, :, 0, :, 0], beside[:, :, -1, :, 2]):
                beyond.fill_(-torch.inf)  # a cell's own super token always exists
        torch.softmax(logits, 1, out=out)
        if self.ragged and not self.open_border:  # padded pixels give nothing
            shares = out.view(-1, self.rows, self.cols, 9, self.h, self.w)
            shares[:, -1, :, :, self.height - self.rows * self.h + self.h :] = 0
            shares[:, :, -1, :, :, self.width - self.cols * self.w + self.w :] = 0
        return out


def associate(x: Tensor, cells: Cells, n_iter: int, scale: float, grad: bool) -> tuple[Tensor, Tensor]:
    """Average pixels into super tokens by association, in `n_iter` rounds.

    Args:
        x: (B, C, height, width).
        cells: The grid of which each cell starts one super token.
        n_iter: Rounds of association.
        scale: Factor of the inner products of pixels and super tokens.
        grad: Whether the gradient flows through the association too.

    Returns:
        The super tokens (B, rows, cols, C) and the association (B, T, 9, n) they were averaged by, at least in float32.
    """
    with no_autocast(x):
        tokens, association = _Associate.apply(x, cells, n_iter, scale, grad)
    return tokens, association


def hand_back(tokens: Tensor, association: Tensor, cells: Cells, like: Tensor) -> Tensor:
    """Mix super tokens (B, rows, cols, C) by association (B, T, 9, n) into a map of the shape and type of `like`."""
    with no_autocast(like):
        tokens = tokens.to(association.dtype)
        out: Tensor = _HandBack.apply(tokens, association, cells, like.dtype, _layout(like))
    return out


class _Associate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, cells: Cells, n_iter: int, scale: float, grad: bool) -> tuple[Tensor, Tensor]:
        batch, grid = len(x), (cells.rows, cells.cols)
        rounds = [_like(x, batch, cells.rows + 2, cells.cols + 2, x.shape[1]).zero_() for _ in range(n_iter)]
        rounds.append(_like(x, batch, *grid, x.shape[1]))
        masses = [_like(x, batch, *grid, 1) for _ in range(n_iter)]
        association = _like(x, batch, cells.rows * cells.cols, 9, cells.h * cells.w)
        counts = cells.counts(association)

        for group in cells.groups(x):
            pixels = cells.pixels(x[group])
            shares = association[group].flatten(0, 1)
            first = rounds[0][group][:, 1:-1, 1:-1]
            torch.div(pixels.sum(1).view(first.shape), counts, out=first)
            for t, mass in enumerate(masses):
                around = cells.gather(rounds[t][group], scale)
                cells.associate(pixels, around, out=shares)
                torch.add(cells.scatter(shares.sum(2, keepdim=True)), TINY, out=mass[group])
                total = cells.scatter(torch.bmm(shares, pixels, out=around))
                after = rounds[t + 1][group]
                torch.div(total, mass[group], out=after if t == n_iter - 1 else after[:, 1:-1, 1:-1])

        ctx.cells, ctx.scale, ctx.n_iter, ctx.kind = cells, scale, n_iter, (x.dtype, _layout(x))
        if grad:
            ctx.save_for_backward(association, *masses, x, *rounds)
        else:
            ctx.save_for_backward(association, masses[-1])
            ctx.mark_non_differentiable(association)
        return rounds[-1], association

    @staticmethod
    @once
    def backward(
        ctx: Any, tensors: tuple[Tensor, ...], grad_tokens: Tensor, grad_association: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        association, *saved = tensors
        cells: Cells = ctx.cells
        dtype, layout = ctx.kind
        shape = (len(grad_tokens), grad_tokens.shape[3], cells.height, cells.width)
        grad_x = torch.empty(shape, dtype=dtype, device=grad_tokens.device, memory_format=layout)
        with no_autocast(grad_tokens):
            for group in cells.groups(grad_x):
                if len(saved) == 1:  # the association has no gradient
                    around = cells.gather(cells.bordered(grad_tokens[group] / saved[0][group]))
                    grad = torch.bmm(association[group].flatten(0, 1).transpose(1, 2), around)
                else:
                    masses, x, rounds = saved[: ctx.n_iter], saved[ctx.n_iter], saved[ctx.n_iter + 1 :]
                    grad = _through_association(
                        cells,
                        ctx.scale,
                        cells.pixels(x[group]),
                        association[group].flatten(0, 1),
                        [tokens[group] for tokens in rounds],
                        [mass[group] for mass in masses],
                        grad_tokens[group],
                        None if grad_association is None else grad_association[group].flatten(0, 1),
                    )
                cells.put(grad, grad_x[group])
        return grad_x, None, None, None, None


def _through_association(
    cells: Cells,
    scale: float,
    pixels: Tensor,
    association: Tensor,
    rounds: list[Tensor],
    masses: list[Tensor],
    grad_tokens: Tensor,
    grad_shares: Tensor | None,
) -> Tensor:
    """Compute the gradient of a group's pixels (G * T, n, C) from those of its super tokens and last association.

    Each round takes the gradient of the super tokens it made to that of those it started from.
    """
    number, n, channels = pixels.shape
    shares = pixels.new_empty(number, 18, n)  # the association, then the gradient of its logits
    around = pixels.new_empty(number, 18, channels)  # the gradients of the sums cells give to, then the super tokens
    grad_pixels = None
    last = len(masses) - 1
    for t in range(last, -1, -1):
        after = rounds[t + 1] if t == last else rounds[t + 1][:, 1:-1, 1:-1]
        grad_total = grad_tokens / masses[t]
        grad_mass = (grad_total * after).sum(3, keepdim=True).neg_()
        totals = cells.gather(cells.bordered(grad_total), out=around[:, :9])
        before = cells.gather(rounds[t], scale, out=around[:, 9:])
        if t < last:
            association = cells.associate(pixels, before, torch.empty_like(association))
        weighted = torch.bmm(totals, pixels.transpose(1, 2)).add_(cells.gather(cells.bordered(grad_mass)))
        if t == last and grad_shares is not None:
            weighted.add_(grad_shares)
        weighted.mul_(association)
        shares[:, :9] = association
        torch.addcmul(weighted, association, weighted.sum(1, keepdim=True), value=-1, out=shares[:, 9:])
        if grad_pixels is None:
            grad_pixels = torch.bmm(shares.transpose(1, 2), around)
        else:
            grad_pixels.baddbmm_(shares.transpose(1, 2), around)
        grad_tokens = cells.scatter(torch.bmm(shares[:, 9:], pixels, out=around[:, :9])).mul_(scale)
    assert grad_pixels is not None  # there is at least one round
    return grad_pixels.add_((grad_tokens / cells.counts(grad_tokens)).view(number, 1, channels))


class _HandBack(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, tokens: Tensor, association: Tensor, cells: Cells, dtype: torch.dtype, layout: torch.memory_format
    ) -> Tensor:
        shape = (len(tokens), tokens.shape[3], cells.height, cells.width)
        out = torch.empty(shape, dtype=dtype, device=tokens.device, memory_format=layout)
        for group in cells.groups(out):
            shares = association[group].flatten(0, 1)
            around = cells.gather(cells.bordered(tokens[group]))
            cells.put(torch.bmm(shares.transpose(1, 2), around), out[group])
        ctx.cells = cells
        ctx.save_for_backward(tokens, association)
        return out

    @staticmethod
    @once
    def backward(ctx: Any, saved: tuple[Tensor, ...], grad_out: Tensor) -> tuple[Tensor | None, ...]:
        tokens, association = saved
        cells: Cells = ctx.cells
        grad_tokens = torch.empty_like(tokens)
        grad_association = torch.empty_like(association) if ctx.needs_input_grad[1] else None
        with no_autocast(tokens):
            for group in cells.groups(grad_out):
                pixels = cells.pixels(grad_out[group])
                if grad_association is not None:
                    around = cells.gather(cells.bordered(tokens[group]))
                    torch.bmm(around, pixels.transpose(1, 2), out=grad_association[group].flatten(0, 1))
                grad_tokens[group] = cells.scatter(torch.bmm(association[group].flatten(0, 1), pixels))
        return grad_tokens, grad_association, None, None, None


def _like(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=wide_dtype(x.dtype), device=x.device)


def _layout(x: Tensor) -> torch.memory_format:
    last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if last else torch.contiguous_format


def _cuts(length: int, size: int) -> list[tuple[int, int, int]]:
    """Cut a side into whole cells and a rest: (first cell, how many cells, their size), without empty ones."""
    whole, rest = divmod(length, size)
    return [cut for cut in ((0, whole, size), (whole, 1, rest)) if cut[1] and cut[2]]
