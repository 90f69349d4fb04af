"""HMHA's fused form: the numbers of the composed form and of the plain one, wherever it may be taken."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ablate.modules.hmha import HMHA, SMALL
from ablate.modules.kernels import channel_attention, matrix
from ablate.modules.kernels.switch import composed
from ablate.verifying.reference.plain_hmha import PlainHMHA

OPTIONS: list[dict[str, Any]] = [
    {},
    {"bias": True, "rerank": "none"},
    {"bias": True, "rerank": "batch", "cache": "paper"},
    {"cache": "paper"},
    {"fidelity": "authors", "cache": "authors"},
    {"fidelity": "authors", "cache": "paper", "bias": True},
]
SHAPES = [(1, 16, 1, 1), (2, 16, 1, 7), (3, 24, 9, 5), (1, 64, 12, 10), (2, 128, 6, 7)]


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture
def tiny_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sample a chunk, large convolutions and sorted weights, on maps of any size."""
    monkeypatch.setattr(channel_attention, "CHUNK", 1)
    monkeypatch.setattr(channel_attention, "LARGE_MAP", 1)
    monkeypatch.setattr(matrix, "ROWS", 10)
    monkeypatch.setattr(matrix, "SMALL", 0)


def forms(channels: int, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[HMHA, HMHA, HMHA]:
    """The fused, the composed and the plain module with equal random parameters."""
    plain = PlainHMHA(channels, **options).to(dtype)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter.normal_(0, 0.4)
    fused, composing = HMHA(channels, fused=True, **options), HMHA(channels, fused=False, **options)
    for module in (fused, composing):
        module.to(dtype).load_state_dict(plain.state_dict())
    return fused, composing, plain


def results(module: nn.Module, x: Tensor, cache: Tensor | None = None) -> dict[str, Tensor]:
    """Output, outgoing cache and all gradients, by a fixed random cotangent."""
    x = x.detach().requires_grad_()
    y, carried = module.forward_with_cache(x, cache)
    cotangent = torch.randn(y.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).to(y.dtype)
    parameters = dict(module.named_parameters())
    gradients = torch.autograd.grad(y, [x, *parameters.values()], cotangent, allow_unused=True)
    found = {"y": y.detach(), **dict(zip(["x", *parameters], gradients, strict=True))}
    if carried is not None:
        found["cache"] = carried
    return {name: tensor for name, tensor in found.items() if tensor is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == expected.keys()
    largest = max(float(tensor.abs().max()) for name, tensor in expected.items() if name != "cache")
    for name, tensor in expected.items():
        scale = max(float(tensor.abs().max()), 1e-3 * largest)  # some gradients vanish on a map of one pixel
        assert float((found[name] - tensor).abs().max()) <= tolerance * scale, name


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_all_forms_agree_in_float64(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    fused, composing, plain = forms(shape[1], **options)
    x = torch.randn(shape, dtype=torch.float64)
    cache = torch.rand(1, 16, 16, dtype=torch.float64) if "cache" in options else None
    for incoming in {id(cache): cache, id(None): None}.values():
        expected = results(plain, x, incoming)
        assert_equal(results(fused, x, incoming), expected, 1e-10)
        assert_equal(results(composing, x, incoming), expected, 1e-10)


@pytest.mark.usefixtures("tiny_chunks")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_chunks_sorted_weights_and_large_products_change_nothing(options: dict[str, Any], dtype: torch.dtype) -> None:
    fused, composing, _ = forms(32, dtype, **options)
    x = torch.randn(3, 32, 9, 14, dtype=dtype)
    tolerance = 1e-10 if dtype == torch.float64 else 2e-5
    assert_equal(results(fused, x), results(composing, x), tolerance)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("shape", [(2, 64, 20, 20), (1, 128, 11, 13)], ids=str)
def test_forms_agree_in_float32(options: dict[str, Any], shape: tuple[int, ...]) -> None:
    fused, composing, _ = forms(shape[1], torch.float32, **options)
    x = torch.randn(shape)
    assert_equal(results(fused, x), results(composing, x), 2e-5)


@pytest.mark.parametrize("fused", [True, False])
def test_layout_does_not_matter_and_stays(fused: bool) -> None:
    module = forms(16)[not fused]
    x = torch.randn(2, 16, 12, 20, dtype=torch.float64)
    expected = results(module, x)
    sliced = torch.randn(2, 20, 14, 40, dtype=torch.float64)[:, 2:18, 1:13, ::2].copy_(x)
    for laid_out in (x.contiguous(memory_format=torch.channels_last), sliced, x.transpose(2, 3).contiguous().mT):
        assert_equal(results(module, laid_out), expected, 1e-12)
    if fused:
        layout = torch.channels_last
        assert module(x.contiguous(memory_format=layout)).is_contiguous(memory_format=layout)
        assert module(x).is_contiguous()


@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e4])
@pytest.mark.parametrize("early", [False, True])
def test_ranks_are_the_composed_ones_with_constant_and_equal_channels(early: bool, scale: float) -> None:
    q = torch.randn(2, 64, 200) + torch.randn(2, 1, 200)
    q[:, 5], q[0, 9], q[:, 33] = 0.0, 3.3, q[:, 7]
    q = q * scale
    found = channel_attention._order(q.mT.contiguous() if early else q.mT.repeat(1, 1, 3)[..., :64])
    assert torch.equal(found, HMHA(64)._order(q))


def test_without_gradients_nothing_is_kept_and_the_numbers_are_the_same() -> None:
    fused, composing, _ = forms(32)
    x = torch.randn(2, 32, 8, 8, dtype=torch.float64)
    expected = composing(x).detach()
    with torch.no_grad():
        torch.testing.assert_close(fused(x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(fused(x).clone(), expected)
    torch.testing.assert_close(fused.requires_grad_(False)(x), expected)
    assert not fused(x).requires_grad


@pytest.mark.parametrize("frozen", ["qkv", "qkv_dwconv", "intra_modulator", "temperature", "all"])
def test_frozen_parameters_get_no_gradient_and_the_others_the_same(frozen: str) -> None:
    modules = forms(16, bias=True)[:2]
    x = torch.randn(2, 16, 6, 5, dtype=torch.float64, requires_grad=True)
    gradients = []
    for module in modules:
        for name, parameter in module.named_parameters():
            parameter.requires_grad_(frozen != "all" and not name.startswith(frozen))
        x.grad = None
        module(x).square().sum().backward()
        gradients.append({"x": x.grad, **{n: p.grad for n, p in module.named_parameters() if p.grad is not None}})
    assert_equal(*gradients, 1e-10)


def test_an_input_without_gradient_leaves_the_parameters_theirs() -> None:
    fused, composing, _ = forms(16)
    x = torch.randn(2, 16, 6, 5, dtype=torch.float64)
    for module in (fused, composing):
        module(x).square().sum().backward()
    for ours, theirs in zip(fused.parameters(), composing.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize("options", OPTIONS[:3], ids=str)
def test_gradients_equal_finite_differences(options: dict[str, Any]) -> None:
    """Of all parameters after the queries and keys, which enter the gate without gradient."""
    module = forms(8, **options)[0]
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    checked = {n: p.detach().requires_grad_() for n, p in module.named_parameters() if not n.startswith("qkv")}

    def output(*parameters: Tensor) -> Tensor:
        return torch.func.functional_call(module, dict(zip(checked, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(output, tuple(checked.values()), fast_mode=True)


def test_differentiating_twice_is_refused() -> None:
    module = forms(8)[0]
    x = torch.randn(1, 8, 4, 4, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        gradient.sum().backward()


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_under_autocast_both_forms_have_one_precision_and_stay_near_float32(options: dict[str, Any]) -> None:
    fused, composing, _ = forms(32, torch.float32, **{**options, "rerank": "none"})
    x = torch.randn(2, 32, 10, 10)
    expected = results(composing, x)
    with torch.autocast("cpu", torch.bfloat16):
        y = fused(x)
        assert y.dtype == composing(x).dtype == torch.bfloat16
        found = results(fused, x)
    assert float((found["y"] - expected["y"]).abs().max() / expected["y"].abs().max()) < 0.05
    for name, gradient in found.items():
        if name != "cache" and gradient.ndim:
            like = torch.nn.functional.cosine_similarity(
                gradient.flatten().double(), expected[name].flatten().double(), dim=0
            )
            assert like > 0.97, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_half_precision_in_the_fused_form_is_near_float32(dtype: torch.dtype) -> None:
    module = HMHA(32, rerank="none", fused=True)
    x = torch.randn(2, 32, 10, 10)
    expected = results(module, x)
    found = results(copy.deepcopy(module).to(dtype), x.to(dtype))
    for name in ("y", "x", "project_out.weight", "qkv_dwconv.weight", "temperature"):
        ours, theirs = found[name].flatten().double(), expected[name].flatten().double()
        assert found[name].dtype == dtype
        assert torch.nn.functional.cosine_similarity(ours, theirs, dim=0) > 0.97, name


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpointing_gives_the_same_gradients(reentrant: bool) -> None:
    module = forms(16)[0]
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64, requires_grad=True)
    twice = [torch.autograd.grad(module(module(x)).square().sum(), x)[0]]
    y = checkpoint(module, checkpoint(module, x, use_reentrant=reentrant), use_reentrant=reentrant)
    y.square().sum().backward()
    torch.testing.assert_close(x.grad, twice[0])


def test_results_repeat_bit_by_bit() -> None:
    module = forms(64, torch.float32)[0]
    x = torch.randn(2, 64, 30, 30)
    first, second = results(module, x), results(module, x)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["copy", "pickle"])
def test_copies_keep_the_switch_and_hold_no_tensors_beside_their_parameters(duplicate: Any) -> None:
    module = forms(16)[0]
    size = len(pickle.dumps(module))
    x = torch.randn(2, 16, 8, 8, dtype=torch.float64)
    y = module(x)
    twin = duplicate(module)
    assert twin.fused is True
    assert torch.equal(twin(x), y)
    assert len(pickle.dumps(module)) == size
    assert module.state_dict().keys() == HMHA(16, fused=False).state_dict().keys()


@pytest.mark.parametrize("fidelity", ["corrected", "authors"])
@pytest.mark.parametrize("cache", ["paper", "authors"])
def test_a_chain_passes_its_cache_on_in_both_forms(cache: str, fidelity: str) -> None:
    x = torch.randn(2, 16, 8, 6, dtype=torch.float64)
    outputs = []
    chain = [forms(16, cache=cache, fidelity=fidelity)[0] for _ in range(3)]
    HMHA.link(chain)
    for switches in itertools.product([True, False], repeat=3):
        y = x
        for module, fused in zip(chain, switches, strict=True):
            module.fused = fused
            y = module(y)
        outputs.append(y.detach())
    for y in outputs[1:]:
        torch.testing.assert_close(y, outputs[0], rtol=1e-8, atol=1e-8 * float(outputs[0].abs().max()))
    if cache == "paper":
        HMHA.link(chain[:1])
        alone = x
        for module in chain:
            alone = module.forward_with_cache(alone)[0]
        assert not torch.allclose(alone, outputs[0])


def test_auto_takes_the_fused_form_on_large_maps_only(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    for name in ("_fuse", "_compose"):
        monkeypatch.setattr(HMHA, name, lambda self, x, cache, name=name: (taken.append(name) or x, None))
    side = int((SMALL / 16) ** 0.5)
    module = HMHA(16)
    module(torch.empty(1, 16, side, side))
    module(torch.empty(1, 16, side, side - 1))
    with composed():
        module(torch.empty(1, 16, side, side))
    module.fused = False
    module(torch.empty(1, 16, side, side))
    module.fused = True
    module(torch.empty(1, 16, 1, 1))
    module(torch.empty(1, 16, 4, 4, device="meta"))
    assert taken == ["_fuse", "_compose", "_compose", "_compose", "_fuse", "_compose"]


@pytest.mark.parametrize("value", ["yes", None, 1])
def test_another_switch_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="fused must be one of auto, true, false"):
        HMHA(16, fused=value)  # type: ignore[arg-type]
