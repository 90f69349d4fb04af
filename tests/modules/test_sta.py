"""StokenAttention: equal to its authors' code where asked, right at the border by default."""

from __future__ import annotations

import copy
import json
import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from ablate.modules.sta import StokenAttention

ROOT = Path(__file__).parents[2]
CASES = sorted((ROOT / "tests" / "golden").glob("sta_*.npz"))


def randomised(module: StokenAttention, seed: int = 0) -> StokenAttention:
    generator = torch.Generator().manual_seed(seed)
    for p in module.parameters():
        p.data = 0.4 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return module


def noise(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def relative_error(value: Tensor, reference: Any) -> float:
    reference = np.asarray(reference, dtype=np.float64)
    return float(np.abs(value.detach().double().numpy() - reference).max() / np.abs(reference).max())


def test_there_are_golden_cases() -> None:
    assert len(CASES) == 3


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_equals_the_authors_output_and_gradients(path: Path, dtype: torch.dtype) -> None:
    case = np.load(path)
    module = StokenAttention.from_authors(**json.loads(str(case["config"]))["kwargs"]).to(dtype)
    names = [key.removeprefix("param:") for key in case.files if key.startswith("param:")]
    module.load_state_dict({n: torch.tensor(case[f"param:{n}"], dtype=dtype) for n in names})
    x = torch.tensor(case["x"], dtype=dtype, requires_grad=True)
    y = module(x)
    (y * torch.tensor(case["cotangent"], dtype=dtype)).sum().backward()
    errors = {"y": relative_error(y, case["y"]), "grad_x": relative_error(x.grad, case["grad_x"])}
    errors |= {n: relative_error(p.grad, case[f"grad:{n}"]) for n, p in module.named_parameters()}
    assert max(errors.values()) < (1e-5 if dtype == torch.float32 else 1e-6), errors


def by_hand(module: StokenAttention, x: Tensor) -> Tensor:
    """The corrected definition pixel by pixel, on cells of whatever size: there is no padding to go wrong."""
    batch, channels, height, width = x.shape
    h, w = module.stoken_size
    rows, cols = math.ceil(height / h), math.ceil(width / w)
    cells = [(i, j) for i in range(rows) for j in range(cols)]
    pixels = [(y, z) for y in range(height) for z in range(width)]
    out = torch.empty_like(x)
    for b in range(batch):
        tokens = {(i, j): x[b, :, i * h : (i + 1) * h, j * w : (j + 1) * w].flatten(1).mean(1) for i, j in cells}
        for _ in range(module.n_iter):
            shares: dict[tuple[int, int], dict[tuple[int, int], Tensor]] = {}
            for y, z in pixels:
                near = [c for c in cells if abs(c[0] - y // h) <= 1 and abs(c[1] - z // w) <= 1]
                logits = torch.stack([x[b, :, y, z] @ tokens[c] for c in near]) / math.sqrt(channels)
                shares[y, z] = dict(zip(near, logits.softmax(0), strict=True))
            for c in cells:
                weights = torch.stack([shares[p].get(c, torch.zeros((), dtype=x.dtype)) for p in pixels])
                tokens[c] = weights @ torch.stack([x[b, :, y, z] for y, z in pixels]) / weights.sum()
        grid = torch.stack([tokens[c] for c in cells], 1).reshape(1, channels, rows, cols)
        refined = module.stoken_refine(grid)[0]
        for y, z in pixels:
            out[b, :, y, z] = torch.stack([s * refined[:, i, j] for (i, j), s in shares[y, z].items()]).sum(0)
    return out


@pytest.mark.parametrize(
    ("size", "stoken", "n_iter"), [((5, 7), (2, 3), 2), ((4, 6), 2, 1), ((3, 2), 4, 3), ((1, 5), (3, 2), 1)]
)
def test_equals_the_definition_computed_by_hand(size: Any, stoken: Any, n_iter: int) -> None:
    module = StokenAttention(8, stoken_size=stoken, n_iter=n_iter, num_heads=2).double()
    randomised(module)
    x = noise(2, 8, *size, dtype=torch.float64)
    with torch.no_grad():
        torch.testing.assert_close(module(x), by_hand(module, x))


def test_authors_fidelity_is_the_same_module_away_from_the_border() -> None:
    """One round reaches three cells inwards (the attention, which reaches everywhere, is taken out)."""
    ours, theirs = (StokenAttention(8, stoken_size=2, num_heads=2, fidelity=f) for f in ("corrected", "authors"))
    theirs.load_state_dict(randomised(ours).state_dict())
    for module in (ours, theirs):
        module.stoken_refine.forward = lambda tokens: tokens  # type: ignore[method-assign]
    x = noise(1, 8, 20, 20)
    difference = (ours(x) - theirs(x)).abs()
    assert difference[..., 6:-6, 6:-6].max() < 1e-6
    assert difference.max() > 1e-2


@pytest.mark.parametrize("size", [(16, 16), (17, 18), (3, 5), (1, 1)])
def test_a_constant_image_stays_constant_up_to_the_border(size: tuple[int, int]) -> None:
    module = randomised(StokenAttention(16, stoken_size=4, n_iter=2))
    y = module(torch.ones(1, 16, *size))
    torch.testing.assert_close(y, y[..., :1, :1].expand_as(y))


def test_a_constant_image_loses_its_border_in_the_authors_code() -> None:
    y = randomised(StokenAttention(16, stoken_size=4, fidelity="authors"))(torch.ones(1, 16, 17, 18))
    assert relative_error(y, y[..., 8:9, 8:9].detach().expand_as(y)) > 0.05


def test_a_canvas_that_needs_padding_hardly_changes_the_image() -> None:
    """As in rectangular validation: four more columns, of the same texture, beside a map that fitted."""
    changes = {}
    for fidelity in ("corrected", "authors"):
        module = StokenAttention(16, stoken_size=8, fidelity=fidelity)  # type: ignore[arg-type]
        randomised(module)
        x = 0.3 * noise(1, 16, 80, 84)
        with torch.no_grad():
            before, after = module(x[..., :80])[..., 72:], module(x)[..., 72:80]
        changes[fidelity] = float((after - before).norm() / before.norm())
    assert changes["corrected"] < 0.02
    assert changes["authors"] > 0.3


def test_gradient_of_the_input_is_the_true_one() -> None:
    module = randomised(StokenAttention(4, stoken_size=2, n_iter=2, num_heads=2).double())
    x = noise(1, 4, 3, 5, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(module, (x,))


def test_association_grad_off_leaves_the_output_and_cuts_the_gradient() -> None:
    full = randomised(StokenAttention(16, n_iter=2))
    cut = StokenAttention(16, n_iter=2, association_grad=False)
    cut.load_state_dict(full.state_dict())
    gradients = []
    outputs = []
    for module in (full, cut):
        x = noise(1, 16, 10, 10).requires_grad_()
        outputs.append(module(x))
        outputs[-1].square().sum().backward()
        gradients.append(x.grad)
    torch.testing.assert_close(*outputs)
    assert relative_error(gradients[1], gradients[0]) > 0.05


def test_authors_fidelity_turns_association_grad_off() -> None:
    assert not StokenAttention(16, association_grad=True, fidelity="authors").association_grad


def test_nothing_but_the_attention_among_super_tokens_is_trained() -> None:
    module = StokenAttention(16)
    assert set(module.state_dict()) == {
        "stoken_refine.qkv.weight",
        "stoken_refine.qkv.bias",
        "stoken_refine.proj.weight",
        "stoken_refine.proj.bias",
    }
    assert all(p.requires_grad for p in module.parameters())
    assert not list(module.buffers())
    assert module.no_weight_decay() == set()


def test_the_constant_kernels_in_a_state_dict_of_the_authors_are_passed_over() -> None:
    kernels = {name: torch.eye(9).reshape(9, 1, 3, 3) for name in ("unfold.weights", "fold.weights")}
    published = randomised(StokenAttention(16)).state_dict()
    module = StokenAttention(16)
    module.load_state_dict({**published, **kernels})
    network = torch.nn.Sequential(StokenAttention(16))
    network.load_state_dict({f"0.{name}": value for name, value in (published | kernels).items()})
    torch.testing.assert_close(network[0].state_dict(), module.state_dict())
    with pytest.raises(RuntimeError, match=r"unfold\.weight"):
        module.load_state_dict({**published, "unfold.weight": torch.eye(9)})


@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 9), (20, 21)])
@pytest.mark.parametrize("stoken", [1, 4, (2, 3), 32])
def test_any_map_works_with_any_token_size(size: tuple[int, int], stoken: Any) -> None:
    module = StokenAttention(16, stoken_size=stoken)
    x = noise(2, 16, *size).requires_grad_()
    y = module(x)
    y.sum().backward()
    assert y.shape == x.shape
    assert y.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_tokens_of_one_pixel_are_plain_attention() -> None:
    module = randomised(StokenAttention(8, stoken_size=1, num_heads=2))
    x = noise(1, 8, 3, 4)
    qkv = module.stoken_refine.qkv(x).reshape(2, 3, 4, 12)  # heads, q k v, d, pixels
    heads = [v @ ((q.T @ k) / 2).softmax(-1).T for q, k, v in qkv]
    expected = module.stoken_refine.proj(torch.cat(heads).reshape(1, 8, 3, 4))
    torch.testing.assert_close(module(x), expected)


def test_zero_image_gives_a_finite_output() -> None:
    assert StokenAttention(16, n_iter=3)(torch.zeros(1, 16, 9, 9)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("scale", [1.0, 300.0, 10000.0])
@pytest.mark.parametrize("stoken", [1, 4])
def test_half_precision_stays_finite_up_to_big_features(dtype: torch.dtype, scale: float, stoken: int) -> None:
    x = scale * noise(2, 64, 13, 10)
    module = StokenAttention(64, stoken_size=stoken, n_iter=2)
    with torch.autocast("cpu", dtype=dtype):
        assert module(x).isfinite().all()
    half = copy.deepcopy(module).to(dtype)(x.to(dtype))
    assert half.dtype == dtype
    assert half.isfinite().all()


def test_half_precision_gradients_are_finite_where_float16_products_overflow() -> None:
    module = StokenAttention(64, n_iter=2)
    x = (1000 * noise(2, 64, 13, 10)).requires_grad_()
    with torch.autocast("cpu", dtype=torch.float16):
        module(x).float().mean().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_float16_autocast_agrees_with_float32() -> None:
    module = randomised(StokenAttention(32))
    x = noise(1, 32, 12, 12)
    with torch.autocast("cpu", dtype=torch.float16):
        half = module(x)
    assert relative_error(half, module(x).detach()) < 5e-3


@pytest.mark.parametrize("channels", [16, 32, 48, 64, 96, 128, 256, 384])
def test_the_default_heads_divide_the_channels_of_yolo(channels: int) -> None:
    assert StokenAttention(channels)(torch.zeros(1, channels, 2, 2)).shape == (1, channels, 2, 2)


@pytest.mark.parametrize("channels", [20, 60])
def test_channels_that_the_heads_do_not_divide_are_refused_by_number(channels: int) -> None:
    with pytest.raises(ValueError, match=rf"{channels} channels .*num_heads=8"):
        StokenAttention(channels)


@pytest.mark.parametrize(
    "options",
    [{"stoken_size": 0}, {"stoken_size": (1, 2, 3)}, {"n_iter": 0}, {"num_heads": 0}, {"fidelity": "x"}],
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        StokenAttention(16, **options)


def test_an_unknown_argument_of_the_authors_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="dimm"):
        StokenAttention.from_authors(dimm=16, stoken_size=[2, 2])  # type: ignore[call-arg]


@pytest.mark.parametrize("options", [{"stoken_size": 3}, {"n_iter": 3}, {"num_heads": 2}, {"fidelity": "authors"}])
def test_every_option_changes_the_output(options: dict[str, Any]) -> None:
    base, other = StokenAttention(16), StokenAttention(16, **options)
    other.load_state_dict(randomised(base).state_dict())
    x = noise(1, 16, 9, 10)
    assert relative_error(other(x), base(x).detach()) > 1e-3


def test_qkv_bias_can_be_left_out() -> None:
    assert StokenAttention(16, qkv_bias=False).stoken_refine.qkv.bias is None


def test_an_image_does_not_depend_on_its_batch() -> None:
    module = randomised(StokenAttention(16)).eval()
    x = noise(3, 16, 9, 10)
    torch.testing.assert_close(module(x)[1:2], module(x[1:2]))


def test_channels_last_gives_the_same() -> None:
    module = randomised(StokenAttention(16))
    x = noise(2, 16, 9, 10)
    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last)), module(x))


def test_exports_for_an_input_size() -> None:
    """Pooling to a size that depends on the input would stop here."""
    module = randomised(StokenAttention(16, n_iter=2)).eval()
    x = noise(2, 16, 9, 10)
    program = torch.export.export(module, (x,))
    assert not any("adaptive" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_traced_graph_is_right_for_another_size() -> None:
    module = randomised(StokenAttention(16, n_iter=2)).eval()
    traced = torch.jit.trace(module, noise(1, 16, 9, 10))
    for shape in ((3, 16, 9, 10), (1, 16, 8, 8), (2, 16, 21, 5)):
        torch.testing.assert_close(traced(noise(*shape)), module(noise(*shape)))


def test_survives_pickle_deepcopy_and_the_meta_device() -> None:
    module = randomised(StokenAttention(16))
    x = noise(1, 16, 9, 10)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        torch.testing.assert_close(twin(x), module(x))
    assert module.to("meta")(x.to("meta")).shape == x.shape


def test_the_code_of_the_card_runs() -> None:
    card = (ROOT / "docs" / "modules" / "sta.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    assert blocks
    exec("\n".join(blocks), {})
