"""Newton-Schulz orthogonalisation in float32: the products that are needed, and no more.

The iteration is that of Muon (Jordan et al., https://kellerjordan.github.io/posts/muon/) with the coefficients, the
number of steps and the normalisation of Ultralytics' MuSGD, which computes it in bfloat16: for each matrix
``X <- X / (|X| + eps)``, then five times ``X <- (a I + b A + c A A) X`` with ``A = X X'``. What is done differently:

- Matrices of equal shape share a call; none is padded.
- Where rows outnumber columns, ``A = X' X`` and the polynomial stands on the right: nothing is transposed.
- Where one side outnumbers the other (`GRAM_FROM`), the iteration runs on the small matrix ``A`` alone. All factors
  are polynomials of the same symmetric matrix, so they commute: ``A <- P A P`` and ``Q <- Q P`` with
  ``P = a I + b A + c A A``, and ``X <- Q X`` once at the end. Four small products a step for one small and two large
  ones. The error is at most 1e-3 of the result in float32, with singular values from 1 to 1e-8, where bfloat16's own
  is 2e-2 to 2; see tests/training/test_newton_schulz.py.
- Of a large ``X X'``, and of ``A A`` after it, the lower half is computed and mirrored. Not so where the iteration runs
  on ``A`` alone: ``P A P`` is symmetric only up to rounding, and mirroring lets that grow a hundredfold and more.
- A plan keeps its memory, so that nothing is allocated from step to step.

On request every intermediate value is rounded to bfloat16, as a product in bfloat16 with sums in float32 leaves it: the
result is then that of Ultralytics up to the order of the sums. The iteration never runs on ``A`` alone in that case,
because other values would be rounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import sqrt

import torch
from torch import Tensor

IDENTITY, LINEAR, QUADRATIC = 3.4445, -4.7750, 2.0315  # a, b, c
STEPS = 5
EPSILON = 1e-7

GRAM_FROM = 1.5  # 5 (2 r + 1) products of n^3 against 2 r + 17, with sides n and r n: fewer from here on
STRIPS_FROM = 512  # rows of a symmetric product, on a CPU, from which half of it is worth the copying
STRIP = 128  # rows of such a half that are computed at a time
CHUNK = 2**18  # values that are worked on at a time (1 MB), unless one matrix has more: what stays in a cache
ALIGNED = 16  # float32 values (64 bytes): libraries round by where the data lies, and it must lie there again


@dataclass(frozen=True)
class Geometry:
    """What of a tensor the work on it depends on.

    Attributes:
        shape: At least two dimensions; all but the first are the columns of its matrix.
        stride: As the tensor has it.
        single: Whether it is a float32 tensor.
    """

    shape: tuple[int, ...]
    stride: tuple[int, ...]
    single: bool

    @classmethod
    def of(cls, tensor: Tensor) -> Geometry:
        """Return the geometry of a tensor."""
        return cls(tuple(tensor.shape), tensor.stride(), tensor.dtype == torch.float32)

    @property
    def matrix(self) -> tuple[int, int]:
        """Rows and columns.

        Raises:
            ValueError: The tensor has fewer than two dimensions.
        """
        if len(self.shape) < 2:
            raise ValueError(f"a tensor of shape {self.shape} is no matrix and cannot be orthogonalised")
        return self.shape[0], torch.Size(self.shape[1:]).numel()

    @property
    def scale(self) -> float:
        """The factor of the update: Ultralytics takes the last two dimensions, so it is 1 for square kernels."""
        return sqrt(max(1.0, self.shape[-2] / self.shape[-1]))

    def strides_of_rows(self) -> tuple[int, ...]:
        """Return strides by which the tensor fills a matrix row after row: its own (NCHW, NHWC), else NCHW.

        Another order of the columns is the same order of the orthogonalised columns.
        """
        example = torch.empty(self.shape, device="meta")
        if (
            len(self.shape) == 4
            and self.stride == torch.empty_like(example, memory_format=torch.channels_last).stride()
        ):
            return self.stride
        return example.stride()


class Plan:
    """How tensors of these geometries are orthogonalised on a device, and the memory for it.

    Args:
        geometries: One for each tensor, in the order in which their indices count.
        device: Where they are.
        rounded: Whether intermediate values are rounded to bfloat16.

    Attributes:
        chunks: What is worked on at a time; together they have every index once.

    Raises:
        ValueError: A tensor has fewer than two dimensions.
    """

    def __init__(self, geometries: Sequence[Geometry], device: torch.device, *, rounded: bool = False) -> None:
        layouts = list(_layouts(geometries, gram=not rounded))
        values = max((layout.values() for layout in layouts), default=0)
        scratch = torch.empty(values, dtype=torch.float32, device=device)  # each chunk uses it anew
        self.chunks = [Chunk(layout, geometries, scratch, rounded=rounded) for layout in layouts]


@dataclass(frozen=True)
class _Layout:
    """Which tensors a chunk has.

    Attributes:
        side: Rows and columns of their Gram matrices.
        gram: Whether the iteration runs on these alone.
        batches: By shape of the matrix and scale the indices of the tensors.
    """

    side: int
    gram: bool
    batches: dict[tuple[int, int, float], list[int]]

    def pieces(self) -> list[tuple[int, int, int]]:
        """Return the shapes of all tensors that are needed: a pair for each batch, then the square ones."""
        pairs = [(len(indices), rows, columns) for (rows, columns, _), indices in self.batches.items() for _ in "io"]
        count = sum(len(indices) for indices in self.batches.values())
        return pairs + [(count, self.side, self.side)] * (4 if self.gram else 2)

    def values(self) -> int:
        """Return how many values they have, each beginning at an aligned place."""
        return sum(_aligned(torch.Size(piece).numel()) for piece in self.pieces())


def _layouts(geometries: Sequence[Geometry], *, gram: bool) -> Iterable[_Layout]:
    """Sort tensors into chunks: by the side of their Gram matrices; one shape only where that is not iterated on.

    Args:
        geometries: Of the tensors.
        gram: Whether Gram matrices may be iterated on.
    """
    by_shape: dict[tuple[int, int, float], list[int]] = {}
    for index, geometry in enumerate(geometries):
        by_shape.setdefault((*geometry.matrix, geometry.scale), []).append(index)
    chunks: dict[tuple[int, object], list[_Layout]] = {}
    for shape, indices in by_shape.items():
        side, longer = min(shape[:2]), max(shape[:2])
        on_gram = gram and longer > GRAM_FROM * side
        chunk = chunks.setdefault((side, None if on_gram else shape), [])
        for index in indices:
            size = 0 if not chunk else sum(r * c * len(i) for (r, c, _), i in chunk[-1].batches.items())
            if not chunk or size + side * longer > CHUNK:
                chunk.append(_Layout(side, on_gram, {}))
            chunk[-1].batches.setdefault(shape, []).append(index)
    return [layout for chunk in chunks.values() for layout in chunk]


class Chunk:
    """Tensors that are orthogonalised together. Its memory is shared with other chunks: fill, compute and use it.

    Attributes:
        indices: The tensors' indices.
        inputs: For each, a tensor of its shape to put into what is to be orthogonalised.
        outputs: For each, a tensor of its shape in which the result, scaled, stands after `orthogonalise`.
        single: Whether all are float32 tensors.
    """

    def __init__(self, layout: _Layout, geometries: Sequence[Geometry], scratch: Tensor, *, rounded: bool) -> None:
        self.indices = [index for indices in layout.batches.values() for index in indices]
        self.inputs: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.single = all(geometries[index].single for index in self.indices)
        pieces = _carve(layout.pieces(), scratch)
        pairs, square = pieces[: 2 * len(layout.batches)], pieces[2 * len(layout.batches) :]
        self._gram = layout.gram
        self._rounded = rounded
        self._square = square
        self._batches: list[_Batch] = []
        first = 0
        for (shape, indices), x, y in zip(layout.batches.items(), pairs[::2], pairs[1::2], strict=True):
            last = first + len(indices)
            self._batches.append(_Batch(x, y, slice(first, last), shape[2]))
            for position, index in enumerate(indices):
                geometry = geometries[index]
                strides = geometry.strides_of_rows()
                for views, matrices in ((self.inputs, x), (self.outputs, y)):
                    offset = matrices[position].storage_offset()
                    views.append(matrices.as_strided(geometry.shape, strides, offset))
            first = last

    def orthogonalise(self) -> None:
        """Orthogonalise `inputs` into `outputs`; neither `inputs` nor those of other chunks are of use afterwards."""
        for batch in self._batches:
            batch.normalise(rounded=self._rounded)
        if self._gram:
            self._iterate_on_gram()
        else:
            self._iterate(self._batches[0])
        for batch in self._batches:
            if batch.scale != 1:
                batch.y.mul_(batch.scale)

    def _iterate(self, batch: _Batch) -> None:
        """Iterate on the matrices of the one batch: two small or symmetric products a step, and a full one."""
        a, p = self._square
        x, y = batch.x, batch.y
        for _ in range(STEPS):
            batch.gram(x, out=a)
            if self._rounded:
                _round(a, through=y)
            _symmetric(a, a, out=p, alpha=QUADRATIC, plus=a, beta=LINEAR)
            if self._rounded:
                _round(p, through=y)
            batch.apply(p, x, out=y, beta=IDENTITY)
            if self._rounded:
                _round(y, through=x)
            x, y = y, x
        if y is batch.y:  # after an even number of steps
            batch.y.copy_(batch.x)

    def _iterate_on_gram(self) -> None:
        """Iterate on the Gram matrices of all batches, and apply what comes out to the matrices themselves."""
        a, p, q, spare = self._square
        for batch in self._batches:
            batch.gram(batch.x, out=a[batch.part])
        for step in range(STEPS):
            factor = p if step else q
            torch.baddbmm(a, a, a, beta=LINEAR, alpha=QUADRATIC, out=factor)
            factor.diagonal(dim1=1, dim2=2).add_(IDENTITY)
            if step < STEPS - 1:
                torch.bmm(factor, a, out=spare)
                torch.bmm(spare, factor, out=a)
            if step:
                torch.bmm(q, p, out=spare)
                q, spare = spare, q
        for batch in self._batches:
            batch.apply(q[batch.part], batch.x, out=batch.y)


@dataclass(frozen=True)
class _Batch:
    """Matrices of one shape: where they stand, where the result goes, which part of the square tensors is theirs."""

    x: Tensor
    y: Tensor
    part: slice
    scale: float

    def normalise(self, *, rounded: bool) -> None:
        """Divide each matrix by its Frobenius norm, so that no singular value exceeds 1."""
        if rounded:
            _round(self.x, through=self.y)
        norm = torch.linalg.vector_norm(self.x, dim=(1, 2), keepdim=True)
        if rounded:
            norm = norm.bfloat16().add_(EPSILON).float()
        else:
            norm.add_(EPSILON)
        self.x.div_(norm)
        if rounded:
            _round(self.x, through=self.y)

    def gram(self, x: Tensor, out: Tensor) -> None:
        """Compute X X', or X' X where rows outnumber columns."""
        if x.shape[1] > x.shape[2]:
            _symmetric(x.mT, x, out=out)
        else:
            _symmetric(x, x.mT, out=out)

    def apply(self, factor: Tensor, x: Tensor, out: Tensor, beta: float = 0.0) -> None:
        """Multiply by a symmetric matrix on the shorter side, and add x times beta."""
        left, right = (x, factor) if x.shape[1] > x.shape[2] else (factor, x)
        torch.baddbmm(x, left, right, beta=beta, out=out)


def _round(values: Tensor, through: Tensor) -> None:
    """Round to bfloat16, by way of memory whose content is of no use any more and which is at least as large."""
    narrow = through.view(-1).view(torch.bfloat16)[: values.numel()].view(values.shape)
    values.copy_(narrow.copy_(values))


def _symmetric(
    left: Tensor, right: Tensor, out: Tensor, *, alpha: float = 1.0, plus: Tensor | None = None, beta: float = 0.0
) -> None:
    """Compute ``alpha * left @ right + beta * plus``, (K, n, n); right is left transposed; a large one by half."""
    plus = out if plus is None else plus
    size = out.shape[1]
    if size < STRIPS_FROM or out.device.type != "cpu":
        torch.baddbmm(plus, left, right, beta=beta, alpha=alpha, out=out)
        return
    for rows, columns, addend, result in zip(left, right, plus, out, strict=True):
        for start in range(0, size, STRIP):
            end = min(start + STRIP, size)
            lower = result[start:end, :end]
            torch.addmm(addend[start:end, :end], rows[start:end], columns[:, :end], beta=beta, alpha=alpha, out=lower)
            result[:start, start:end].copy_(lower[:, :start].mT)


def _carve(shapes: Sequence[tuple[int, int, int]], scratch: Tensor) -> list[Tensor]:
    """Return tensors of these shapes within a flat one, one behind the other."""
    tensors, start = [], 0
    for shape in shapes:
        count = torch.Size(shape).numel()
        tensors.append(scratch[start : start + count].view(shape))
        start += _aligned(count)
    return tensors


def _aligned(count: int) -> int:
    return -(-count // ALIGNED) * ALIGNED
