"""ACmix's two forms and the paper's literal one compute the same, gradients included."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ablate.modules import acmix
from ablate.modules.acmix import ACmix
from ablate.modules.kernels import neighbourhood
from ablate.modules.kernels.neighbourhood import neighbourhood_attention
from ablate.modules.kernels.switch import composed
from ablate.verifying.reference.plain_acmix import PlainACmix

GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("acmix_*.npz"))
FORMS: list[tuple[type[ACmix], Any]] = [(ACmix, True), (ACmix, False), (PlainACmix, False)]
OPTIONS: list[dict[str, Any]] = [
    {},
    {"fidelity": "authors"},
    {"heads": 1},
    {"heads": 8, "kernel_att": 3},
    {"kernel_att": 4, "stride": 2},
    {"kernel_att": 3, "dilation": 2},
    {"kernel_att": 4, "dilation": 3, "stride": 2, "heads": 2},
    {"kernel_att": 2, "kernel_conv": 4, "stride": 3},
    {"kernel_att": 1, "kernel_conv": 1, "stride": 5},
    {"kernel_conv": 5, "heads": 2, "out_channels": 12},
    {"kernel_conv": 2, "kernel_att": 5, "out_channels": 24},
]
SIZES = [(1, 1, 1), (2, 1, 6), (1, 4, 4), (3, 5, 2), (2, 9, 14), (1, 21, 16)]


@pytest.fixture(autouse=True, params=["tiles"])
def small(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The pixels up to which all pairs are made: by default none, so that small maps test the tiles."""
    pixels = {"tiles": 0, "all pairs": 10**9}[request.param]
    monkeypatch.setattr(acmix, "SMALL", pixels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield pixels


both = pytest.mark.parametrize("small", ["tiles", "all pairs"], indirect=True)


def forms(dtype: torch.dtype = torch.float64, channels: int = 8, **options: Any) -> list[ACmix]:
    """The fused, the composed and the plain module, with the same random parameters."""
    modules = [kind(channels, fused=fused, **options).to(dtype) for kind, fused in FORMS]
    with torch.no_grad():
        for parameter in modules[0].parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    for module in modules[1:]:
        module.load_state_dict(modules[0].state_dict())
    return modules


def run(module: ACmix, x: Tensor, cotangent: Tensor | None = None) -> dict[str, Tensor]:
    """Output and gradients; the cotangent is random but the same for one shape."""
    module.zero_grad()
    x = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y = module(x)
    if cotangent is None:
        cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(y.dtype)
    y.backward(cotangent)
    found = {name: parameter.grad for name, parameter in module.named_parameters()}
    return {"y": y.detach(), "x": x.grad, **found}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    """Equal up to a part of the largest entry; up to a part of its neighbours', where a sum cancels by definition."""
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        peers = {"conv_p.bias": ["conv_p.weight"], "conv2.bias": ["conv1.bias", "conv2.bias", "conv3.bias"]}
        scale = max(expected[peer].abs().max() for peer in peers.get(name, [name])).clamp(min=1e-3)
        assert found[name].dtype == tensor.dtype, name
        assert found[name].shape == tensor.shape, name
        error = float((found[name] - tensor).abs().max() / scale)
        assert error < tolerance, (name, error)


@both
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_forms_agree_in_values_and_gradients(options: dict[str, Any], size: tuple[int, int, int]) -> None:
    x = torch.randn(size[0], 8, *size[1:], dtype=torch.float64)
    fused, composed_, plain = (run(module, x) for module in forms(**options))
    assert_same(fused, plain, 1e-10)
    assert_same(composed_, plain, 1e-10)


@pytest.mark.parametrize("shape", [(2, 32, 19, 23), (1, 16, 40, 40), (4, 64, 8, 8)], ids=str)
def test_the_forms_agree_in_float32(shape: tuple[int, ...]) -> None:
    modules = forms(torch.float32, channels=shape[1])
    x = torch.randn(shape)
    exact = run(copy.deepcopy(modules[2]).double(), x.double())
    found = [run(module, x) for module in modules]
    for outcome in found:
        assert_same({k: t.double() for k, t in outcome.items()}, exact, 1e-5)
    assert float((found[0]["y"] - found[2]["y"]).abs().max() / found[2]["y"].abs().max()) < 2e-6


@pytest.mark.parametrize("fused", [True, False, "auto"])
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_every_form_equals_the_authors(path: Path, fused: Any) -> None:
    with np.load(path) as golden:
        data = {key: torch.from_numpy(golden[key]).double() for key in golden.files if key != "config"}
        config = json.loads(str(golden["config"]))
    module = ACmix.from_authors(**config["kwargs"]).double().eval()
    assert module.fused == "auto"
    module.fused = fused
    module.load_state_dict({k.removeprefix("param:"): v for k, v in data.items() if k.startswith("param:")})
    expected = {"y": data["y"], "x": data["grad_x"]}
    expected |= {name: data[f"grad:{name}"] for name, _ in module.named_parameters()}
    assert_same(run(module, data["x"], data["cotangent"]), expected, 1e-11)


@pytest.mark.parametrize("numbers", [1, 20_000, 10**9])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_parts_that_the_work_is_cut_into_do_not_matter(
    monkeypatch: pytest.MonkeyPatch, numbers: int, threads: int
) -> None:
    module, x = forms()[0], torch.randn(3, 8, 13, 18, dtype=torch.float64)
    expected = run(module, x)
    monkeypatch.setattr(neighbourhood, "BUFFERED", numbers)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    assert_same(run(module, x), expected, 1e-12)


def test_the_fused_form_is_taken_by_default_and_only_where_it_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    monkeypatch.setattr(ACmix, "_fused", lambda self, x: taken.append(True) or x)
    x = torch.randn(1, 16, 8, 8)
    ACmix(16)(x)
    assert len(taken) == 1
    ACmix(16, fused=False)(x)
    with composed():
        ACmix(16, fused=True)(x)
    ACmix(16, fused=True).to("meta")(x.to("meta"))
    torch.export.export(ACmix(16, kernel_att=2, fused=True), (x,))
    assert len(taken) == 1


def test_an_unknown_form_is_named_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="fused must be one of auto, true, false; got 'yes'"):
        ACmix(16, fused="yes")  # type: ignore[arg-type]


# --- layouts, dtypes, modes ---


@both
@pytest.mark.parametrize("kind", ["channels_last", "strided", "transposed", "expanded"])
def test_any_layout_gives_the_same(kind: str) -> None:
    (module, _, plain), x = forms(), torch.randn(2, 8, 9, 7, dtype=torch.float64)
    other = {
        "channels_last": x.contiguous(memory_format=torch.channels_last),
        "strided": torch.randn(2, 16, 18, 14, dtype=torch.float64)[:, ::2, ::2, ::2],
        "transposed": x.mT.contiguous().mT,
        "expanded": x[:1].expand(3, -1, -1, -1),
    }[kind]
    found = module(other)
    torch.testing.assert_close(found, module(other.contiguous()))
    torch.testing.assert_close(found, plain(other))
    assert found.is_contiguous(memory_format=torch.channels_last) == (kind == "channels_last")


def test_a_gradient_of_any_layout_gives_the_same() -> None:
    module, x = forms()[0], torch.randn(2, 8, 9, 7, dtype=torch.float64)
    g = torch.randn(2, 8, 9, 7, dtype=torch.float64)
    expected = run(module, x, g)
    assert_same(run(module, x, g.contiguous(memory_format=torch.channels_last)), expected, 1e-12)
    assert_same(run(module, x, torch.stack([g, g], -1)[..., 0]), expected, 1e-12)
    ones = run(module, x, torch.ones_like(g))
    assert_same(run(module, x, torch.ones((), dtype=torch.float64).expand_as(g)), ones, 1e-12)


@both
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_as_near_to_float64_as_the_composed_form(dtype: torch.dtype) -> None:
    modules = forms(torch.float32, channels=16)[:2]
    x = torch.randn(2, 16, 9, 10)
    exact = run(copy.deepcopy(modules[1]).double(), x.double())
    for name in ("y", "x"):
        errors = []
        for module in modules:
            found = run(copy.deepcopy(module).to(dtype), x.to(dtype))[name]
            assert found.dtype == dtype
            errors.append(float((found.double() - exact[name]).abs().max() / exact[name].abs().max()))
        assert errors[0] < 2 * errors[1] < 0.2, (name, errors)


@both
def test_under_autocast_it_is_near_float32_and_gradients_keep_their_dtype() -> None:
    module, x = forms(torch.float32, channels=16)[0], torch.randn(2, 16, 12, 10)
    expected = run(module, x)
    with torch.autocast("cpu", torch.bfloat16):
        found = run(module, x, torch.ones(()).expand(x.shape).to(torch.bfloat16))
        again = module(x)
    assert again.dtype == torch.bfloat16
    assert torch.equal(found["y"], again)
    assert float((found["y"] - expected["y"]).abs().max() / expected["y"].abs().max()) < 0.03
    assert {name: t.dtype for name, t in found.items() if name != "y"} == {
        name: torch.float32 for name in expected if name != "y"
    }
    exact = run(module, x, torch.ones_like(x))
    for name in ("x", "conv1.weight", "fc.weight", "rate1", "conv_p.weight"):
        error = float((found[name] - exact[name]).norm() / exact[name].norm())
        assert error < 0.1, (name, error)


@both
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_it_computes_the_same(mode: Any) -> None:
    module, x = forms()[0], torch.randn(2, 8, 9, 7, dtype=torch.float64)
    expected = module(x)
    with mode():
        found = module(x)
    assert not found.requires_grad
    torch.testing.assert_close(found, expected)


def test_parameters_get_their_gradients_where_the_input_needs_none() -> None:
    module, x = forms()[0], torch.randn(2, 8, 9, 7, dtype=torch.float64)
    expected = run(module, x, torch.ones_like(x))
    module.zero_grad()
    module(x).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


@both
def test_frozen_parameters_leave_the_input_its_gradient() -> None:
    module, x = forms()[0], torch.randn(2, 8, 9, 7, dtype=torch.float64)
    expected = run(module, x, torch.ones_like(x))
    module.requires_grad_(False)
    x.requires_grad_()
    module(x).sum().backward()
    torch.testing.assert_close(x.grad, expected["x"])


@both
@pytest.mark.parametrize("rate", [0.0, -1.5])
def test_any_mixing_weight_has_its_gradient(rate: float) -> None:
    modules, x = forms(), torch.randn(1, 8, 6, 7, dtype=torch.float64)
    with torch.no_grad():
        for module in modules:
            module.rate1.fill_(rate)
            module.rate2.fill_(rate)
    assert_same(run(modules[0], x), run(modules[2], x), 1e-10)


def test_through_checkpoints_and_twice_through_one_module_gradients_are_the_same() -> None:
    module, x = forms()[0], torch.randn(2, 8, 9, 7, dtype=torch.float64)

    def gradients(step: Any) -> list[Tensor]:
        leaf = x.clone().requires_grad_()
        loss = step(step(leaf)).square().sum()
        return list(torch.autograd.grad(loss, [leaf, *module.parameters()]))

    for a, b in zip(gradients(module), gradients(lambda t: checkpoint(module, t, use_reentrant=False)), strict=True):
        assert torch.equal(a, b)


def test_the_same_input_gives_the_same_bits() -> None:
    module, x = forms(torch.float32, channels=16)[0], torch.randn(2, 16, 21, 18)
    first, second = run(module, x), run(module, x)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("options", [{}, {"kernel_att": 4, "stride": 2}, {"kernel_att": 3, "dilation": 3}], ids=str)
def test_gradients_of_the_fused_form_are_those_of_the_function(options: dict[str, Any]) -> None:
    module = ACmix(4, heads=2, fused=True, **options).double()
    x = torch.randn(1, 4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()), fast_mode=True)


@pytest.mark.parametrize("power", [1, 2])
def test_a_second_derivative_is_refused_and_the_first_is_not(power: int) -> None:
    module = ACmix(8, fused=True)
    x = torch.randn(1, 8, 5, 5, requires_grad=True)
    (expected,) = torch.autograd.grad(module(x).pow(power).sum(), x)
    (first,) = torch.autograd.grad(module(x).pow(power).sum(), x, create_graph=True)
    torch.testing.assert_close(first, expected)
    with pytest.raises(RuntimeError, match="no second derivative: take the module with fused=False"):
        torch.autograd.grad(first.sum(), x)


@pytest.mark.parametrize("small", ["all pairs"], indirect=True)
def test_all_pairs_have_their_derivatives() -> None:
    module, x = ACmix(4, heads=2, fused=True).double(), torch.randn(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()), fast_mode=True)
    assert torch.autograd.gradgradcheck(module, x, fast_mode=True)


def test_the_composed_form_has_second_derivatives() -> None:
    module, x = ACmix(4, heads=2, fused=False).double(), torch.randn(1, 4, 2, 3, dtype=torch.float64)
    assert torch.autograd.gradgradcheck(module, x.requires_grad_(), fast_mode=True)


@both
@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_logits_however_large_stay_finite(scale: float) -> None:
    module, x = ACmix(16, fused=True), scale * torch.randn(2, 16, 9, 9)
    assert all(tensor.isfinite().all() for tensor in run(module, x).values())


def test_copies_and_pickles_carry_the_form_and_weights_alone() -> None:
    module, x = ACmix(16, fused=True), torch.randn(2, 16, 9, 9)
    size = len(pickle.dumps(module))
    expected = module(x)
    module(torch.randn(1, 16, 30, 17))
    assert len(pickle.dumps(module)) == size
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert other.fused is True
        assert torch.equal(other(x), expected)
    assert (
        module.state_dict().keys() == ACmix(16, fused=False).state_dict().keys() == PlainACmix(16).state_dict().keys()
    )


def test_a_module_pickled_before_there_were_two_forms_still_computes() -> None:
    module, x = ACmix(8), torch.randn(1, 8, 5, 5)
    expected = module(x)
    del module.__dict__["fused"]
    assert torch.equal(module(x), expected)


# --- memory ---


def test_nothing_larger_than_the_projections_is_kept_for_the_backward_pass() -> None:
    module, x = ACmix(16, fused=True), torch.randn(1, 16, 32, 32)
    storages: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        module(x)
    assert max(storages.values()) <= 3 * x.nbytes
    assert sum(storages.values()) < 10 * x.nbytes  # input, projections, queries, keys and values with their padding


# --- attention on its own ---


def literal(q: Tensor, k: Tensor, v: Tensor, kernel: int, dilation: int, stride: int) -> Tensor:
    height, width = q.shape[3:]
    places = [
        (slice(a * dilation, a * dilation + stride * (height - 1) + 1, stride),
         slice(b * dilation, b * dilation + stride * (width - 1) + 1, stride))
        for a in range(kernel) for b in range(kernel)
    ]  # fmt: skip
    attention = torch.stack([(q * k[..., row, column]).sum(2) for row, column in places]).softmax(0)
    return sum(a[:, :, None] * v[..., row, column] for a, (row, column) in zip(attention, places, strict=True))


@pytest.mark.parametrize("seed", range(40))
def test_attention_follows_its_definition_at_random_shapes(seed: int) -> None:
    random = np.random.default_rng(seed)
    kernel, dilation, stride = (int(random.integers(1, n)) for n in (9, 4, 4))
    b, m, d = (int(random.integers(1, n)) for n in (3, 4, 7))
    height, width = (int(random.integers(1, 15)) for _ in range(2))
    reach = dilation * (kernel - 1)
    q = torch.randn(b, m, d, -(-height // stride), -(-width // stride), dtype=torch.float64, requires_grad=True)
    k, v = (torch.randn(b, m, d, height + reach, width + reach, dtype=torch.float64).requires_grad_() for _ in range(2))
    g = torch.randn_like(q)

    found = neighbourhood_attention(q, k, v, kernel, dilation, stride)
    expected = literal(q, k, v, kernel, dilation, stride)

    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(
        torch.autograd.grad(found, (q, k, v), g), torch.autograd.grad(expected, (q, k, v), g), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-10)


def test_attention_keeps_dtypes_and_computes_in_float32() -> None:
    q, k, v = (torch.randn(1, 2, 8, n, n) for n in (6, 12, 12))
    found = neighbourhood_attention(q.bfloat16(), k.bfloat16(), v.half().float(), 7)
    expected = neighbourhood_attention(q.bfloat16().float(), k.bfloat16().float(), v.half().float(), 7)
    assert torch.equal(found, expected)
    low = neighbourhood_attention(q.bfloat16(), k.bfloat16(), v.bfloat16(), 7)
    assert low.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("shapes", "kernel", "message"),
    [
        (((1, 1, 4, 6, 6), (1, 1, 4, 11, 12), (1, 1, 4, 11, 12)), 7, "too few"),
        (((1, 1, 4, 6, 6), (1, 1, 4, 12, 12), (1, 1, 4, 12, 11)), 7, "do not belong together"),
        (((1, 1, 4, 6, 6), (1, 2, 4, 12, 12), (1, 2, 4, 12, 12)), 7, "do not belong together"),
        (((1, 1, 4, 6, 6), (1, 1, 4, 12, 12), (1, 1, 4, 12, 12)), 0, "at least 1"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(shapes: tuple[Any, ...], kernel: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        neighbourhood_attention(*(torch.zeros(shape) for shape in shapes), kernel)
