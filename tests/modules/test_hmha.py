"""HMHA: equality with its authors' code, and the faults of theirs that must not be ours."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ablate.modules.hmha import HMHA

CARD = Path(__file__).parents[2] / "docs" / "modules" / "hmha.md"
GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("hmha_*.npz"))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def randomised(module: HMHA, seed: int = 0) -> HMHA:
    """The module with no parameter left at zero or one, in eval mode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return module.eval()


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


class Chain(nn.Module):
    """Three linked HMHA of different channel counts with convolutions between them, as in a network."""

    def __init__(self, cache: str = "paper", fidelity: str = "corrected") -> None:
        super().__init__()
        widths = (16, 24, 16)
        self.grafts = nn.ModuleList(
            randomised(HMHA(c, cache=cache, fidelity=fidelity), seed=i) for i, c in enumerate(widths)
        )
        self.steps = nn.ModuleList([nn.Conv2d(16, 24, 1), nn.Conv2d(24, 16, 3, stride=2, padding=1)])
        self.fail_after: int | None = None
        HMHA.link(list(self.grafts), self)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        for i, graft in enumerate(self.grafts):
            x = graft(x)
            if i == self.fail_after:
                raise RuntimeError("stop halfway")
            if i < len(self.steps):
                x = self.steps[i](x)
        return x


# --- equality with the authors' code ---


@pytest.mark.parametrize("fused", [False, True], ids=["composed", "fused"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_output_cache_and_gradients_equal_the_authors(path: Path, dtype: torch.dtype, fused: bool) -> None:
    with np.load(path) as golden:
        data = {key: torch.from_numpy(golden[key]).to(dtype) for key in golden.files if key != "config"}
        config = json.loads(str(golden["config"]))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12 if config["expected_dtype"] == "float64" else 1e-7
    module = HMHA.from_authors(**config["kwargs"]).to(dtype).eval()
    assert module.fused == "auto"
    module.fused = fused
    module.load_state_dict({k.removeprefix("param:"): v for k, v in data.items() if k.startswith("param:")})
    x = data["x"].requires_grad_()

    y, cache = module.forward_with_cache(x, data.get("qv_cache"))
    (y * data["cotangent"]).sum().backward()

    assert relative_error(y, data["y"]) < tolerance
    assert relative_error(x.grad, data["grad_x"]) < tolerance
    assert not cache.requires_grad
    torch.testing.assert_close(cache, data["y_cache"], rtol=0, atol=tolerance * 10)
    for name, parameter in module.named_parameters():
        if name in config["unused_params"]:
            assert parameter.grad is None, name
        else:
            assert relative_error(parameter.grad, data[f"grad:{name}"]) < tolerance, name


def test_there_are_golden_cases_with_and_without_an_incoming_cache() -> None:
    with_cache = ["cache" in path.stem for path in GOLDEN]
    assert True in with_cache
    assert False in with_cache


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_published_weights_load_where_no_cache_is_used(path: Path) -> None:
    with np.load(path) as golden:
        weights = {k[6:]: torch.from_numpy(golden[k]) for k in golden.files if k.startswith("param:")}
        x, y = torch.from_numpy(golden["x"]), torch.from_numpy(golden["y"]).float()
        cached = "qv_cache" in golden.files
    holder = nn.ModuleDict({"graft": HMHA(x.shape[1])}).eval()

    holder.load_state_dict({f"graft.{name}": weight for name, weight in weights.items()})

    assert "inter_modulator1.conv_width.weight" in weights, "loading leaves the caller's dictionary alone"
    if len(x) == 1 and not cached:  # ranked by itself, a single image is as its authors have it
        assert relative_error(holder["graft"](x), y) < 1e-5


def test_authors_arguments_that_do_not_exist_are_refused() -> None:
    with pytest.raises(TypeError, match="heads"):
        HMHA.from_authors(dim=16, heads=4)  # type: ignore[call-arg]


# --- ranking ---


def test_by_default_an_image_is_ranked_by_itself_whatever_is_in_its_batch() -> None:
    module = randomised(HMHA(64)).double()
    x = torch.randn(8, 64, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(module(x)[:1], module(x[:1]))


def test_the_authors_ranking_depends_on_the_batch() -> None:
    module = randomised(HMHA(64, fidelity="authors")).double()
    x = torch.randn(8, 64, 12, 12, dtype=torch.float64)
    assert module.rerank == "batch"
    assert relative_error(module(x)[:1], module(x[:1])) > 0.05


def test_ranking_by_batch_and_by_sample_agree_on_one_image() -> None:
    by_sample, by_batch = HMHA(32), HMHA(32, rerank="batch")
    by_batch.load_state_dict(by_sample.state_dict())
    x = torch.randn(1, 32, 9, 7)
    torch.testing.assert_close(by_sample(x), by_batch(x))


def test_channels_are_ranked_by_their_mean_pearson_correlation() -> None:
    q = torch.randn(3, 16, 50, dtype=torch.float64) + torch.randn(3, 1, 50, dtype=torch.float64)
    order = HMHA(16)._order(q)
    for image, ranked in zip(q, order, strict=True):
        assert ranked.tolist() == torch.corrcoef(image).mean(1).argsort(descending=True).tolist()


def test_without_reranking_channels_stay_as_they_come_and_outputs_are_continuous() -> None:
    x = torch.randn(1, 64, 20, 20)
    noisy = x + 1e-3 * torch.randn_like(x)
    module = randomised(HMHA(64, rerank="none"))
    assert relative_error(module(noisy), module(x)) < 5e-3


def test_rounding_noise_does_not_move_ranks() -> None:
    module = randomised(HMHA(64))
    x = torch.randn(2, 64, 20, 20)
    for layout in (x.contiguous(memory_format=torch.channels_last), x * (1 + 1e-7)):
        assert relative_error(module(layout), module(x)) < 1e-4


def test_equal_scores_keep_their_order() -> None:
    q = torch.zeros(1, 512, 30)
    q[:, 7] = torch.randn(30)
    assert HMHA(512)._order(q)[0].tolist() == [7, *(i for i in range(512) if i != 7)]


@pytest.mark.parametrize("constant", [0.0, 1.0, 0.1, 3.3, 1234.567, 1e-6])
def test_a_constant_channel_counts_as_uncorrelated_and_leaves_the_others_ranked(constant: float) -> None:
    q = torch.randn(1, 16, 999)
    q[:, 5] = constant
    order = HMHA(16)._order(q)[0]
    others = [i for i in range(16) if i != 5]
    z = torch.corrcoef(q[0, others].double()).sum(1)
    expected = [others[i] for i in z.argsort(descending=True)]
    assert [i for i in order.tolist() if i != 5] == expected
    assert order.tolist().index(5) == int((z > 0).sum())


@pytest.mark.parametrize("shape", [(1, 16, 1, 1), (2, 16, 4, 4), (2, 16, 2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("options", [{}, {"bias": True, "fidelity": "authors"}, {"cache": "paper"}], ids=str)
def test_a_zero_image_gives_finite_output_and_gradients(
    shape: tuple[int, ...], dtype: torch.dtype, options: dict[str, Any]
) -> None:
    module = HMHA(16, **options).to(dtype)
    x = torch.zeros(shape, dtype=dtype, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in module.parameters() if p.grad is not None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("scale", [1, 10, 100])
def test_half_precision_stays_finite_and_near_float32(scale: float, dtype: torch.dtype) -> None:
    module = HMHA(32, rerank="none").eval()
    x = scale * torch.randn(2, 32, 10, 10)
    with torch.no_grad():
        expected = module(x)
        with torch.autocast("cpu", dtype):
            mixed = module(x)
        pure = copy.deepcopy(module).to(dtype)(x.to(dtype))
    for y in (mixed, pure):
        assert y.isfinite().all()
        assert relative_error(y.float(), expected) < 0.05


def test_half_precision_ranks_as_float32_does_at_any_scale() -> None:
    q = (10_000 * torch.randn(2, 32, 400)).half()
    assert torch.equal(HMHA(32)._order(q), HMHA(32)._order(q.float()))


# --- cache ---


@pytest.mark.parametrize("cache", ["none", "authors", "paper"])
@pytest.mark.parametrize("channels", [8, 64])
def test_every_parameter_receives_a_gradient_in_a_module_alone(channels: int, cache: str) -> None:
    module = HMHA(channels, cache=cache)
    module(torch.randn(2, channels, 6, 6)).square().sum().backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []


def test_every_parameter_of_linked_modules_receives_a_gradient() -> None:
    network = Chain()
    network(torch.randn(2, 16, 6, 6)).square().sum().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_without_a_cache_there_are_no_modulators_for_it() -> None:
    assert not any("inter" in name for name in HMHA(16).state_dict())
    assert any("inter" in name for name in HMHA(16, cache="paper").state_dict())


def test_a_cache_given_to_a_module_without_one_is_an_error() -> None:
    with pytest.raises(ValueError, match="no use for a cache"):
        HMHA(16)(torch.randn(1, 16, 4, 4), torch.zeros(1, 16, 16))


@pytest.mark.parametrize("fidelity", ["corrected", "authors"])
def test_floor_division_empties_the_authors_cache_and_the_papers_is_the_weighted_mean(fidelity: str) -> None:
    x = torch.randn(2, 16, 5, 5)
    emptied = HMHA(16, cache="authors", fidelity="authors").forward_with_cache(x)[1]
    kept = HMHA(16, cache="paper", fidelity=fidelity, rerank="none").forward_with_cache(x)[1]
    assert not emptied.any()
    assert kept.shape == (2 if fidelity == "corrected" else 1, 16, 16)
    if fidelity == "authors":  # rows of the four maps sum to 1; enlarging keeps their mean 1/c; shares are c/C
        assert float(kept.mean()) == pytest.approx(0.9 * 4 / 16, rel=1e-3)


def test_each_image_has_a_cache_of_its_own() -> None:
    network = Chain()
    x = torch.randn(4, 16, 6, 6)
    torch.testing.assert_close(network(x)[:1], network(x[:1]), rtol=1e-4, atol=1e-4)


def test_linked_modules_pass_the_cache_as_by_hand() -> None:
    network = Chain()
    x = torch.randn(2, 16, 6, 6)
    y, cache = x, None
    for i, graft in enumerate(network.grafts):
        y, cache = graft.forward_with_cache(y, cache)
        y = network.steps[i](y) if i < 2 else y
    assert torch.equal(network(x), y)
    unlinked = copy.deepcopy(network)
    for graft in unlinked.grafts:
        HMHA.link([graft])
    assert relative_error(unlinked(x), y) > 1e-3


@pytest.mark.parametrize("hooked", [True, False])
def test_the_image_before_leaves_no_trace(hooked: bool) -> None:
    network = Chain()
    if not hooked:
        HMHA.link(list(network.grafts))
    first, second = torch.randn(2, 16, 6, 6), torch.randn(2, 16, 6, 6)
    fresh = network(second)
    network(first)
    assert torch.equal(network(second), fresh)
    assert network.grafts[0]._relay.cache is None, "no tensor is held after a forward pass"


@pytest.mark.parametrize("fail_after", [0, 1])
def test_an_exception_halfway_leaves_no_trace(fail_after: int) -> None:
    network = Chain()
    x, inner = torch.randn(2, 16, 6, 6), torch.randn(2, 24, 6, 6)
    fresh, alone = network(x), network.grafts[1](inner)
    network.fail_after = fail_after
    with pytest.raises(RuntimeError, match="halfway"):
        network(torch.randn(2, 16, 6, 6))
    network.fail_after = None
    assert network.grafts[0]._relay.cache is None
    assert torch.equal(network.grafts[1](inner), alone)
    assert torch.equal(network(x), fresh)


def test_a_pass_that_broke_off_in_an_unhooked_network_does_not_reach_the_next() -> None:
    network = Chain()
    HMHA.link(list(network.grafts))
    x = torch.randn(2, 16, 6, 6)
    inner = torch.randn(2, 24, 6, 6)
    fresh, alone = network(x), network.grafts[1](inner)
    network.fail_after = 0
    with pytest.raises(RuntimeError, match="halfway"):
        network(torch.randn(5, 16, 6, 6))
    network.fail_after = None
    assert torch.equal(network(x), fresh)
    network.fail_after = 0
    with pytest.raises(RuntimeError, match="halfway"):
        network(torch.randn(5, 16, 6, 6))
    assert torch.equal(network.grafts[1](inner), alone), "a cache for five images does not fit two"


def test_a_module_called_out_of_turn_gets_no_cache() -> None:
    network = Chain()
    x = torch.randn(2, 16, 6, 6)
    alone = network.grafts[2](x)
    network.grafts[0](x)
    assert torch.equal(network.grafts[2](x), alone)


def test_a_module_of_a_chain_works_alone_as_if_it_were_not_linked() -> None:
    network = Chain()
    x = torch.randn(2, 24, 6, 6)
    alone = network.grafts[1].forward_with_cache(x)[0]
    network(torch.randn(2, 16, 6, 6))
    assert torch.equal(network.grafts[1](x), alone)
    assert torch.equal(network.grafts[1](x), alone)


@pytest.mark.parametrize(
    "duplicate", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_a_copy_is_linked_within_itself_and_not_to_the_original(duplicate: Any) -> None:
    network = Chain()
    x = torch.randn(2, 16, 6, 6)
    y = network(x)
    network.grafts[0](x)  # leaves a cache for its successor in the original
    twin = duplicate(network)
    relay = twin.grafts[0]._relay
    assert relay is twin.grafts[2]._relay
    assert relay is not network.grafts[0]._relay
    assert relay.cache is None
    assert torch.equal(twin(x), y)
    network.grafts[0](x)
    assert relay.cache is None


def test_links_add_nothing_to_the_state_dict() -> None:
    network = Chain()
    assert {name.split(".")[0] for name in network.state_dict()} == {"grafts", "steps"}
    assert len(list(network.parameters())) == len(network.state_dict())


def test_caches_of_other_sizes_are_pooled_as_adaptive_pooling_does() -> None:
    module = HMHA(24, cache="paper")
    x = torch.randn(2, 24, 5, 5)
    for size in (8, 16, 64, 7):
        cache = torch.randn(2, size, size)
        pooled = nn.functional.adaptive_avg_pool2d(cache, 24)
        torch.testing.assert_close(module(x, cache), module(x, pooled))


# --- options, cost and handling ---


@pytest.mark.parametrize("channels", [12, 20, 36, 44, 100, 4, 0])
def test_channels_that_do_not_divide_by_8_are_named(channels: int) -> None:
    with pytest.raises(ValueError, match=f"divide by 8; got {channels}$"):
        HMHA(channels)


@pytest.mark.parametrize("option", ["rerank", "cache", "fidelity"])
def test_an_unknown_choice_is_named_with_the_valid_ones(option: str) -> None:
    with pytest.raises(ValueError, match=rf"{option} must be one of .*; got 'nonsense'"):
        HMHA(16, **{option: "nonsense"})


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 2), (5, 8), (13, 9)])
@pytest.mark.parametrize("options", [{}, {"bias": True, "rerank": "none"}, {"cache": "paper"}], ids=str)
def test_any_map_size_keeps_its_shape(size: tuple[int, int], options: dict[str, Any]) -> None:
    y = HMHA(16, **options)(torch.randn(2, 16, *size))
    assert y.shape == (2, 16, *size)
    assert y.isfinite().all()


def test_declared_scales_are_parameters_and_only_the_temperatures() -> None:
    module = HMHA(16, cache="paper")
    assert module.no_weight_decay() == {"temperature"} <= dict(module.named_parameters()).keys()


def test_matrix_products_are_counted_by_the_dispatcher_and_only_elementwise_work_is_not() -> None:
    module = HMHA(16, fused=False)
    x = torch.randn(1, 16, 10, 12)
    with FlopCounterMode(display=False) as counter:
        module(x)
    n, c = 120, 16
    convolutions = 2 * n * (3 * c * c + 3 * c * 9 + c * c) + 2 * n * (2 * c * c // 2 + c * c)
    attention = 2 * 2 * n * sum(size**2 for size in module.sizes)
    assert counter.get_total_flops() == convolutions + attention
    assert module.uncounted_flops(10, 12) == 2 * 5 * c * n
    assert HMHA(16, rerank="none").uncounted_flops(10, 12) == 2 * 2 * c * n


@pytest.mark.parametrize("cache", ["none", "paper"])
def test_exports_and_compiles_as_one_graph(cache: str) -> None:
    module, x = randomised(HMHA(16, cache=cache)), torch.randn(2, 16, 6, 5)
    exported = torch.export.export(module, (x,)).module()
    compiled = torch.compile(module, fullgraph=True, backend="eager")
    torch.testing.assert_close(exported(x), module(x))
    torch.testing.assert_close(compiled(x), module(x))


def test_no_tensor_stays_on_another_device() -> None:
    network = Chain()
    network(torch.randn(1, 16, 4, 4))
    assert network.to("meta")(torch.empty(1, 16, 6, 6, device="meta")).shape == (1, 16, 3, 3)


def test_the_code_on_the_card_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", CARD.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, CARD.name, "exec"), {})
