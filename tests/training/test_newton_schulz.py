"""The orthogonalisation in float32 is Ultralytics' iteration, nearer to the exact one than bfloat16, with less work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from ultralytics.optim.muon import zeropower_via_newtonschulz5

from ablate.training import newton_schulz
from ablate.training.newton_schulz import CHUNK, Geometry, Plan


def exact(matrix: Tensor) -> Tensor:
    """The iteration in float64, written as its formula."""
    x = matrix.double()
    x = x / (x.norm() + 1e-7)
    if len(x) > x.shape[1]:
        return exact(matrix.mT).mT
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x


def orthogonalised(tensors: Sequence[Tensor], plan: Plan | None = None, *, rounded: bool = False) -> list[Tensor]:
    """Orthogonalise each tensor; return tensors of the same shapes."""
    plan = plan or Plan([Geometry.of(tensor) for tensor in tensors], tensors[0].device, rounded=rounded)
    results: dict[int, Tensor] = {}
    for chunk in plan.chunks:
        torch._foreach_copy_(chunk.inputs, [tensors[index] for index in chunk.indices])
        chunk.orthogonalise()
        results |= {index: y.clone() for index, y in zip(chunk.indices, chunk.outputs, strict=True)}
    assert sorted(results) == list(range(len(tensors)))
    return [results[index] for index in range(len(tensors))]


def with_spectrum(rows: int, columns: int, values: Callable[[int], Tensor]) -> Tensor:
    """Return a matrix with given singular values."""
    generator = torch.Generator().manual_seed(rows + columns)
    side = min(rows, columns)
    left = torch.linalg.qr(torch.randn(rows, side, dtype=torch.float64, generator=generator))[0]
    right = torch.linalg.qr(torch.randn(columns, side, dtype=torch.float64, generator=generator))[0]
    return ((left * values(side)) @ right.mT).float()


def distance(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


SHAPES = [(1, 1), (1, 7), (7, 1), (3, 5), (16, 144), (144, 16), (80, 80), (80, 64), (96, 160), (256, 9), (64, 1152)]
SPECTRA: dict[str, Callable[[int], Tensor]] = {
    "equal": lambda n: torch.ones(n, dtype=torch.float64),
    "three decades": lambda n: torch.logspace(0, -3, n, dtype=torch.float64),
    "eight decades": lambda n: torch.logspace(0, -8, n, dtype=torch.float64),
    "rank one": lambda n: (torch.arange(n) == 0).double(),
    "half of it small": lambda n: torch.where(torch.arange(n) < n / 2, 1.0, 1e-4).double(),
}


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("halved", [False, True])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_is_far_nearer_to_the_exact_iteration_than_bfloat16(
    shape: tuple[int, int], halved: bool, spectrum: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if halved:  # products of which the lower half is computed, as of large matrices
        monkeypatch.setattr(newton_schulz, "STRIPS_FROM", 3)
        monkeypatch.setattr(newton_schulz, "STRIP", 24)
    matrix = with_spectrum(*shape, SPECTRA[spectrum])
    expected = exact(matrix) * max(1, shape[0] / shape[1]) ** 0.5
    for found in orthogonalised([matrix, matrix.clone()]):
        assert distance(found, expected) < 1.5e-3
    stock = zeropower_via_newtonschulz5(matrix).float() * max(1, shape[0] / shape[1]) ** 0.5
    if spectrum != "equal" or min(shape) > 1:
        assert distance(orthogonalised([matrix])[0], expected) < distance(stock, expected) / 10


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rounded_to_bfloat16_it_is_as_far_from_the_exact_iteration_as_ultralytics_is(
    shape: tuple[int, int], spectrum: str
) -> None:
    matrix = with_spectrum(*shape, SPECTRA[spectrum])
    expected = exact(matrix)
    stock = zeropower_via_newtonschulz5(matrix).float()
    (ours,) = orthogonalised([matrix], rounded=True)
    ours /= max(1, shape[0] / shape[1]) ** 0.5
    away = distance(stock, expected)
    assert abs(distance(ours, expected) - away) <= 0.35 * away + 0.01
    assert distance(ours.bfloat16().float(), ours) < 1e-6 + 0.004 * (shape[0] > shape[1])  # scaled after the rounding


def test_rounded_to_bfloat16_a_gradient_s_direction_is_ultralytics_own() -> None:
    matrix = torch.randn(64, 576, generator=torch.Generator().manual_seed(0))
    stock = zeropower_via_newtonschulz5(matrix).float()
    assert distance(orthogonalised([matrix], rounded=True)[0], stock) < 0.01
    assert distance(orthogonalised([matrix])[0], stock) > 0.01


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_matrices_share_a_call_and_nothing_else(shape: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(shape, generator=generator) for _ in range(3)]
    tensors[1] *= 1e6
    together = orthogonalised([*tensors, torch.zeros(shape), torch.full(shape, float("nan"))])
    for one, alone in zip(together, tensors, strict=False):
        assert distance(one, orthogonalised([alone])[0]) < 1e-5
    assert together[3].count_nonzero() == 0
    assert together[4].isnan().all()


@pytest.mark.parametrize("shape", [(8, 4, 3, 3), (4, 8, 1, 1), (6, 5, 1, 7), (2, 3, 4), (5, 1, 3, 3)], ids=str)
def test_all_but_the_first_dimension_are_columns_in_any_order(shape: tuple[int, ...]) -> None:
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    scale = max(1, shape[-2] / shape[-1]) ** 0.5
    expected = (exact(tensor.flatten(1)) * scale).view(shape)
    layouts = [tensor, tensor.transpose(0, 1).contiguous().transpose(0, 1)]
    if len(shape) == 4:
        layouts.append(tensor.to(memory_format=torch.channels_last))
    for layout in layouts:
        found = orthogonalised([layout])[0]
        assert found.shape == layout.shape
        assert distance(found, expected) < 1e-5


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-7, 1e17])
def test_sizes_of_gradients_are_treated_as_by_the_formula(scale: float) -> None:
    matrix = torch.randn(12, 40, generator=torch.Generator().manual_seed(2)) * scale
    assert distance(orthogonalised([matrix])[0], exact(matrix)) < 1e-4


def test_a_plan_is_used_again_without_a_trace_of_what_it_had() -> None:
    generator = torch.Generator().manual_seed(3)
    tensors = [torch.randn(shape, generator=generator) for shape in SHAPES for _ in range(2)]
    plan = Plan([Geometry.of(tensor) for tensor in tensors], torch.device("cpu"))
    first = orthogonalised(tensors, plan)
    orthogonalised([torch.full_like(tensor, float("nan")) for tensor in tensors], plan)
    again = orthogonalised(tensors, plan)
    assert all(torch.equal(one, other) for one, other in zip(first, again, strict=True))


def test_memory_is_bounded_by_the_largest_matrix_or_a_chunk() -> None:
    meta = torch.device("meta")
    many = Plan([Geometry((32, 64), (64, 1), True)] * 500, meta)
    (size,) = {view.untyped_storage().nbytes() for chunk in many.chunks for view in chunk.inputs}
    assert len(many.chunks) == -(-500 * 32 * 64 // CHUNK)
    assert size <= 4 * CHUNK * (2 + 4 * 32 / 64 + 0.1)
    one = Plan([Geometry((1024, 9216), (9216, 1), True)], meta)
    assert one.chunks[0].inputs[0].untyped_storage().nbytes() == 4 * (2 * 1024 * 9216 + 4 * 1024**2)


def test_what_is_no_matrix_is_refused() -> None:
    with pytest.raises(ValueError, match="shape \\(7,\\)"):
        Plan([Geometry.of(torch.zeros(7))], torch.device("cpu"))


# -- work -------------------------------------------------------------------------------------------------------------


class Products(TorchDispatchMode):
    """Counts matrix products, their multiply-adds, and the tensors that are allocated."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0
        self.multiply_adds = 0
        self.others: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in ("mm", "bmm", "addmm", "baddbmm"):
            left, right = args[-2:]
            self.calls += 1
            self.multiply_adds += left.numel() * right.shape[-1]
        else:
            self.others[name] += 1
        return func(*args, **(kwargs or {}))


def count(geometries: Sequence[tuple[int, int]], *, rounded: bool = False) -> Products:
    single = [Geometry(shape, (shape[1], 1), True) for shape in geometries]
    plan = Plan(single, torch.device("cpu"), rounded=rounded)
    with Products() as products:
        for chunk in plan.chunks:
            for view in chunk.inputs:
                view.fill_(1.0)
            chunk.orthogonalise()
    return products


def test_where_one_side_outnumbers_the_other_the_large_matrix_is_touched_twice() -> None:
    n, m = 16, 640
    for shape in ((n, m), (m, n)):
        products = count([shape])
        assert products.calls == 19
        assert products.multiply_adds == 2 * n * n * m + 17 * n**3  # plain: 5 (2 n n m + n^3)


def test_square_matrices_take_three_products_a_step_and_equal_shapes_one_call() -> None:
    one, many = count([(40, 40)]), count([(40, 40)] * 10)
    assert (one.calls, many.calls) == (15, 15)
    assert (one.multiply_adds, many.multiply_adds) == (15 * 40**3, 150 * 40**3)


def test_of_large_symmetric_products_the_lower_half_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    n = 80
    monkeypatch.setattr(newton_schulz, "STRIPS_FROM", n)
    monkeypatch.setattr(newton_schulz, "STRIP", n // 8)
    assert count([(n, n)]).multiply_adds < (5 + 10 * 0.6) * n**3


def test_rounded_products_are_three_a_step_for_all_matrices_of_a_shape() -> None:
    assert count([(16, 640)] * 4, rounded=True).calls == 15
    assert count([(16, 640)] * 4, rounded=True).multiply_adds == 4 * 5 * (2 * 16 * 16 * 640 + 16**3)


@pytest.mark.parametrize("rounded", [False, True])
def test_nothing_is_allocated_but_the_norms(rounded: bool) -> None:
    others = count([(16, 640), (640, 16), (40, 40), (3, 5)], rounded=rounded).others
    assert not [
        name for name in others if name in ("empty", "zeros", "zeros_like", "empty_like", "clone", "mul", "add")
    ]
