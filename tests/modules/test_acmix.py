"""ACmix: equality with its authors' code, and the faults of theirs that must not be ours."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ablate.modules.acmix import ACmix

CARD = Path(__file__).parents[2] / "docs" / "modules" / "acmix.md"
GOLDEN = sorted((Path(__file__).parents[1] / "golden").glob("acmix_*.npz"))


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def relative_error(ours: Tensor, theirs: Tensor) -> float:
    return float(((ours - theirs).abs().max() / theirs.abs().max()).detach())


def reference(module: ACmix, x: Tensor) -> Tensor:
    """The same sum pixel by pixel, window by window, straight from the definition (one image, small maps)."""
    q, k, v = (conv(x)[0] for conv in (module.conv1, module.conv2, module.conv3))  # (C, H, W)
    channels, height, width = q.shape
    size, d = module.kernel_att, module.head_dim
    axis = [
        torch.linspace(-1, 1, n, dtype=x.dtype) if n > 1 else -torch.ones(1, dtype=x.dtype) for n in (height, width)
    ]
    places = torch.stack([axis[1].expand(height, width), axis[0][:, None].expand(height, width)])
    pe = module.conv_p(places[None])[0]  # (d, H, W)

    def bounce(i: int, n: int) -> int:
        while not 0 <= i < n:
            i = 0 if n == 1 else -i if i < 0 else 2 * (n - 1) - i
        return i

    rows = []
    for top in range(0, height, module.stride):
        for left in range(0, width, module.stride):
            before = module.dilation * (size - 1) // 2
            window = [
                (
                    bounce(top - before + i * module.dilation, height),
                    bounce(left - before + j * module.dilation, width),
                )
                for i in range(size)
                for j in range(size)
            ]
            column = []
            for head in range(module.heads):
                s = slice(head * d, (head + 1) * d)
                logits = torch.stack(
                    [(q[s, top, left] * d**-0.5) @ (k[s, r, c] + pe[:, top, left] - pe[:, r, c]) for r, c in window]
                )
                values = torch.stack([v[s, r, c] for r, c in window])
                column.append(logits.softmax(0) @ values)
            rows.append(torch.cat(column))
    out = -(-height // module.stride), -(-width // module.stride)
    attention = torch.stack(rows, dim=1).view(channels, *out)

    taps = module.dep_conv.kernel_size[0]
    stacked = torch.stack([t.view(module.heads, d, height, width) for t in (q, k, v)]).flatten(0, 1)  # (3 m, d, H, W)
    mixed = torch.einsum("tm,mdhw->dthw", module.fc.weight[:, :, 0, 0], stacked).flatten(0, 1)  # (d t, H, W)
    before = taps // 2
    padded = F.pad(mixed, (before, taps - 1 - before, before, taps - 1 - before))
    convolution = F.conv2d(padded[None], module.dep_conv.weight, stride=module.stride, groups=d)[0]
    return (module.rate1 * attention + module.rate2 * convolution)[None]


# --- equality with the authors' code ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_output_and_gradients_equal_the_authors(path: Path, dtype: torch.dtype) -> None:
    with np.load(path) as golden:
        data = {key: torch.from_numpy(golden[key]).to(dtype) for key in golden.files if key != "config"}
        config = json.loads(str(golden["config"]))
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    module = ACmix.from_authors(**config["kwargs"]).to(dtype).eval()
    module.load_state_dict({k.removeprefix("param:"): v for k, v in data.items() if k.startswith("param:")})
    x = data["x"].requires_grad_()

    y = module(x)
    (y * data["cotangent"]).sum().backward()

    assert relative_error(y, data["y"]) < tolerance
    assert relative_error(x.grad, data["grad_x"]) < tolerance
    for name, parameter in module.named_parameters():
        if name in config["analytically_zero_grad"]:
            assert parameter.grad.abs().max() < tolerance * data["grad:conv_p.weight"].abs().max(), name
        else:
            assert relative_error(parameter.grad, data[f"grad:{name}"]) < tolerance, name


def test_there_are_golden_cases_with_stride_and_with_other_channels_out() -> None:
    names = " ".join(path.stem for path in GOLDEN)
    assert len(GOLDEN) >= 3
    assert "s2" in names
    assert "12_24" in names


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_published_weights_load_by_default_and_compute_the_same(path: Path) -> None:
    with np.load(path) as golden:
        weights = {f"graft.{k[6:]}": torch.from_numpy(golden[k]) for k in golden.files if k.startswith("param:")}
        x, y = torch.from_numpy(golden["x"]), torch.from_numpy(golden["y"]).float()
        kwargs = json.loads(str(golden["config"]))["kwargs"]
    options = {"heads": kwargs["head"], "stride": kwargs["stride"], "out_channels": kwargs["out_planes"]}
    module = ACmix(x.shape[1], kernel_att=kwargs["kernel_att"], kernel_conv=kwargs["kernel_conv"], **options)
    holder = nn.ModuleDict({"graft": module})
    holder.load_state_dict(weights)
    assert "graft.conv_p.bias" in weights, "loading leaves the caller's dictionary alone"
    assert relative_error(module(x), y) < 1e-5


def test_the_bias_without_effect_exists_only_for_the_authors() -> None:
    assert ACmix(16).conv_p.bias is None
    assert ACmix(16, fidelity="authors").conv_p.bias is not None


def test_authors_arguments_that_do_not_exist_are_refused() -> None:
    with pytest.raises(TypeError, match="heads"):
        ACmix.from_authors(in_planes=16, out_planes=16, heads=4)  # type: ignore[call-arg]


# --- sizes and options, against the definition ---


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (2, 2), (3, 3), (2, 9), (4, 4), (7, 6)])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"kernel_att": 3, "dilation": 2},
        {"kernel_att": 4, "stride": 2},
        {"kernel_att": 2, "kernel_conv": 4, "stride": 3},
        {"kernel_att": 1, "kernel_conv": 1},
        {"kernel_conv": 5, "heads": 2, "out_channels": 12},
        {"fidelity": "authors"},
    ],
    ids=str,
)
def test_every_size_and_option_follows_the_definition(size: tuple[int, int], options: dict[str, Any]) -> None:
    module = ACmix(8, **options).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter))
    x = torch.randn(1, 8, *size, dtype=torch.float64)
    torch.testing.assert_close(module(x), reference(module, x))


def test_padding_is_torchs_reflection_where_that_exists() -> None:
    t = torch.randn(2, 3, 5, 9)
    module = ACmix(8, kernel_att=7)
    assert torch.equal(module._reflect(t), F.pad(t, (3, 3, 3, 3), mode="reflect"))


@pytest.mark.parametrize("options", [{}, {"kernel_att": 4, "stride": 2}, {"kernel_att": 3, "dilation": 3}], ids=str)
def test_gradients_are_those_of_the_function(options: dict[str, Any]) -> None:
    module = ACmix(4, heads=2, **options).double()
    x = torch.randn(1, 4, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x, *_: module(x), (x, *module.parameters()), fast_mode=True)


def test_the_convolution_branch_starts_as_a_plain_convolution() -> None:
    module = ACmix(8, heads=2).double()
    with torch.no_grad():
        module.rate1.zero_()
        module.rate2.fill_(1)
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    q, k, v = module.conv1(x), module.conv2(x), module.conv3(x)
    heads = torch.cat([t.view(2, 2, 4, 6, 6) for t in (q, k, v)], dim=1)
    kernel = module.fc.weight.view(1, 3, 3, 6).permute(0, 3, 1, 2)  # the 9 taps over the 6 heads of q, k and v
    expected = F.conv2d(heads.transpose(1, 2).flatten(0, 1), kernel, padding=1).view(2, 4, 6, 6)
    torch.testing.assert_close(module(x), expected.repeat_interleave(2, dim=1))


# --- dtypes, layouts, devices ---


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_position_codes_follow_the_dtype(dtype: torch.dtype) -> None:
    module = ACmix(16).to(dtype)
    assert module(torch.randn(2, 16, 6, 5, dtype=dtype)).dtype == dtype


def test_position_codes_follow_the_device() -> None:
    module = ACmix(16)
    module(torch.randn(1, 16, 6, 5))
    assert module.to("meta")(torch.empty(2, 16, 6, 5, device="meta")).shape == (2, 16, 6, 5)


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_channels_last_works_at_any_batch_size(batch: int) -> None:
    module = ACmix(16)
    x = torch.randn(batch, 16, 6, 7)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    y = last(x.contiguous(memory_format=torch.channels_last))
    y.sum().backward()
    torch.testing.assert_close(y, module(x))


@pytest.mark.parametrize("scale", [1, 300, 3000])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_stays_finite_and_near_float32_at_large_scales(dtype: torch.dtype, scale: float) -> None:
    module = ACmix(32).eval()
    x = scale * torch.randn(2, 32, 8, 8)
    with torch.no_grad():
        expected = module(x)
        with torch.autocast("cpu", dtype):
            mixed = module(x)
        pure = copy.deepcopy(module).to(dtype)(x.to(dtype))
    for y in (mixed, pure):
        assert y.isfinite().all()
        if scale == 1:  # at larger scales the softmax picks one neighbour, and rounding decides which
            assert relative_error(y.float(), expected) < 0.03


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_zero_image_is_finite(dtype: torch.dtype) -> None:
    module = ACmix(16).to(dtype)
    x = torch.zeros(2, 16, 8, 8, dtype=dtype, requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()


# --- parameters, cost and handling ---


def test_every_parameter_receives_a_gradient() -> None:
    module = ACmix(16)
    module(torch.randn(2, 16, 6, 6)).square().sum().backward()
    assert [n for n, p in module.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_mixing_weights_start_at_one_half_and_are_not_decayed() -> None:
    module = ACmix(16)
    assert module.no_weight_decay() == {"rate1", "rate2"} <= dict(module.named_parameters()).keys()
    assert module.rate1.tolist() == module.rate2.tolist() == [0.5]


@pytest.mark.parametrize("options", [{}, {"kernel_att": 4, "stride": 2}], ids=str)
def test_window_work_is_what_the_flop_counter_cannot_see(options: dict[str, Any]) -> None:
    module = ACmix(16, **options, fused=False)
    with FlopCounterMode(display=False) as counter:
        module(torch.randn(1, 16, 9, 10))
    n, out = 90, 90 if not options else 25
    d, taps = 4, 9
    convolutions = 2 * (3 * n * 16 * 16 + n * 2 * d + n * d * 12 * taps + out * 16 * taps * 9)
    assert counter.get_total_flops() == convolutions
    assert module.uncounted_flops(9, 10) == 2 * 2 * out * 16 * module.kernel_att**2


def test_no_unfolded_tensor_is_kept_for_the_backward_pass() -> None:
    module, x = ACmix(16), torch.randn(1, 16, 16, 16)
    storages: dict[int, int] = {}

    def note(t: Tensor) -> Tensor:
        storages[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(note, lambda t: t):
        module(x)
    unfolded = x.nbytes * module.kernel_att**2
    assert max(storages.values()) <= unfolded / module.head_dim * 1.01
    assert sum(storages.values()) < 1.2 * unfolded


def test_exports_and_compiles_as_one_graph() -> None:
    module, x = ACmix(8, kernel_att=3).eval(), torch.randn(2, 8, 5, 6)
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x))
    torch.testing.assert_close(torch.compile(module, fullgraph=True, backend="eager")(x), module(x))


@pytest.mark.parametrize(("channels", "heads"), [(30, 4), (16, 3), (2, 4)])
def test_heads_that_do_not_divide_the_channels_are_named(channels: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"cannot split {channels} channels into {heads} heads"):
        ACmix(channels, heads=heads)


@pytest.mark.parametrize("name", ["channels", "heads", "kernel_att", "kernel_conv", "stride", "dilation"])
def test_a_size_below_one_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"needs {name} of at least 1; got 0"):
        ACmix(**{"channels": 16, "out_channels": 16, name: 0})


def test_an_unknown_fidelity_is_named_with_the_valid_ones() -> None:
    with pytest.raises(ValueError, match="fidelity must be one of corrected, authors; got 'exact'"):
        ACmix(16, fidelity="exact")


def test_the_code_on_the_card_runs() -> None:
    blocks = re.findall(r"```python\n(.*?)```", CARD.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, CARD.name, "exec"), {})
