"""HAT's forms compute the same: composed, fused, and as the paper has it."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ablate.modules import hat
from ablate.modules.hat import HAB, OCAB, RHAG
from ablate.modules.kernels import dense, matrix, window_parts
from ablate.modules.kernels.switch import composed
from ablate.verifying.reference.plain_hat import PlainHAB, PlainOCAB, PlainRHAG

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [p for p in sorted(GOLDEN.glob("*.npz")) if p.name.startswith(("hab", "ocab", "rhag"))]
PLAIN: dict[Any, Any] = {HAB: PlainHAB, OCAB: PlainOCAB, RHAG: PlainRHAG}
NAMED: dict[str, Any] = {"HAB": HAB, "OCAB": OCAB, "RHAG": RHAG}
SIZES = [(1, 1), (2, 7), (4, 4), (8, 12), (7, 13), (17, 5)]
BLOCKS: list[tuple[Any, dict[str, Any]]] = [
    (HAB, {"window_size": 4, "num_heads": 2, "conv_scale": 0.5}),
    (HAB, {"window_size": 4, "shift_size": 2, "num_heads": 1}),
    (HAB, {"window_size": 5, "shift_size": 1, "qkv_bias": False}),
    (OCAB, {"window_size": 4, "num_heads": 2}),
    (OCAB, {"window_size": 4, "overlap_ratio": 1.5, "qkv_bias": False}),
    (OCAB, {"window_size": 2, "overlap_ratio": 3}),
    (OCAB, {"window_size": 3, "overlap_ratio": 0, "mlp_ratio": 1.5}),
    (RHAG, {"window_size": 4}),
]


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small maps are one piece; make them many."""
    monkeypatch.setattr(window_parts, "CHUNK", 700)
    monkeypatch.setattr(dense, "CHUNK", 700)
    monkeypatch.setattr(dense, "FEW", 0)
    monkeypatch.setattr(matrix, "ROWS", 10)
    monkeypatch.setattr(matrix, "SMALL", 0)


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def build(block: Any, dtype: torch.dtype = torch.float32, channels: int = 16, **options: Any) -> Any:
    module = block(channels, **options)
    generator = torch.Generator().manual_seed(1)
    for p in module.parameters():
        p.data = 0.3 * torch.randn(p.shape, generator=generator, dtype=torch.float64).float()
    return module.to(dtype)


def results(module: Any, x: Tensor) -> dict[str, Tensor]:
    """Output and gradients of the input and of every parameter."""
    x = x.detach().requires_grad_()
    module.zero_grad()
    y = module(x)
    y.backward(noise(*y.shape, seed=5, dtype=y.dtype))
    assert x.grad is not None
    return {"y": y.detach(), "x": x.grad, **{n: p.grad.clone() for n, p in module.named_parameters()}}


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for name, value in expected.items():
        assert found[name].dtype == value.dtype
        # Some gradients are zero, of the keys' bias for example: measure those by the others.
        scale = max(float(value.abs().max()), 0.01 * float(expected["x"].abs().max()))
        error = float((found[name] - value).abs().max()) / scale
        assert error < tolerance, f"{name}: {error}"


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str)
@pytest.mark.parametrize("fidelity", ["corrected", "authors"])
@pytest.mark.parametrize(("block", "options"), BLOCKS, ids=str)
def test_all_forms_agree(
    block: Any, options: dict[str, Any], fidelity: str, dtype: torch.dtype, tolerance: float
) -> None:
    if fidelity == "authors":
        options = options | ({} if block is OCAB else {"squeeze_factor": 4})
    window = options["window_size"]
    sizes = SIZES if fidelity == "corrected" else [(window, 2 * window), (3 * window, window)]
    fused, loose, plain = (
        build(kind, dtype, fidelity=fidelity, fused=form, **options)
        for kind, form in ((block, True), (block, False), (PLAIN[block], False))
    )
    for seed, size in enumerate(sizes if dtype == torch.float64 else sizes[-2:]):
        x = noise(1 + seed % 2, 16, *size, seed=seed, dtype=dtype)
        expected = results(plain, x)
        assert_same(results(fused, x), expected, tolerance)
        assert_same(results(loose, x), expected, tolerance)


@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
@pytest.mark.parametrize("form", [True, False, "plain"])
def test_every_form_equals_the_authors_values(path: Path, form: Any) -> None:
    case = np.load(path)
    config = json.loads(str(case["config"]))
    kind = NAMED[config["module"]]
    module = (PLAIN[kind] if form == "plain" else kind).from_authors(**config["kwargs"])
    for part in module.modules():
        if hasattr(part, "fused"):
            part.fused = form is True
    names = [key.removeprefix("param:") for key in case.files if key.startswith("param:")]
    module.load_state_dict({n: torch.tensor(case[f"param:{n}"], dtype=torch.float32) for n in names})
    x = torch.tensor(case["x"], dtype=torch.float32, requires_grad=True)
    y = module(x)
    y.backward(torch.tensor(case["cotangent"], dtype=torch.float32))
    pairs = [(y, case["y"]), (x.grad, case["grad_x"])]
    pairs += [(p.grad, case[f"grad:{n}"]) for n, p in module.named_parameters()]
    for found, expected in pairs:
        assert np.abs(found.detach().numpy() - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize("layout", ["channels last", "strided", "expanded"])
def test_the_fused_form_takes_any_layout(layout: str) -> None:
    module, reference = build(RHAG, window_size=4, fused=True), build(RHAG, window_size=4, fused=False)
    x = noise(2, 16, 9, 10)
    if layout == "channels last":
        x = x.to(memory_format=torch.channels_last)
    elif layout == "strided":
        x = noise(2, 32, 18, 10)[:, ::2, ::2].transpose(2, 3).transpose(2, 3)
    else:
        x = x[:1].expand(2, -1, -1, -1)
    assert_same(results(module, x), results(reference, x), 1e-5)


def test_auto_takes_the_fused_form_unless_composed_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []
    real = window_parts.attend_in_spans
    monkeypatch.setattr(window_parts, "attend_in_spans", lambda *a, **o: (taken.append(1), real(*a, **o))[1])
    x = noise(1, 16, 5, 5)
    module = build(RHAG)
    module(x)
    assert not taken  # too small a map
    monkeypatch.setattr(hat, "SMALL", x.numel())
    module(x)
    assert len(taken) == 3
    with composed():
        module(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        module(x)
    build(RHAG, fused=False)(x)
    assert len(taken) == 3
    build(RHAG, fused=True)(x)
    assert len(taken) == 6


@pytest.mark.parametrize("block", [HAB, OCAB, RHAG])
def test_a_wrong_switch_is_refused(block: Any) -> None:
    with pytest.raises(ValueError, match="fused must be one of auto, true, false; got 1"):
        block(16, fused=1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_stays_close(dtype: torch.dtype) -> None:
    module = build(RHAG, window_size=4, fused=True, conv_scale=0.1)
    for p in module.parameters():
        p.data *= 0.5
    x = noise(2, 16, 9, 10)
    expected = results(module, x)
    half = results(copy.deepcopy(module).to(dtype), x.to(dtype))
    with torch.autocast("cpu", dtype=dtype):
        mixed = results(module, x)
    limit = 0.1 if dtype == torch.bfloat16 else 0.02
    for found in (half, mixed):
        for name in ("y", "x", "conv.weight", "residual_group.overlap_attn.qkv.weight"):
            error = (found[name].float() - expected[name]).norm() / expected[name].norm()
            assert error < limit, name
    assert half["y"].dtype == dtype


def test_without_onednn_the_same_comes_out(monkeypatch: pytest.MonkeyPatch) -> None:
    module = build(RHAG, window_size=4, fused=True)
    x = noise(2, 16, 9, 10)
    expected = results(module, x)
    for user in (dense, matrix):
        monkeypatch.setattr(user, "onednn", lambda *_: False)
    assert_same(results(module, x), expected, 1e-5)


def test_other_devices_attention_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The form for GPUs, on the CPU."""
    qkv, bias = noise(2, 9, 6, 48, dtype=torch.float64), noise(16, 36, 4, dtype=torch.float64)
    gradients = []
    for attend in (window_parts._Attention.apply, window_parts._attend_by_sdpa):
        monkeypatch.setattr(window_parts._Attention, "apply", attend)
        given = [t.detach().requires_grad_() for t in (qkv, bias)]
        out = window_parts.attend_in_parts(*given, window=4, margin=1)
        gradients.append([out.detach(), *torch.autograd.grad((out * noise(*out.shape)).sum(), given)])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("block", "options"), [(HAB, {"shift_size": 1}), (OCAB, {"overlap_ratio": 1})], ids=str)
def test_gradients_are_those_of_differences(block: Any, options: dict[str, Any]) -> None:
    module = build(block, torch.float64, 4, fused=True, window_size=2, num_heads=2, mlp_ratio=1, **options)
    names, values = zip(*module.named_parameters(), strict=True)

    def run(x: Tensor, *parameters: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(names, parameters, strict=True)), (x,))

    given = [noise(1, 4, 3, 5, dtype=torch.float64), *values]
    assert torch.autograd.gradcheck(run, [t.detach().requires_grad_() for t in given], fast_mode=True)


def test_a_second_derivative_is_refused() -> None:
    module = build(OCAB, window_size=4, fused=True)
    x = noise(1, 16, 5, 5).requires_grad_()
    (gradient,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(gradient.square().sum(), x)


@pytest.mark.usefixtures("pieces")
def test_checkpointing_and_repetition_give_the_same_numbers() -> None:
    module = build(RHAG, window_size=4, fused=True)
    x = noise(2, 16, 9, 10)
    first, again = results(module, x), results(module, x)
    assert all(torch.equal(first[name], again[name]) for name in first)
    kept = results(module, x)
    module.zero_grad()
    given = x.requires_grad_()
    y = checkpoint(module, given, use_reentrant=False)
    y.backward(noise(*y.shape, seed=5))
    for name, p in module.named_parameters():
        assert torch.equal(p.grad, kept[name])


def test_frozen_parts_and_no_gradients() -> None:
    module, reference = build(RHAG, window_size=4, fused=True), build(RHAG, window_size=4, fused=False)
    x = noise(1, 16, 9, 10)
    expected = results(reference, x)
    for context in (torch.no_grad, torch.inference_mode):
        with context():
            torch.testing.assert_close(module(x), expected["y"], atol=1e-4, rtol=1e-4)
    module.residual_group.blocks.requires_grad_(False)
    module(x).backward(noise(*x.shape, seed=5))
    assert all(p.grad is None for p in module.residual_group.blocks.parameters())
    found = module.residual_group.overlap_attn.qkv.weight.grad
    torch.testing.assert_close(found, expected["residual_group.overlap_attn.qkv.weight"], atol=1e-3, rtol=1e-4)


def test_copies_of_a_used_module_are_as_small_as_it_was() -> None:
    module = build(RHAG, window_size=4, fused=True)
    before, names = len(pickle.dumps(module)), set(module.state_dict())
    results(module, noise(1, 16, 9, 10))
    module.zero_grad()
    assert len(pickle.dumps(module)) == before
    assert set(module.state_dict()) == names
    x = noise(1, 16, 6, 7)
    assert torch.equal(copy.deepcopy(module)(x), module(x))
