"""What golden values cannot show of the catalogue's token mixers: maps that are padded, borders, options, graphs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.fixtures.recorded_graphs import in_onnx_runtime, recorded
from torch import Tensor, nn

from ablate.modules.fusions.cgafusion import CGAFusion
from ablate.modules.kernels.reflection import reflect
from ablate.modules.mixers.biformer import BiLevelRoutingAttention
from ablate.modules.mixers.cga import CascadedGroupAttention
from ablate.modules.mixers.crisscross import CrissCrossAttention
from ablate.modules.mixers.dat import DeformableAttention
from ablate.modules.mixers.focused_linear import FocusedLinearAttention
from ablate.modules.mixers.irmb import InvertedResidualMobileBlock
from ablate.modules.mixers.mlla import _rotate
from ablate.modules.mixers.msda import MultiScaleDilatedAttention
from ablate.settings.schema import option_file

NAMES = sorted(
    path.stem for path in Path(import_module("ablate.modules.mixers").__file__ or "").parent.glob("[!_]*.py")
)
SIZES = ((1, 16, 8, 8), (2, 16, 9, 12), (3, 16, 14, 7), (2, 16, 1, 1), (1, 16, 2, 15))


def build(name: str, channels: int = 16, **options: object) -> nn.Module:
    home, _, leaf = str(option_file("module", name)["_target_"]).rpartition(".")
    return perturbed(getattr(import_module(home), leaf)(channels, **options))


def perturbed(module: nn.Module) -> nn.Module:
    """The module in eval mode, with no parameter or statistic at zero or one."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(torch.rand(tensor.shape, generator=generator) * 0.3)
    return module.eval()


def image(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("biformer", {"num_heads": 3}, "num_heads"),
        ("biformer", {"topk": 0}, "topk"),
        ("biformer", {"kernel_size": 4}, "kernel_size"),
        ("cga", {"num_heads": 5}, "num_heads"),
        ("cga", {"key_channels": 0}, "key_channels"),
        ("cga", {"kernel_sizes": [5, 3]}, "kernel_sizes"),
        ("cga", {"kernel_sizes": 4}, "kernel_sizes"),
        ("cot", {"channels": 12}, "multiple of 8"),
        ("cot", {"kernel_size": 2}, "kernel_size"),
        ("crisscross", {"reduction": 0}, "reduction"),
        ("dat", {"groups": 3}, "groups"),
        ("dat", {"offset_range": -1.0}, "offset_range"),
        ("dat", {"kernel_size": 4}, "kernel_size"),
        ("dat", {"position": "mlp"}, "position"),
        ("dat", {"fidelity": "exact"}, "fidelity"),
        ("focal_modulation", {"focal_window": 4}, "focal_window"),
        ("focal_modulation", {"focal_factor": 1}, "focal_factor"),
        ("focal_modulation", {"focal_level": 0}, "focal_level"),
        ("focused_linear", {"num_heads": 3}, "num_heads"),
        ("focused_linear", {"focusing_factor": 0.0}, "focusing_factor"),
        ("irmb", {"head_channels": 5}, "head_channels"),
        ("irmb", {"attend_first": False, "expand": 1.3, "head_channels": 2}, "hidden channels"),
        ("irmb", {"norm": "group"}, "norm"),
        ("irmb", {"activation": "tanh"}, "activation"),
        ("mlla", {"channels": 6}, "multiple of 4"),
        ("mlla", {"num_heads": 3}, "num_heads"),
        ("mlla", {"mlp_ratio": 0.0}, "mlp_ratio"),
        ("msda", {"num_heads": 2}, "3 dilations"),
        ("msda", {"dilations": []}, "dilations"),
        ("msda", {"dilations": [0, 1]}, "dilations"),
        ("msda", {"kernel_size": 2}, "kernel_size"),
        ("shsa", {"ratio": 1.5}, "ratio"),
        ("shsa", {"key_channels": 0}, "key_channels"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(name: str, options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word) as raised:
        build(name, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_recorded_at_one_size_is_right_at_others(name: str) -> None:
    module = build(name)
    graph = recorded(module, image(1, 16, 8, 8))
    for shape in SIZES:
        torch.testing.assert_close(graph(image(*shape)), module(image(*shape)), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_onnx_is_right_at_sizes_that_it_was_not_exported_with(name: str) -> None:
    module = build(name)
    exported = in_onnx_runtime(module, image(1, 16, 8, 8))
    for shape in SIZES:
        torch.testing.assert_close(exported(image(*shape)), module(image(*shape)), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_torch_export_records_a_fixed_size(name: str) -> None:
    module, x = build(name), image(2, 16, 9, 6)
    program = torch.export.export(module, (x,))
    torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.parametrize("size", [(9, 13), (3, 2), (1, 1)])
def test_biformer_with_all_regions_is_attention_among_all_pixels(size: tuple[int, int]) -> None:
    module = perturbed(BiLevelRoutingAttention(16, num_heads=4, regions=4, topk=16))
    x = image(2, 16, *size)
    q, k, v = (t.flatten(2).unflatten(1, (4, 4)) for t in module.qkv(x).chunk(3, 1))
    shares = (q.mT @ k * 16**-0.5).softmax(-1)
    y = (v @ shares.mT).reshape(x.shape) + module.local(module.qkv(x)[:, 32:])
    torch.testing.assert_close(module(x), module.proj(y))


def test_biformer_chooses_regions_with_pixels_first_and_by_their_means() -> None:
    module = perturbed(BiLevelRoutingAttention(8, num_heads=2, regions=3, topk=2))
    x = image(1, 8, 4, 5)  # regions of 2 x 2 pixels: the third row of regions is nothing but padding
    q, k, v = module.qkv(x).chunk(3, 1)
    cells = [(slice(i, i + 2), slice(j, j + 2)) for i in (0, 2, 4) for j in (0, 2, 4)]
    means = [t[0, :, rows, columns].mean((1, 2)) for t in (q, k) for rows, columns in cells]
    y = torch.zeros_like(x)
    for region, (rows, columns) in enumerate(cells[:6]):
        alike = torch.stack([means[region] @ means[9 + other] for other in range(6)])
        chosen = [cells[i] for i in alike.topk(2).indices.tolist()]
        keys = torch.cat([k[0, :, a, b].flatten(1) for a, b in chosen], 1)
        values = torch.cat([v[0, :, a, b].flatten(1) for a, b in chosen], 1)
        for head in (slice(0, 4), slice(4, 8)):
            part = q[0, head, rows, columns]
            shares = (part.flatten(1).mT @ keys[head] * 8**-0.5).softmax(-1)
            y[0, head, rows, columns] = (values[head] @ shares.mT).reshape(part.shape)
    torch.testing.assert_close(module(x), module.proj(y + module.local(v)))


@pytest.mark.parametrize("size", [(9, 13), (2, 3), (6, 6)])
def test_irmb_attends_to_every_third_pixel_and_never_to_padding(size: tuple[int, int]) -> None:
    module = perturbed(InvertedResidualMobileBlock(8, head_channels=4, window_size=3, expand=2.0))
    x = image(2, 8, *size)
    normal = module.norm(x)
    q, k = module.qk(normal).chunk(2, 1)
    mixed = torch.zeros_like(x)
    down, right = -(-size[0] // 3), -(-size[1] // 3)
    for i in range(down):
        for j in range(right):
            for head in (slice(0, 4), slice(4, 8)):
                a, b, c = (t[:, head, i::down, j::right] for t in (q, k, normal))
                shares = (a.flatten(2).mT @ b.flatten(2) / 2).softmax(-1)
                mixed[:, head, i::down, j::right] = (c.flatten(2) @ shares.mT).reshape(a.shape)
    y = module.v(mixed).relu()
    torch.testing.assert_close(module(x), x + module.proj(y + module.local(y)))


@pytest.mark.parametrize("size", [(5, 7), (1, 2), (8, 4)])
def test_cga_attends_within_windows_and_never_to_padding(size: tuple[int, int]) -> None:
    module = perturbed(
        CascadedGroupAttention(8, num_heads=2, key_channels=3, window_size=4, kernel_sizes=3, residual=False)
    )
    x = image(2, 8, *size)
    outputs: list[Tensor] = []
    for head, part in enumerate(x.chunk(2, 1)):
        q, k, v = module.qkvs[head](part + outputs[-1] if outputs else part).split([3, 3, 4], 1)
        y = torch.zeros_like(part)
        for i in range(0, size[0], 4):
            for j in range(0, size[1], 4):
                window = (..., slice(i, i + 4), slice(j, j + 4))
                a = module.query_norms[head](module.query_convs[head](q[window]))
                places = torch.cartesian_prod(*(torch.arange(n) for n in a.shape[2:])).reshape(-1, 2)
                apart = (places[:, None] - places).abs()
                bias = module.position_bias_table[head, apart[..., 0] * 4 + apart[..., 1]]
                shares = (a.flatten(2).mT @ k[window].flatten(2) * 3**-0.5 + bias).softmax(-1)
                y[window] = (v[window].flatten(2) @ shares.mT).reshape(v[window].shape)
        outputs.append(y)
    torch.testing.assert_close(module(x), module.proj(torch.cat(outputs, 1)))


def test_cga_counts_no_padding_in_the_statistics_of_its_batch_norms() -> None:
    module = CascadedGroupAttention(8, num_heads=2, key_channels=4, window_size=7, kernel_sizes=1, residual=False)
    x = image(2, 8, 3, 5)
    module.train()(x)
    queries = module.query_convs[0](module.qkvs[0](x[:, :4])[:, :4])
    torch.testing.assert_close(module.query_norms[0].running_mean, 0.1 * queries.mean((0, 2, 3)))


@pytest.mark.parametrize("fidelity", ["corrected", "authors"])
def test_msda_leaves_out_what_is_beyond_the_border(fidelity: str) -> None:
    module = perturbed(build("msda", 8, num_heads=4, dilations=[1, 2, 3], fidelity=fidelity))
    assert isinstance(module, MultiScaleDilatedAttention)
    x = image(1, 8, 4, 6)
    q, k, v = (t[0].reshape(4, 2, 4, 6) for t in module.qkv(x).chunk(3, 1))
    y = torch.zeros(4, 2, 4, 6)
    for head, step in enumerate((1, 1, 2, 3)):  # four heads over three dilations: the first gets two
        for row in range(4):
            for column in range(6):
                places = [(row + step * i, column + step * j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
                inside = [place for place in places if 0 <= place[0] < 4 and 0 <= place[1] < 6]
                keys = torch.stack([k[head, :, a, b] for a, b in inside])
                values = torch.stack([v[head, :, a, b] for a, b in inside])
                if fidelity == "authors":
                    keys, values = (F.pad(t, (0, 0, 0, 9 - len(inside))) for t in (keys, values))
                shares = (keys @ q[head, :, row, column] * 2**-0.5).softmax(0)
                y[head, :, row, column] = shares @ values
    torch.testing.assert_close(module(x), module.proj(y.reshape(1, 8, 4, 6)))


def test_points_of_dat_that_do_not_move_are_the_pixels_of_an_even_grid() -> None:
    module = perturbed(DeformableAttention(8, groups=2, stride=1, kernel_size=3, position="none"))
    nn.init.zeros_(module.offset_proj.weight)
    x = image(2, 8, 5, 4)
    q, k, v = (proj(x).flatten(2).unflatten(1, (4, 2)) for proj in (module.proj_q, module.proj_k, module.proj_v))
    y = v @ (q.mT @ k * 2**-0.5).softmax(-1).mT
    torch.testing.assert_close(module(x), module.proj_out(y.reshape(x.shape)), rtol=1e-4, atol=1e-5)


def test_the_table_of_dat_is_read_at_the_displacement_of_pixel_and_point() -> None:
    module = perturbed(DeformableAttention(8, groups=2, stride=1, kernel_size=3, table_size=5))
    nn.init.zeros_(module.offset_proj.weight)
    points = module._points(image(2 * 2, 4, 5, 5))  # two images in two groups
    bias = module._bias(points, 5, 5)
    table = module.position_table
    assert bias.shape == (2, 4, 25, 25)
    assert table is not None
    torch.testing.assert_close(bias[1, 2, 7, 18], table[2, 4 + (1 - 3), 4 + (2 - 3)])  # from (3, 3) to (1, 2)


@pytest.mark.parametrize("fidelity", ["corrected", "authors"])
def test_points_of_dat_stay_on_the_map(fidelity: str) -> None:
    module = perturbed(build("dat", 8, offset_range=9.0, fidelity=fidelity))
    assert isinstance(module, DeformableAttention)
    beyond = module._points(3 * image(4, 4, 9, 7)).abs() > 1
    assert beyond.any() == (fidelity == "authors")


def test_positions_of_focused_linear_attention_are_interpolated_as_an_image_is() -> None:
    module = perturbed(FocusedLinearAttention(8, num_heads=2, position_size=3))
    other = perturbed(FocusedLinearAttention(8, num_heads=2, position_size=7))
    assert module.position is not None
    assert other.position is not None
    state = {name: value for name, value in module.state_dict().items() if name != "position"}
    other.load_state_dict(state, strict=False)
    with torch.no_grad():
        other.position.copy_(F.interpolate(module.position, size=(7, 7), mode="bilinear", align_corners=False))
    torch.testing.assert_close(module(image(2, 8, 7, 7)), other(image(2, 8, 7, 7)), rtol=1e-4, atol=1e-5)


def test_mlla_turns_pairs_of_channels_with_the_row_and_then_with_the_column() -> None:
    x = image(1, 8, 3, 5).double()
    turned = torch.view_as_complex(x.reshape(1, 4, 2, 3, 5).movedim(2, -1).contiguous())
    row, column = torch.arange(3).double()[:, None], torch.arange(5).double()
    angles = torch.stack([(axis * speed).expand(3, 5) for axis in (row, column) for speed in (1.0, 0.01)])
    turned = turned * torch.polar(torch.ones_like(angles), angles)
    torch.testing.assert_close(_rotate(x), torch.view_as_real(turned).movedim(-1, 2).reshape(x.shape))


def test_criss_cross_attention_sees_a_pixels_row_and_column_and_itself_once() -> None:
    module = perturbed(CrissCrossAttention(8, reduction=2, recurrence=1))
    x = image(1, 8, 3, 4)
    q, k, v = (conv(x)[0] for conv in (module.query, module.key, module.value))
    y = torch.zeros(8, 3, 4)
    for row in range(3):
        for column in range(4):
            seen = [(row, j) for j in range(4)] + [(i, column) for i in range(3) if i != row]
            shares = torch.stack([q[:, row, column] @ k[:, i, j] for i, j in seen]).softmax(0)
            y[:, row, column] = torch.stack([v[:, i, j] for i, j in seen], 1) @ shares
    torch.testing.assert_close(module(x), x + module.gamma * y)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (4, 9)])
def test_a_small_map_is_reflected_back_and_forth(size: tuple[int, int]) -> None:
    x = torch.arange(size[0] * size[1]).reshape(1, 1, *size)
    y = reflect(x, 3)
    for dim, length in ((2, size[0]), (3, size[1])):
        there_and_back = [*range(length), *range(length - 2, 0, -1)]
        index = torch.tensor([there_and_back[i % len(there_and_back)] for i in range(-3, length + 3)])
        x = x.index_select(dim, index)
    assert torch.equal(y, x)


def test_the_weights_of_cgafusion_mix_two_maps() -> None:
    module = perturbed(CGAFusion([8, 8], 8))
    nn.init.zeros_(module.weights.weight)
    nn.init.constant_(module.weights.bias, 50.0)  # weights of one: the first map counts twice, the second once
    x, other = image(2, 8, 2, 3), image(2, 8, 2, 3).flip(0)
    torch.testing.assert_close(module([x, other]), module.proj(2 * x + other))
    with pytest.raises(ValueError, match="two maps"):
        CGAFusion([8, 8, 8], 8)


@pytest.mark.parametrize("name", ["cga", "shsa"])
def test_a_block_with_its_shortcut_starts_as_the_identity(name: str) -> None:
    home, _, leaf = str(option_file("module", name)["_target_"]).rpartition(".")
    x = image(2, 16, 9, 5)
    assert torch.equal(getattr(import_module(home), leaf)(16)(x), x)
    assert not torch.allclose(getattr(import_module(home), leaf)(16, residual=False)(x), x)
