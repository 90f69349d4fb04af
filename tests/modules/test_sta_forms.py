"""The two forms of StokenAttention compute what the paper's formulas, written out, compute."""

from __future__ import annotations

import copy
import io
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ablate.modules.kernels import supertoken
from ablate.modules.kernels.switch import composed
from ablate.modules.sta import StokenAttention
from ablate.verifying.reference.plain_sta import PlainStokenAttention

CASES = sorted((Path(__file__).parents[1] / "golden").glob("sta_*.npz"))
# shape, cell, rounds, heads
CONFIGURATIONS: list[tuple[tuple[int, int, int, int], Any, int, int]] = [
    ((2, 16, 12, 16), 4, 1, 8),
    ((3, 8, 13, 10), 4, 2, 2),
    ((1, 16, 9, 21), (2, 3), 3, 4),
    ((2, 8, 1, 1), 4, 2, 2),
    ((1, 8, 3, 5), 8, 1, 2),
    ((2, 8, 16, 7), (8, 1), 1, 4),
    ((2, 8, 5, 6), 1, 1, 2),
]
OPTIONS: list[dict[str, Any]] = [{}, {"association_grad": False}, {"fidelity": "authors"}, {"qkv_bias": False}]


def modules(channels: int, **options: Any) -> dict[str, StokenAttention]:
    """The fused, the composed and the plain form with the same weights."""
    fused = StokenAttention(channels, fused=True, **options)
    generator = torch.Generator().manual_seed(3)
    for p in fused.parameters():
        p.data = 0.4 * torch.randn(p.shape, generator=generator)
    forms = {
        "fused": fused,
        "composed": StokenAttention(channels, fused=False, **options),
        "plain": PlainStokenAttention(channels, **options),
    }
    for module in forms.values():
        module.load_state_dict(fused.state_dict())
    return forms


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def everything(module: torch.nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Output, and gradients of the input and of each parameter."""
    x = x.detach().requires_grad_()
    module.zero_grad()
    y = module(x)
    y.backward(noise(*y.shape, seed=9).to(y))
    assert x.grad is not None
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    assert len(gradients) == len(list(module.parameters()))
    return {"y": y.detach(), "x": x.grad} | gradients


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    # Keys' biases cancel in the softmax: their gradients are rounding, small against those of queries and values.
    scale = max(float(value.double().abs().max()) for value in expected.values())
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        size = max(float(value.double().abs().max()), 1e-2 * scale)
        assert float((found[name].double() - value.double()).abs().max()) <= tolerance * size, name


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("configuration", CONFIGURATIONS, ids=str)
@pytest.mark.parametrize("form", ["fused", "composed"])
def test_both_forms_equal_the_plain_one(form: str, configuration: Any, options: dict[str, Any]) -> None:
    shape, stoken, n_iter, heads = configuration
    forms = modules(shape[1], stoken_size=stoken, n_iter=n_iter, num_heads=heads, **options)
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 1e-10)):
        x = noise(*shape, dtype=dtype)
        found, expected = (everything(copy.deepcopy(forms[name]).to(dtype), x) for name in (form, "plain"))
        assert_equal(found, expected, tolerance)


@pytest.mark.parametrize("form", [True, False, "auto"], ids=str)
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_each_form_equals_the_authors(path: Path, form: Any) -> None:
    case = np.load(path)
    module = StokenAttention.from_authors(**json.loads(str(case["config"]))["kwargs"])
    module.fused = module.stoken_refine.fused = form
    module.load_state_dict({n: torch.tensor(case[f"param:{n}"]) for n in module.state_dict()})
    x = torch.tensor(case["x"], requires_grad=True)
    y = module(x)
    y.backward(torch.tensor(case["cotangent"]))
    found = {"y": y.detach(), "grad_x": x.grad} | {f"grad:{n}": p.grad for n, p in module.named_parameters()}
    for name, value in found.items():
        assert value is not None
        assert np.abs(value.numpy() - case[name]).max() <= 1e-5 * np.abs(case[name]).max(), name


@pytest.mark.parametrize("size", [1, 3000, 1 << 30])
def test_how_many_images_are_worked_on_together_does_not_matter(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    forms = modules(8, num_heads=2, n_iter=2)
    x = noise(5, 8, 10, 9)
    expected = everything(forms["plain"], x)
    monkeypatch.setattr(supertoken, "GROUP_BYTES", size)
    assert_equal(everything(forms["fused"], x), expected, 2e-5)


@pytest.mark.parametrize("layout", ["channels_last", "transposed", "cropped", "expanded"])
def test_layouts_make_no_difference(layout: str) -> None:
    forms = modules(8, num_heads=2, n_iter=2)
    x = noise(3, 8, 10, 9)
    given = {
        "channels_last": lambda: x.to(memory_format=torch.channels_last),
        "transposed": lambda: x.transpose(2, 3).contiguous().transpose(2, 3),
        "cropped": lambda: torch.nn.functional.pad(x, (2, 1, 1, 3))[..., 1:-3, 2:-1],
        "expanded": lambda: x[:1].expand(3, -1, -1, -1),
    }[layout]()
    expected = everything(forms["plain"], given.contiguous())
    assert_equal(everything(forms["fused"], given), expected, 2e-5)
    for seed in (1, 2):  # the gradient of the output may come in another layout too
        gradient = noise(*x.shape, seed=seed).to(memory_format=torch.channels_last)
        grads = [torch.autograd.grad(forms[f](x.requires_grad_()), x, gradient)[0] for f in ("fused", "plain")]
        torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-5)


def test_channels_last_stays_channels_last() -> None:
    x = noise(2, 8, 8, 8).to(memory_format=torch.channels_last)
    assert StokenAttention(8, fused=True)(x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("options", [{"n_iter": 2}, {"association_grad": False}], ids=str)
def test_gradcheck(options: dict[str, Any]) -> None:
    module = modules(4, stoken_size=2, num_heads=2, **options)["fused"].double()
    parameters = dict(module.named_parameters())

    def call(x: Tensor, *values: Tensor) -> Tensor:
        out: Tensor = torch.func.functional_call(module, dict(zip(parameters, values, strict=True)), (x,))
        return out

    x = noise(2, 4, 3, 5, dtype=torch.float64).requires_grad_("n_iter" in options)
    assert torch.autograd.gradcheck(call, (x, *(p.detach().requires_grad_() for p in parameters.values())))


def test_a_second_derivative_is_refused_rather_than_wrong() -> None:
    forms = modules(8, num_heads=2)
    for form, fine in (("fused", False), ("composed", True)):
        x = noise(1, 8, 8, 8).double().requires_grad_()
        (gradient,) = torch.autograd.grad(forms[form].double()(x).square().sum(), x, create_graph=True)
        if fine:
            with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                (gradient,) = torch.autograd.grad(forms[form](x).square().sum(), x, create_graph=True)
            gradient.sum().backward()
        else:
            with pytest.raises(RuntimeError, match="no second derivative"):
                gradient.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("stoken", [1, 4])
def test_half_precision_is_close_to_float32(dtype: torch.dtype, stoken: int) -> None:
    module = modules(16, num_heads=2, n_iter=2, stoken_size=stoken)["fused"]
    x = noise(2, 16, 13, 10).to(dtype)
    expected = everything(module, x.float())
    half = everything(copy.deepcopy(module).to(dtype), x)
    assert all(value.dtype == dtype for value in half.values())
    with torch.autocast("cpu", dtype=dtype):
        mixed = everything(module, x.float())
    for found in (half, mixed):
        for name, value in expected.items():
            if name != "stoken_refine.qkv.bias":  # a third of it is rounding
                error = (found[name].float() - value).norm() / value.norm()
                assert error < (0.01 if dtype == torch.float16 else 0.05), (name, error)


def test_checkpointing_and_a_shared_module_change_nothing() -> None:
    module = modules(8, num_heads=2)["fused"]

    def twice(x: Tensor) -> Tensor:
        y: Tensor = module(module(x))
        return y

    results = []
    for recompute in (False, True):
        x = noise(2, 8, 9, 10).requires_grad_()
        module.zero_grad()
        y = checkpoint(twice, x, use_reentrant=False) if recompute else twice(x)
        y.square().sum().backward()
        results.append([y.detach(), x.grad, *(p.grad.clone() for p in module.parameters() if p.grad is not None)])
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


def test_repeats_to_the_last_bit() -> None:
    module = modules(16, num_heads=2, n_iter=2)["fused"]
    x = noise(3, 16, 21, 18)
    first, second = everything(module, x), everything(module, x)
    torch.testing.assert_close(second, first, rtol=0, atol=0)


@pytest.mark.parametrize("freeze", ["input", "parameters", "everything"])
def test_only_what_needs_a_gradient_gets_one(freeze: str) -> None:
    forms = modules(8, num_heads=2)
    results = []
    for form in ("fused", "plain"):
        module = forms[form].requires_grad_(freeze == "input")
        x = noise(2, 8, 9, 10).requires_grad_(freeze == "parameters")
        y = module(x)
        assert y.requires_grad == (freeze != "everything")
        if y.requires_grad:
            y.square().sum().backward()
        results.append({"x": x.grad, **{n: p.grad for n, p in module.named_parameters()}})
    for name, value in results[1].items():
        if value is None:
            assert results[0][name] is None
        else:
            torch.testing.assert_close(results[0][name], value, rtol=1e-4, atol=1e-4)


def test_inference_mode_equals_training() -> None:
    module = modules(8, num_heads=2)["fused"]
    x = noise(2, 8, 9, 10)
    with torch.inference_mode():
        inferred = module(x)
    torch.testing.assert_close(inferred.clone(), module(x).detach(), rtol=0, atol=0)


def test_input_and_incoming_gradient_are_left_as_they_were() -> None:
    module = modules(8, num_heads=2, n_iter=2)["fused"]
    x, gradient = noise(2, 8, 9, 10).requires_grad_(), noise(2, 8, 9, 10, seed=1)
    before = x.detach().clone(), gradient.clone()
    module(x).backward(gradient)
    assert torch.equal(x.detach(), before[0])
    assert torch.equal(gradient, before[1])


def test_an_input_changed_after_the_forward_pass_is_noticed() -> None:
    module = modules(8, num_heads=2)["fused"]
    x = noise(2, 8, 8, 8).requires_grad_() * 1
    y = module(x)
    x.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_less_is_kept_for_the_backward_pass_than_by_the_composed_form() -> None:
    """The input is there anyway; beyond it 9 numbers a pixel and some tokens against many copies of the input."""
    x = noise(2, 64, 40, 40).requires_grad_()
    kept = {}
    for form, module in modules(64).items():
        sizes: dict[int, int] = {}

        def note(tensor: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            module(x)
        sizes.pop(x.untyped_storage().data_ptr(), None)
        kept[form] = sum(sizes.values()) / (x.numel() * x.itemsize)
    assert kept["fused"] < 1.0
    assert kept["fused"] < 0.35 * kept["composed"]


def test_copies_and_pickles_keep_the_form_and_nothing_more() -> None:
    module = modules(16)["fused"]
    before = len(pickle.dumps(module))
    x = noise(1, 16, 9, 10)
    y = module(x)
    assert len(pickle.dumps(module)) == before
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(buffer, weights_only=False)):
        assert twin.fused is True
        assert twin.state_dict().keys() == module.state_dict().keys()
        torch.testing.assert_close(twin(x), y, rtol=0, atol=0)


def test_the_composed_form_is_taken_where_the_operations_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("fused")

    monkeypatch.setattr(supertoken, "associate", refuse)
    x = noise(1, 16, 8, 8)
    for fused in (True, "auto"):
        module = StokenAttention(16, fused=fused)
        with pytest.raises(AssertionError, match="fused"):
            module(x)
        with composed():
            module(x)
    StokenAttention(16, fused=False)(x)
    assert StokenAttention(16).stoken_refine.fused == "auto"


@pytest.mark.parametrize("fused", ["yes", 2, None])
def test_another_form_is_refused_by_name(fused: Any) -> None:
    with pytest.raises(ValueError, match="auto, true, false"):
        StokenAttention(16, fused=fused)


def test_an_empty_batch_gives_an_empty_map() -> None:
    x = torch.zeros(0, 16, 9, 10, requires_grad=True)
    y = StokenAttention(16, fused=True)(x)
    y.sum().backward()
    assert y.shape == x.shape
