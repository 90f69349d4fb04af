"""What halves, doubles or joins maps has the ports of the layer that it replaces, at any size, and does its formula."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from tests.fixtures.recorded_graphs import in_onnx_runtime, recorded
from torch import Tensor, nn
from torchvision.ops import deform_conv2d
from ultralytics.nn.modules.block import SCDown
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import DetectionModel

from ablate.grafting.folding import fold_norms
from ablate.grafting.surgery import operate
from ablate.measuring.complexity import complexity
from ablate.modules.downsamplers.aconv import AConv
from ablate.modules.downsamplers.adown import ADown
from ablate.modules.downsamplers.haardown import HaarDown
from ablate.modules.downsamplers.spdconv import SPDConv
from ablate.modules.fusions.bifpn import BiFPN
from ablate.modules.fusions.iaff import IAFF
from ablate.modules.fusions.sdi import SDI
from ablate.modules.heads.asff import ASFF
from ablate.modules.heads.dyhead import DyHead
from ablate.modules.kernels.deformable import deform_conv3x3
from ablate.modules.upsamplers.carafe import CARAFE
from ablate.modules.upsamplers.dysample import DySample
from ablate.modules.upsamplers.eucb import EUCB
from ablate.settings.graft import GraftSpec

SIZES = ((1, 1), (2, 2), (1, 5), (3, 7), (8, 8), (9, 13))
Made = Callable[[], nn.Module]
HALVES: dict[str, Made] = {
    "adown": lambda: ADown(8, 12),
    "aconv": lambda: AConv(8, 12),
    "scdown": lambda: SCDown(8, 12, k=3, s=2),
    "spdconv": lambda: SPDConv(8, 12),
    "spdconv, 1x1": lambda: SPDConv(8, 12, kernel=1),
    "haardown": lambda: HaarDown(8, 12),
}
DOUBLES: dict[str, Made] = {
    "dysample": lambda: DySample(8),
    "dysample pl": lambda: DySample(8, style="pl", groups=2, dyscope=True),
    "dysample scope": lambda: DySample(8, dyscope=True),
    "carafe": lambda: CARAFE(8),
    "eucb": lambda: EUCB(8),
    "carafe in groups": lambda: CARAFE(8, groups=2, up_kernel=3, encoder_kernel=1, compressed=5),
}
JOINS: dict[str, Made] = {
    "bifpn": lambda: BiFPN([5, 3], 8),
    "bifpn to others": lambda: BiFPN([5, 3], 6, keep_scale=True),
    "bifpn sum": lambda: BiFPN([5, 3], 8, join="sum"),
    "sdi": lambda: SDI([5, 3], 8),
    "iaff": lambda: IAFF([5, 3], 8),
    "iaff as its authors": lambda: IAFF([5, 3], 8, share_global=True),
}
EACH = [*HALVES, *DOUBLES, *JOINS]


def made(name: str, scale: float = 0.2) -> nn.Module:
    """A module whose every parameter has an effect."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        module = {**HALVES, **DOUBLES, **JOINS}[name]()
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * scale)
    return module


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def images(name: str, batch: int, height: int, width: int) -> Tensor:
    return noise(batch, 8, height, width)


def run(name: str, module: nn.Module, x: Tensor) -> Tensor:
    """Call a module with one map of 8 channels, or with its parts of 5 and 3."""
    y: Tensor = module(list(x.split([5, 3], dim=1)) if name in JOINS else x)
    return y


def expected(name: str, height: int, width: int) -> tuple[int, int]:
    if name in HALVES:
        return (height + 1) // 2, (width + 1) // 2
    return (2 * height, 2 * width) if name in DOUBLES else (height, width)


@pytest.mark.parametrize("name", EACH)
def test_it_has_the_size_of_the_layer_that_it_replaces_and_trains_at_any_size(name: str) -> None:
    module = made(name).train()
    for height, width in SIZES:
        x = images(name, 2, height, width).requires_grad_()
        y = run(name, module, x)
        assert tuple(y.shape[2:]) == expected(name, height, width)
        y.square().sum().backward()
        assert x.grad is not None
        assert x.grad.isfinite().all()
    assert [key for key, p in module.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize("name", EACH)
def test_each_image_is_treated_by_itself_in_every_precision_and_after_every_copy(name: str) -> None:
    module = made(name).eval()
    x = images(name, 3, 9, 6)
    y = run(name, module, x)
    torch.testing.assert_close(run(name, module, x[1:2]), y[1:2])
    torch.testing.assert_close(run(name, module, x.contiguous(memory_format=torch.channels_last)), y)
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    for other in (copy.deepcopy(module), torch.load(file, weights_only=False)):
        assert torch.equal(run(name, other, x), y)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        low = run(name, copy.deepcopy(module).to(dtype), x.to(dtype))
        assert low.dtype == dtype
        torch.testing.assert_close(low.float(), y, atol=0.1 * float(y.detach().abs().max()), rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        assert run(name, module, x).isfinite().all()


@pytest.mark.parametrize("name", EACH)
def test_a_traced_graph_is_right_for_other_sizes(name: str, recwarn: pytest.WarningsRecorder) -> None:
    module = made(name).eval().requires_grad_(False)

    def call(x: Tensor) -> Tensor:
        return run(name, module, x)

    graph = recorded(call, images(name, 1, 8, 8))
    with torch.no_grad():
        for size in ((2, 8, 6), (1, 5, 7), (3, 1, 2)):
            x = images(name, *size)
            torch.testing.assert_close(graph(x), call(x))


@pytest.mark.slow
@pytest.mark.parametrize("name", EACH)
def test_onnx_runtime_computes_the_same_at_any_size(name: str, recwarn: pytest.WarningsRecorder) -> None:
    graph = _Called(name, made(name)).eval().requires_grad_(False)
    exported = in_onnx_runtime(graph, images(name, 1, 8, 8))
    for size in ((2, 8, 6), (3, 5, 7), (1, 1, 2)):
        x = images(name, *size)
        torch.testing.assert_close(exported(x), graph(x), rtol=1e-4, atol=1e-5)


class _Called(nn.Module):
    def __init__(self, name: str, module: nn.Module) -> None:
        super().__init__()
        self.name, self.module = name, module

    def forward(self, x: Tensor) -> Tensor:
        return run(self.name, self.module, x)


@pytest.mark.parametrize("name", ["adown", "aconv", "spdconv", "haardown", "eucb", "bifpn sum", "sdi", "iaff"])
def test_norms_are_folded_for_inference(name: str) -> None:
    module, x = made(name).eval(), images(name, 2, 7, 6)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean = noise(part.num_features)
    y = run(name, module, x)
    fold_norms(module)
    fold_norms(module)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in module.modules())
    torch.testing.assert_close(run(name, module, x), y, rtol=1e-4, atol=1e-5)


def test_aconv_costs_in_inference_what_the_convolution_costs() -> None:
    stock, other = (DetectionModel("yolo26n.yaml", nc=3, verbose=False) for _ in range(2))
    operate(other, [GraftSpec.from_text("aconv@down")])
    before, behind = complexity(stock, 64, spend=True), complexity(other, 64, spend=True)
    assert (behind.params, behind.gflops) == (before.params, before.gflops)


def test_aconv_has_the_tensors_of_the_convolution_that_it_replaces() -> None:
    stock, module = Conv(8, 12, 3, 2), AConv(8, 12)
    assert {key: t.shape for key, t in stock.state_dict().items()} == {
        key: t.shape for key, t in module.state_dict().items()
    }


def test_the_haar_bands_of_a_block_are_its_mean_and_three_differences() -> None:
    module = HaarDown(1, 4).eval()
    module.cv.conv.weight.data = torch.eye(4).reshape(4, 4, 1, 1)
    module.cv.act = nn.Identity()
    bands = module(torch.tensor([[[[1.0, 2.0], [3.0, 5.0]]]])).flatten() * (1 + module.cv.bn.eps) ** 0.5
    assert bands.tolist() == pytest.approx([5.5, -2.5, -1.5, 0.5])


def test_dysample_without_offsets_is_bilinear_interpolation() -> None:
    module = DySample(8)
    nn.init.zeros_(module.offset.weight)
    x = noise(2, 8, 5, 7)
    torch.testing.assert_close(module(x), F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))


def test_carafe_with_equal_weights_is_the_mean_of_the_neighbours() -> None:
    module = CARAFE(8)
    nn.init.zeros_(module.encode.weight)
    x = noise(2, 8, 5, 7)
    torch.testing.assert_close(module(x), F.interpolate(F.avg_pool2d(x, 5, 1, 2), scale_factor=2.0))


def test_bifpn_joins_weighted_maps_and_can_start_as_a_plain_concatenation() -> None:
    maps = [noise(2, 5, 3, 4), noise(2, 3, 3, 4, seed=1)]
    module = BiFPN([5, 3], 8)
    module.weight.data = torch.tensor([2.0, 1.0])
    torch.testing.assert_close(module(maps), torch.cat([maps[0] * 2, maps[1]], 1) / 3.0001)
    module.weight.data = torch.tensor([-1.0, 1.0])
    assert not module(maps)[:, :5].any()
    torch.testing.assert_close(BiFPN([5, 3], 8, keep_scale=True)(maps), torch.cat(maps, 1), rtol=1e-3, atol=1e-3)
    assert module.no_weight_decay() == {"weight"}


@pytest.mark.parametrize("stride", [1, 2])
def test_moved_taps_are_those_of_torchvision(stride: int) -> None:
    x, weight, bias = noise(2, 6, 7, 10).double(), noise(4, 6, 3, 3).double(), noise(4).double()
    size = ((7 + stride - 1) // stride, (10 + stride - 1) // stride)
    offset, factors = 2 * noise(2, 18, *size, seed=1).double(), noise(2, 9, *size, seed=2).double()
    ours = deform_conv3x3(x, offset, factors, weight, bias, stride)
    torch.testing.assert_close(ours, deform_conv2d(x, offset, weight, bias, stride=stride, padding=1, mask=factors))


ADAPTERS: dict[str, Callable[[list[int]], nn.Module]] = {
    "dyhead": lambda channels: DyHead(channels, blocks=2, groups=4),
    "asff": lambda channels: ASFF(channels, compressed=3),
}


def test_dyhead_of_a_single_level_has_no_neighbours() -> None:
    assert DyHead([16])([noise(1, 16, 3, 2)])[0].shape == (1, 16, 3, 2)


@pytest.mark.parametrize("sizes", [[(9, 5), (5, 3), (3, 2)], [(2, 1), (1, 1)]])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_keeps_each_level_and_each_image_by_itself(adapter: str, sizes: list[tuple[int, int]]) -> None:
    channels = [16, 24, 40][: len(sizes)]
    maps = [noise(2, c, *size, seed=c).requires_grad_() for c, size in zip(channels, sizes, strict=True)]
    module = ADAPTERS[adapter](channels)
    with torch.no_grad():
        for seed, parameter in enumerate(module.parameters()):
            parameter.add_(0.1 * noise(*parameter.shape, seed=seed))
    ys = module.train()(maps)
    assert [y.shape for y in ys] == [x.shape for x in maps]
    sum(y.square().sum() for y in ys).backward()
    assert [name for name, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    module.eval()
    ys = module([x.detach() for x in maps])
    alone = module([x.detach()[1:] for x in maps])
    for y, lone in zip(ys, alone, strict=True):
        torch.testing.assert_close(lone, y[1:])
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        low = copy.deepcopy(module).to(dtype)([x.detach().to(dtype) for x in maps])
        assert all(y.dtype == dtype and y.isfinite().all() for y in low)
    with torch.autocast("cpu", torch.bfloat16):
        assert all(y.isfinite().all() for y in module([x.detach() for x in maps]))


@pytest.mark.parametrize("adapter", ADAPTERS)
def test_an_adapter_traces_for_other_sizes(adapter: str, recwarn: pytest.WarningsRecorder) -> None:
    module = ADAPTERS[adapter]([16, 24, 40]).eval().requires_grad_(False)

    def call(*maps: Tensor) -> list[Tensor]:
        return module(list(maps))

    def levels(batch: int, size: int) -> list[Tensor]:
        return [noise(batch, c, size // k, size // k) for c, k in ((16, 1), (24, 2), (40, 4))]

    graph = recorded(call, *levels(1, 8))
    for y, other in zip(graph(*levels(2, 16)), call(*levels(2, 16)), strict=True):
        torch.testing.assert_close(y, other)


REFUSED: dict[str, tuple[Made, str]] = {
    "adown": (lambda: ADown(1, 4), "needs 2 each way"),
    "kernel": (lambda: SPDConv(4, 4, kernel=5), "kernel must be 1 or 3"),  # type: ignore[arg-type]
    "activation": (lambda: HaarDown(4, 4, activation="gelu"), "silu or relu"),  # type: ignore[arg-type]
    "groups": (lambda: DySample(6), "6 channels do not divide into 4 groups"),
    "style": (lambda: DySample(8, style="pp"), "style must be lp or pl"),  # type: ignore[arg-type]
    "pl": (lambda: DySample(6, style="pl", groups=3), "divide by 4; got 6"),
    "even kernel": (lambda: CARAFE(8, up_kernel=4), "must be odd"),
    "carafe's groups": (lambda: CARAFE(8, groups=3), "8 channels do not divide"),
    "join": (lambda: BiFPN([4, 4], 8, join="add"), "join must be concat or sum"),  # type: ignore[arg-type]
    "two maps": (lambda: IAFF([4, 4, 4], 8), "mixes two maps"),
    "two levels": (lambda: ASFF([8]), "two are needed"),
    "eucb": (lambda: EUCB(8, kernel=2), "kernel must be odd"),
    "no levels": (lambda: DyHead([]), "needs a level"),
    "width": (lambda: DyHead([32], width=24), "divides by groups=16; got 24"),
    "no maps": (lambda: BiFPN([], 8), "at least one map"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_option_is_refused_in_one_sentence(case: str) -> None:
    make, words = REFUSED[case]
    with pytest.raises(ValueError, match=words) as error:
        make()
    assert "\n" not in str(error.value)


def test_a_module_draws_no_random_numbers_after_its_constructor() -> None:
    for name in EACH:
        module = made(name).train()
        torch.manual_seed(7)
        run(name, module, images(name, 2, 4, 4))
        states = [torch.get_rng_state(), torch.manual_seed(7).get_state()]
        assert all(torch.equal(*pair) for pair in pairwise(states))
