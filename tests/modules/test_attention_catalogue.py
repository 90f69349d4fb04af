"""What golden values cannot show of the catalogue's attention modules: options, borders, one pixel, recorded graphs."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
import torch
from tests.fixtures.recorded_graphs import in_onnx_runtime, recorded
from torch import Tensor, nn

from ablate.modules.attention.cbam import CBAM
from ablate.modules.attention.eca import ECA, adaptive_kernel
from ablate.modules.attention.ema import EMA
from ablate.modules.attention.mlca import MLCA
from ablate.modules.attention.scsa import SCSA
from ablate.modules.attention.se import SE
from ablate.modules.attention.simam import SimAM
from ablate.modules.blocks.sppf_lska import SPPFLSKA
from ablate.settings.schema import option_file

NAMES = sorted(
    path.stem for path in Path(import_module("ablate.modules.attention").__file__ or "").parent.glob("[!_]*.py")
)
SIZES = ((2, 16, 5, 9), (3, 16, 21, 4), (1, 16, 8, 8))


def build(name: str, channels: int = 16, **options: object) -> nn.Module:
    home, _, leaf = str(option_file("module", name)["_target_"]).rpartition(".")
    torch.manual_seed(0)
    own = {"groups": 4} if name == "ema" else {}
    module: nn.Module = getattr(import_module(home), leaf)(channels, **{**own, **options})
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return module.eval()


@pytest.mark.parametrize(
    ("name", "options", "word"),
    [
        ("caa", {"kernel_size": 4}, "kernel_size"),
        ("cbam", {"kernel_size": 4}, "kernel_size"),
        ("cbam", {"reduction": 0}, "reduction"),
        ("coordatt", {"reduction": 0}, "reduction"),
        ("eca", {"kernel_size": 2}, "kernel_size"),
        ("eca", {"kernel_size": -3}, "kernel_size"),
        ("cpca", {"strips": [4]}, "strips"),
        ("cpca", {"reduction": 0}, "reduction"),
        ("ela", {"kernel_size": 6}, "kernel_size"),
        ("ela", {"norm_groups": 3}, "norm_groups=3"),
        ("ela", {"conv_groups": 5}, "conv_groups=5"),
        ("ema", {"groups": 5}, "groups=5"),
        ("ema", {"groups": 32}, "16 channels"),
        ("gam", {"reduction": -1}, "reduction"),
        ("lsk", {"channels": 1}, "2 channels"),
        ("lska", {"kernel_size": 9}, "7, 11, 23, 35, 41, 53"),
        ("mlca", {"local_size": 0}, "local_size"),
        ("mlca", {"local_weight": 1.5}, "local_weight"),
        ("mlca", {"kernel_size": 6}, "kernel_size"),
        ("msca", {"strips": [7, 8]}, "strips"),
        ("msca", {"strips": []}, "strips"),
        ("msca", {"strips": 7}, "a list of odd numbers; got 7"),
        ("msca", {"strips": "7"}, "a list of odd numbers"),
        ("msca", {"strips": [7.0]}, "strips"),
        ("scsa", {"kernel_sizes": 3}, "kernel_sizes"),
        ("scsa", {"channels": 18}, "divisible"),
        ("scsa", {"heads": 3}, "heads=3"),
        ("scsa", {"kernel_sizes": [3, 5, 7]}, "kernel_sizes"),
        ("scsa", {"window_size": -1}, "window_size"),
        ("scsa", {"fidelity": "exact"}, "fidelity"),
        ("se", {"reduction": 0}, "reduction"),
        ("shuffle", {"groups": 3}, "groups=6"),
        ("simam", {"e_lambda": 0.0}, "e_lambda"),
        ("triplet", {"kernel_size": 6}, "kernel_size"),
    ],
)
def test_wrong_options_are_refused_in_one_sentence(name: str, options: dict[str, object], word: str) -> None:
    with pytest.raises(ValueError, match=word) as raised:
        build(name, **options)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", NAMES)
def test_the_code_of_its_card_runs(name: str) -> None:
    card = (Path(__file__).parents[2] / "docs/modules" / f"{name}.md").read_text(encoding="utf-8")
    exec(card.partition("```python\n")[2].partition("```")[0], {})


@pytest.mark.parametrize("name", NAMES)
def test_a_graph_recorded_at_one_size_is_right_at_others(name: str) -> None:
    module = build(name)
    graph = recorded(module, torch.randn(1, 16, 8, 8))
    for shape in SIZES:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(graph(x), module(x), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_onnx_is_right_at_sizes_that_it_was_not_exported_with(name: str) -> None:
    module = build(name)
    exported = in_onnx_runtime(module, torch.randn(1, 16, 8, 8))
    for shape in SIZES:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(exported(x), module(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_torch_export_records_a_fixed_size(name: str) -> None:
    module, x = build(name), torch.randn(2, 16, 9, 6)
    program = torch.export.export(module, (x,))
    torch.testing.assert_close(program.module()(x), module(x))


def test_few_channels_keep_four_hidden_units() -> None:
    assert SE(16).squeeze.out_channels == 4
    assert SE(128, reduction=16).squeeze.out_channels == 8
    assert next(iter(CBAM(8).mlp.children())).out_channels == 4


@pytest.mark.parametrize(("channels", "size"), [(8, 3), (16, 3), (32, 3), (64, 3), (128, 5), (256, 5), (512, 5)])
def test_the_kernel_of_eca_grows_with_the_logarithm_of_the_channels(channels: int, size: int) -> None:
    assert adaptive_kernel(channels) == size
    assert ECA(channels).conv.kernel_size == (size,)
    assert MLCA(channels).conv_local.kernel_size == (size,)


def test_simam_weighs_the_pixel_of_a_one_pixel_map_as_one_of_average_energy() -> None:
    x = torch.tensor([3.0, -2.0]).reshape(1, 2, 1, 1)
    torch.testing.assert_close(SimAM(2)(x), x * torch.sigmoid(torch.tensor(0.5)))


def test_ema_trains_on_a_single_value_in_each_group() -> None:
    y: Tensor = EMA(2, groups=2).train()(torch.randn(1, 2, 1, 1))
    assert y.isfinite().all()


def test_scsa_counts_a_window_at_the_border_with_the_pixels_that_it_has(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(2, 8, 9, 17)
    means = SCSA(8, window_size=7)._window_means(x)
    assert means.shape == (2, 8, 2, 3)
    torch.testing.assert_close(means[..., 0, 0], x[..., :7, :7].mean((2, 3)))
    torch.testing.assert_close(means[..., 1, 2], x[..., 7:, 14:].mean((2, 3)))
    with monkeypatch.context() as patched:  # as in a recorded graph
        patched.setattr("ablate.modules.attention.scsa.exporting", lambda: True)
        torch.testing.assert_close(SCSA(8, window_size=7)._window_means(x), means)
    authors = SCSA(8, window_size=7, fidelity="authors")._window_means(x)
    torch.testing.assert_close(authors, means[..., :1, :2])


def test_sppf_lska_keeps_the_tensors_of_the_sppf_and_its_result_where_attention_is_one() -> None:
    from ultralytics.nn.modules import SPPF

    stock = SPPF(16, 16, shortcut=True).eval()
    module = SPPFLSKA(16, 16, shortcut=True).eval()
    shared = module.load_state_dict(stock.state_dict(), strict=False)
    assert not shared.unexpected_keys
    assert {key.split(".")[0] for key in shared.missing_keys} == {"lska"}
    with torch.no_grad():
        module.lska.mix.weight.zero_()
        assert module.lska.mix.bias is not None
        module.lska.mix.bias.fill_(1.0)
        for norm in (stock.cv1.bn, stock.cv2.bn):
            norm.eps = module.cv1.bn.eps
    x = torch.randn(2, 16, 7, 5)
    torch.testing.assert_close(module(x), stock(x))
    assert not SPPFLSKA(16, 8, shortcut=True).add
