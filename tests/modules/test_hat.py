"""HAB, OCAB and RHAG: equal to their authors' code where asked, any map size and any channels by default."""

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

from ablate.modules import hat
from ablate.modules.hat import HAB, OCAB, RHAG
from ablate.modules.kernels import window as kernel

ROOT = Path(__file__).parents[2]
CLASSES: dict[str, Any] = {"HAB": HAB, "OCAB": OCAB, "RHAG": RHAG}
CASES = [p for p in sorted((ROOT / "tests" / "golden").glob("*.npz")) if p.name.startswith(("hab", "ocab", "rhag"))]
BLOCKS = [HAB, OCAB, RHAG]


def randomised(module: Any, seed: int = 0) -> Any:
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
    assert len(CASES) == 4


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("path", CASES, ids=lambda p: p.stem)
def test_equals_the_authors_output_and_gradients(path: Path, dtype: torch.dtype) -> None:
    case = np.load(path)
    config = json.loads(str(case["config"]))
    module = CLASSES[config["module"]].from_authors(**config["kwargs"]).to(dtype)
    names = [key.removeprefix("param:") for key in case.files if key.startswith("param:")]
    module.load_state_dict({n: torch.tensor(case[f"param:{n}"], dtype=dtype) for n in names})
    x = torch.tensor(case["x"], dtype=dtype, requires_grad=True)
    y = module(x)
    (y * torch.tensor(case["cotangent"], dtype=dtype)).sum().backward()
    errors = {"y": relative_error(y, case["y"]), "grad_x": relative_error(x.grad, case["grad_x"])}
    errors |= {n: relative_error(p.grad, case[f"grad:{n}"]) for n, p in module.named_parameters()}
    assert max(errors.values()) < (1e-5 if dtype == torch.float32 else 1e-6), errors


def attention_by_hand(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
    """One query (heads, d), keys and values (M, heads, d), bias (M, heads) to (heads * d,)."""
    logits = torch.einsum("hd,mhd->mh", q, k) / q.shape[-1] ** 0.5 + bias
    return torch.einsum("mh,mhd->hd", logits.softmax(0), v).flatten()


def window_attention_by_hand(block: HAB, x: Tensor, shift: tuple[int, int]) -> Tensor:
    """Pixel by pixel, (H, W, C): a pixel sees those in the same cell of a grid that is moved by the shift."""
    (height, width, channels), window, heads = x.shape, block.window_size, block.attn.num_heads
    q, k, v = block.attn.qkv(x).reshape(height, width, 3, heads, channels // heads).unbind(2)
    out = torch.empty_like(x)
    places = [(i, j) for i in range(height) for j in range(width)]

    def cell(p: tuple[int, int]) -> tuple[int, int]:
        return (p[0] - shift[0]) // window, (p[1] - shift[1]) // window

    for p in places:
        seen = [s for s in places if cell(s) == cell(p)]
        rows = [(p[0] - s[0] + window - 1) * (2 * window - 1) + p[1] - s[1] + window - 1 for s in seen]
        keys, values = (torch.stack([t[s] for s in seen]) for t in (k, v))
        out[p] = attention_by_hand(q[p], keys, values, block.attn.relative_position_bias_table[rows])
    return block.attn.proj(out)


@pytest.mark.parametrize(
    ("size", "window", "shift", "moved"),
    [
        ((5, 7), 4, 0, (0, 0)),
        ((9, 6), 4, 2, (2, 2)),
        ((6, 3), 4, 2, (2, 0)),  # one window across: it is not shifted
        ((3, 6), 4, 2, (0, 2)),
        ((2, 3), 5, 2, (0, 0)),
        ((8, 8), 4, 2, (2, 2)),
        ((7, 7), 3, 1, (1, 1)),
    ],
)
def test_window_attention_equals_the_definition_computed_by_hand(
    size: tuple[int, int], window: int, shift: int, moved: tuple[int, int]
) -> None:
    block = randomised(HAB(8, num_heads=2, window_size=window, shift_size=shift).double())
    x = noise(2, *size, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([window_attention_by_hand(block, image, moved) for image in x])
        torch.testing.assert_close(block._attend_in_windows(x), expected)
        torch.testing.assert_close(block._attend_in_parts(x), expected)


def overlap_attention_by_hand(block: OCAB, x: Tensor) -> Tensor:
    """Pixel by pixel, (H, W, C): a pixel sees its window and the margin around it, as far as the map goes."""
    (height, width, channels), window, heads = x.shape, block.window_size, block.num_heads
    q, k, v = block.qkv(x).reshape(height, width, 3, heads, channels // heads).unbind(2)
    out = torch.empty_like(x)
    span, margin = 2 * window + 2 * block.margin - 1, block.margin
    for i in range(height):
        for j in range(width):
            top, left = i // window * window, j // window * window
            seen = [
                (a, b)
                for a in range(max(top - margin, 0), min(top + window + margin, height))
                for b in range(max(left - margin, 0), min(left + window + margin, width))
            ]
            # The authors' rows: key minus query inside their windows, less 2 * margin - 1, wrapped around.
            shift = margin - 2 * margin + 1
            rows = [((a - i + shift) * span + b - j + shift) % span**2 for a, b in seen]
            keys, values = (torch.stack([t[s] for s in seen]) for t in (k, v))
            out[i, j] = attention_by_hand(q[i, j], keys, values, block.relative_position_bias_table[rows])
    return block.proj(out)


@pytest.mark.parametrize(
    ("size", "window", "ratio"),
    [((5, 7), 4, 0.5), ((8, 8), 4, 0.5), ((2, 3), 5, 0.5), ((6, 9), 3, 1.5), ((5, 4), 3, 0)],
)
def test_overlapping_attention_equals_the_definition_computed_by_hand(
    size: tuple[int, int], window: int, ratio: float
) -> None:
    block = randomised(OCAB(8, num_heads=2, window_size=window, overlap_ratio=ratio).double())
    x = noise(2, *size, 8, dtype=torch.float64)
    with torch.no_grad():
        expected = torch.stack([overlap_attention_by_hand(block, image) for image in x])
        torch.testing.assert_close(block._attend_around_windows(x), expected)
        torch.testing.assert_close(block._attend_around_parts(x), expected)


@pytest.mark.parametrize("shift", [0, 2])
def test_the_default_hybrid_block_equals_the_authors_where_the_window_divides_the_map(shift: int) -> None:
    ours = randomised(HAB(32, window_size=4, shift_size=shift, squeeze_factor=8))
    theirs = HAB(32, window_size=4, shift_size=shift, squeeze_factor=8, fidelity="authors")
    theirs.load_state_dict(ours.state_dict())
    x = noise(2, 32, 8, 12)
    torch.testing.assert_close(ours(x), theirs(x))


def test_the_default_overlapping_block_differs_from_the_authors_at_the_border_only() -> None:
    ours = randomised(OCAB(16, window_size=4))
    theirs = OCAB(16, window_size=4, fidelity="authors")
    theirs.load_state_dict(ours.state_dict())
    x = noise(1, 16, 12, 12)
    difference = (ours(x) - theirs(x)).abs()
    assert difference[..., 4:8, 4:8].max() < 1e-5
    assert difference.max() > 1e-3


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("size", [(1, 1), (2, 2), (3, 17), (20, 20), (20, 21), (42, 42), (84, 9)])
def test_any_map_size_works(block: Any, size: tuple[int, int]) -> None:
    module = block(16)
    x = noise(2, 16, *size).requires_grad_()
    y = module(x)
    y.sum().backward()
    assert y.shape == x.shape
    assert y.isfinite().all()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in module.parameters())


def test_no_pixel_is_left_with_nothing_to_attend_to() -> None:
    """A row of the mask that blocks everything would turn into NaN."""
    like = torch.empty(0)
    for n in range(1, 18):
        for shift in range(4):
            assert not kernel.build_mask((n, 5), 4, (shift, 0), 0, like).all(-1).any()
            assert not kernel.build_mask((n, 5), 4, (0, 0), shift, like).all(-1).any()


@pytest.mark.parametrize("block", BLOCKS)
def test_the_authors_fidelity_refuses_sizes_that_its_windows_do_not_divide(block: Any) -> None:
    with pytest.raises(ValueError, match=r"windows of 8 do not divide a 20x24 map"):
        block(32, fidelity="authors")(noise(1, 32, 20, 24))


@pytest.mark.parametrize("channels", [4, 16, 32, 64])
def test_the_channel_branch_can_learn_from_the_start_for_every_seed(channels: int) -> None:
    for seed in range(200):
        torch.manual_seed(seed)
        gate = hat.ChannelAttention(channels, 30, "corrected")
        gate(torch.rand(2, channels, 4, 4) - 0.5).square().sum().backward()
        squeeze = gate.attention[1]
        assert squeeze.weight.grad.abs().sum(dim=(1, 2, 3)).min() > 0  # every unit


def test_the_squeeze_keeps_the_size_of_the_published_models() -> None:
    assert hat.ChannelAttention(180, 30, "corrected").attention[1].out_channels == 6
    assert hat.ChannelAttention(144, 24, "corrected").attention[1].out_channels == 6


def test_the_authors_squeeze_without_a_unit_is_refused_by_number() -> None:
    with pytest.raises(ValueError, match=r"squeeze_factor=30 leaves no unit of 16 channels"):
        RHAG(16, fidelity="authors")


@pytest.mark.parametrize(("window", "overlap"), [(7, 4), (6, 4), (4, 2), (8, 4), (16, 8), (5, 2)])
def test_an_odd_overlap_is_rounded_up_to_even(window: int, overlap: int) -> None:
    block = OCAB(16, window_size=window)
    assert 2 * block.margin == overlap
    assert block(noise(1, 16, 15, 9)).isfinite().all()


@pytest.mark.parametrize("window", [6, 7])
def test_the_authors_odd_overlap_is_refused_at_construction(window: int) -> None:
    with pytest.raises(ValueError, match=rf"window_size={window} with overlap_ratio=0.5 .*3 pixels"):
        OCAB(16, window_size=window, fidelity="authors")


def test_relative_index_of_the_overlap_counts_the_authors_rows_from_zero() -> None:
    window, outer = 4, 6
    index = OCAB(16, window_size=window).relative_position_index
    table_rows = (window + outer - 1) ** 2
    assert index.min() >= 0
    assert index.max() < table_rows
    for query in range(window**2):
        for key in range(outer**2):
            down, right = key // outer - query // window, key % outer - query % window
            authors = (down + window - outer + 1) * (window + outer - 1) + right + window - outer + 1
            assert index[query, key] == (authors + table_rows if authors < 0 else authors)
    assert index.unique().numel() == table_rows


def test_the_seam_of_a_shift_is_closed_even_to_large_logits() -> None:
    """In the shifted frame the map's last pixel lies diagonally before its first: one row of the bias table."""
    influence = {}
    for fidelity in ("corrected", "authors"):
        block = randomised(HAB(32, window_size=4, shift_size=2, conv_scale=0.0, fidelity=fidelity))
        block.attn.relative_position_bias_table.data[2 * 7 + 2] = 300
        x = noise(1, 32, 8, 8).requires_grad_()
        block(x)[..., 7, 7].sum().backward()
        influence[fidelity] = float(x.grad[..., 0, 0].abs().max())
    assert influence["corrected"] == 0
    assert influence["authors"] > 0.1


def test_masks_are_kept_per_size_and_device_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    build = kernel.build_mask
    monkeypatch.setattr(kernel, "build_mask", lambda *given: (made.append(given), build(*given))[1])
    module = RHAG(16, fused=False).eval()
    for _ in range(3):
        module(noise(1, 16, 20, 20))
    assert len(made) == 3  # plain, shifted, overlapping
    for n in range(9, 30):
        module(noise(1, 16, n, n))
    blocks = [*module.residual_group.blocks, module.residual_group.overlap_attn]
    assert max(len(block.masks.kept) for block in blocks) == kernel.KEPT_MASKS
    assert all(not block.masks.kept for block in copy.deepcopy(module).residual_group.blocks)
    assert len(pickle.dumps(module)) == len(pickle.dumps(RHAG(16, fused=False).eval()))
    assert module.to("meta")(noise(1, 16, 20, 20).to("meta")).device.type == "meta"


@pytest.mark.parametrize("block", BLOCKS)
def test_modules_hold_no_mask_and_survive_copies(block: Any) -> None:
    module = randomised(block(16))
    x = noise(1, 16, 13, 20)
    y = module(x)
    assert set(module.state_dict()) == {n for n, _ in module.named_parameters()}
    assert all(t.dtype == torch.int64 for t in module.buffers())  # the bias tables' indices only
    buffer = io.BytesIO()
    torch.save(module, buffer)
    buffer.seek(0)
    twins = [
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.load(buffer, weights_only=False),
    ]
    for twin in twins:
        torch.testing.assert_close(twin(x), y)
    torch.testing.assert_close(module.double()(x.double()), y.double(), atol=1e-4, rtol=1e-4)


def test_a_mask_first_made_in_inference_mode_serves_training() -> None:
    module = RHAG(16, fused=False)
    with torch.inference_mode():
        module(noise(1, 16, 11, 11))
    module(noise(1, 16, 11, 11)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_a_fake_tensor_leaves_no_fake_mask_behind() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    module = RHAG(16, fused=False)
    with FakeTensorMode(allow_non_fake_inputs=True):
        module(torch.zeros(1, 16, 11, 11))
    assert module(noise(1, 16, 11, 11)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("fidelity", ["corrected", "authors"])
@pytest.mark.parametrize("scale", [1.0, 10000.0])
def test_half_precision_models_and_autocast_stay_finite(dtype: torch.dtype, fidelity: Any, scale: float) -> None:
    module = RHAG(32, fidelity=fidelity)
    x = scale * noise(2, 32, 16, 24)
    half = copy.deepcopy(module).to(dtype)(x.to(dtype))
    assert half.dtype == dtype
    assert half.isfinite().all()
    with torch.autocast("cpu", dtype=dtype):
        assert module(x).isfinite().all()


def test_float16_autocast_agrees_with_float32() -> None:
    module = RHAG(32)
    x = noise(1, 32, 13, 20)
    with torch.autocast("cpu", dtype=torch.float16):
        half = module(x)
    assert relative_error(half, module(x).detach()) < 5e-3


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@pytest.mark.filterwarnings("ignore:Converting a tensor to a Python boolean")  # whether one window suffices
def test_a_traced_graph_is_right_for_another_batch_and_another_size() -> None:
    module = randomised(RHAG(16, window_size=4)).eval()
    traced = torch.jit.trace(module, noise(1, 16, 9, 10))
    for shape in ((3, 16, 9, 10), (1, 16, 8, 8), (2, 16, 21, 5)):
        torch.testing.assert_close(traced(noise(*shape)), module(noise(*shape)), atol=1e-4, rtol=1e-4)


def test_exports_for_an_input_size() -> None:
    module = randomised(RHAG(16, window_size=4)).eval()
    x = noise(2, 16, 9, 10)
    torch.testing.assert_close(torch.export.export(module, (x,)).module()(x), module(x), atol=1e-4, rtol=1e-4)


def test_bias_tables_are_exempt_from_decay_and_orthogonalisation() -> None:
    assert RHAG(16, depth=2).no_weight_decay() == {
        "residual_group.blocks.0.attn.relative_position_bias_table",
        "residual_group.blocks.1.attn.relative_position_bias_table",
        "residual_group.overlap_attn.relative_position_bias_table",
    }
    assert OCAB(16).no_weight_decay() == {"relative_position_bias_table"}
    assert HAB(16).no_weight_decay() == {"attn.relative_position_bias_table"}


def test_every_second_block_is_shifted() -> None:
    assert [b.shift_size for b in RHAG(16, depth=4, window_size=7).residual_group.blocks] == [0, 3, 0, 3]


@pytest.mark.parametrize(
    "options",
    [
        {"num_heads": 2},
        {"window_size": 4},
        {"overlap_ratio": 0.25},
        {"conv_scale": 1.0},
        {"compress_ratio": 2},
        {"squeeze_factor": 2},
        {"mlp_ratio": 1.0},
        {"depth": 3},
        {"qkv_bias": False},
    ],
    ids=lambda o: next(iter(o)),
)
def test_every_option_changes_the_module(options: dict[str, Any]) -> None:
    base, other = randomised(RHAG(16)), randomised(RHAG(16, **options))
    x = noise(1, 16, 11, 18)
    assert relative_error(other(x), base(x).detach()) > 1e-6


@pytest.mark.parametrize("channels", [16, 32, 48, 64, 96, 128, 256, 384])
def test_the_defaults_fit_the_channels_of_yolo(channels: int) -> None:
    assert RHAG(channels)(torch.zeros(1, channels, 2, 2)).isfinite().all()


@pytest.mark.parametrize("block", BLOCKS)
def test_channels_that_the_heads_do_not_divide_are_refused_by_number(block: Any) -> None:
    with pytest.raises(ValueError, match=r"18 channels .*num_heads=4"):
        block(18)


@pytest.mark.parametrize(
    ("block", "options"),
    [
        (RHAG, {"depth": 0}),
        (RHAG, {"num_heads": 0}),
        (RHAG, {"window_size": 0}),
        (RHAG, {"overlap_ratio": -0.5}),
        (RHAG, {"compress_ratio": 17}),
        (RHAG, {"compress_ratio": 0}),
        (RHAG, {"squeeze_factor": 0}),
        (RHAG, {"conv_scale": -1.0}),
        (RHAG, {"mlp_ratio": 0.01}),
        (RHAG, {"fidelity": "paper"}),
        (HAB, {"shift_size": 8}),
    ],
    ids=lambda o: str(o) if isinstance(o, dict) else "",
)
def test_options_out_of_range_are_refused(block: Any, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        block(16, **options)


@pytest.mark.parametrize("block", BLOCKS)
def test_an_unknown_argument_of_the_authors_is_a_type_error(block: Any) -> None:
    with pytest.raises(TypeError, match="windowsize"):
        block.from_authors(dim=32, windowsize=8)


def test_the_authors_defaults_are_theirs() -> None:
    block = HAB.from_authors(dim=32, num_heads=2)
    assert block.window_size == 7
    assert block.mlp.fc1.out_features == 128


def test_an_image_does_not_depend_on_its_batch() -> None:
    module = randomised(RHAG(16)).eval()
    x = noise(3, 16, 9, 10)
    torch.testing.assert_close(module(x)[1:2], module(x[1:2]), atol=1e-4, rtol=1e-4)


def test_channels_last_gives_the_same() -> None:
    module = randomised(RHAG(16))
    x = noise(2, 16, 9, 10)
    torch.testing.assert_close(module(x.to(memory_format=torch.channels_last)), module(x), atol=1e-4, rtol=1e-4)


def test_zero_image_gives_a_finite_output() -> None:
    assert RHAG(16)(torch.zeros(1, 16, 9, 9)).isfinite().all()


def test_the_code_of_the_card_runs() -> None:
    card = (ROOT / "docs" / "modules" / "hat.md").read_text(encoding="utf-8")
    blocks = [part.split("```")[0] for part in card.split("```python\n")[1:]]
    assert blocks
    exec("\n".join(blocks), {})
