"""What is traced is what is computed otherwise, also for inputs of other sizes than the example."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.fixtures.recorded_graphs import in_onnx_runtime, recorded
from torch import Tensor, nn

from ablate import modules
from ablate.modules.kernels import traced

EXAMPLE = (1, 16, 8, 8)
OTHERS = [(2, 16, 8, 8), (1, 16, 5, 12), (3, 16, 1, 1), (1, 16, 2, 9), (2, 16, 12, 20)]
MODULES: list[tuple[str, dict[str, Any]]] = [
    ("HMHA", {}),
    ("HMHA", {"rerank": "batch", "bias": True}),
    ("HMHA", {"rerank": "none"}),
    ("HMHA", {"cache": "paper"}),
    ("HMHA", {"cache": "authors", "fidelity": "authors"}),
    ("ACmix", {}),
    ("ACmix", {"kernel_att": 4, "dilation": 2, "fidelity": "authors"}),
    ("ACmix", {"stride": 2, "out_channels": 32}),
    ("StokenAttention", {}),
    ("StokenAttention", {"stoken_size": 1}),
    ("StokenAttention", {"stoken_size": (2, 3), "n_iter": 2}),
    ("StokenAttention", {"fidelity": "authors"}),
    ("RHAG", {}),
    ("RHAG", {"window_size": 3, "overlap_ratio": 0}),  # a shift by 1
    ("RHAG", {"window_size": 7, "depth": 3}),
    ("ConvBlock", {}),
    ("Identity", {}),
]
NAMES = [f"{name} {' '.join(map(str, options.values()))}".strip() for name, options in MODULES]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(name: str, options: dict[str, Any]) -> nn.Module:
    """A module whose every parameter has an effect."""
    module: nn.Module = getattr(modules, name)(16, **options).eval()
    for seed, parameter in enumerate(module.parameters()):
        parameter.data = 0.3 * noise(*parameter.shape, seed=seed)
    return module


WEIGHTS = noise(9)
OPERATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "places": lambda x: traced.places(x.shape[3], x),
    "from -1 to 1": lambda x: traced.from_minus_one_to_one(x.shape[3], x),
    "roll": lambda x: traced.roll(x, (-3, 2), (2, 3)),
    "gather": traced.gather_around,
    "scatter": lambda x: traced.scatter_around(x.flatten(2).mT[..., None] * WEIGHTS, x.shape[2], x.shape[3]),
    "unfold": lambda x: traced.unfold(traced.unfold(nn.functional.pad(x, (0, 4, 0, 4)), 2, 5, 2), 3, 5, 2),
    "divide up": lambda x: torch.zeros(traced.divide_up(x.shape[3], 4)),
    "if longer": lambda x: x + traced.if_longer(x.shape[3], 8, 3),
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_traced_form_of_an_operation_is_the_ordinary_one(name: str) -> None:
    operation = OPERATIONS[name]
    graph = recorded(operation, noise(*EXAMPLE))

    for shape in (EXAMPLE, *OTHERS):
        x = noise(*shape, seed=1)
        torch.testing.assert_close(graph(x), operation(x), rtol=0, atol=2e-7 if name == "from -1 to 1" else 0)


def test_the_traced_order_keeps_equal_numbers_in_order() -> None:
    graph = recorded(traced.descending_order, noise(1, 8))

    for batch in range(1, 4):
        score = noise(batch, 8, seed=batch).mul(2).round() / 2  # many are equal
        assert len(score.unique()) < score.numel()
        assert torch.equal(graph(score), traced.descending_order(score))
    assert torch.equal(graph(torch.zeros(2, 8)), torch.arange(8).expand(2, 8))


@pytest.mark.parametrize(("name", "options"), MODULES, ids=NAMES)
def test_a_traced_module_is_right_for_other_sizes_batches_and_devices(name: str, options: dict[str, Any]) -> None:
    module = built(name, options)
    for example in (EXAMPLE, *([] if options else [(1, 16, 1, 1)])):
        graph = recorded(module, noise(*example))
        assert 'Device = prim::Constant[value="cpu"]' not in str(graph.inlined_graph)
        for shape in OTHERS:
            x = noise(*shape, seed=1)
            with torch.no_grad():
                torch.testing.assert_close(graph(x), module(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "options"), MODULES[::2], ids=NAMES[::2])
def test_a_module_is_exported_to_onnx_for_any_size(name: str, options: dict[str, Any]) -> None:
    module = built(name, options)
    exported = in_onnx_runtime(module, noise(*EXAMPLE))
    for shape in (EXAMPLE, *OTHERS):
        x = noise(*shape, seed=1)
        with torch.no_grad():
            expected = module(x)
        torch.testing.assert_close(exported(x), expected, rtol=1e-4, atol=1e-4)
