"""The catalogue's convolutions against plain formulas; the authors' code is in the golden values."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from tests.fixtures.recorded_graphs import in_onnx_runtime, recorded
from torch import Tensor, nn
from torchvision.ops import deform_conv2d

from ablate.modules.convolutions.dbb import DBB
from ablate.modules.convolutions.dcnv2 import DCNv2, DeformConv2d
from ablate.modules.convolutions.dynamicconv import DynamicConv, DynamicConv2d
from ablate.modules.convolutions.gsconv import GSConv, VoVGSCSP
from ablate.modules.convolutions.ldconv import LDConv, LDConv2d, initial_shape
from ablate.modules.convolutions.odconv import ODConv, ODConv2d
from ablate.modules.convolutions.pconv import PartialConv2d, PConv
from ablate.modules.convolutions.rfaconv import RFAConv, RFAConv2d
from ablate.modules.convolutions.wtconv import WTConv, WTConv2d, haar, inverse_haar

CONVOLUTIONS: list[Callable[..., nn.Module]] = [WTConv, RFAConv, LDConv, DCNv2, ODConv, PConv, GSConv, DBB, DynamicConv]


def _image(channels: int, height: int, width: int, batch: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(batch, channels, height, width, generator=generator, dtype=torch.float64)


def _scramble(module: nn.Module) -> nn.Module:
    """Leave no parameter at zero or one."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return module.double().eval()


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_sizes_are_those_of_a_convolution_with_padding(convolution: Callable[..., nn.Module], stride: int) -> None:
    module = convolution(8, 12, stride=stride)
    for height, width in ((1, 1), (2, 5), (7, 8)):
        expected = F.conv2d(torch.zeros(2, 8, height, width), torch.zeros(12, 8, 3, 3), stride=stride, padding=1)
        assert module(torch.randn(2, 8, height, width)).shape == expected.shape


@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_traced_convolutions_take_other_sizes_and_batches(convolution: Callable[..., nn.Module]) -> None:
    module = _scramble(convolution(8, 12, stride=2))
    graph, x = recorded(module, _image(8, 6, 8, batch=1)), _image(8, 9, 7, batch=3)
    torch.testing.assert_close(graph(x), module(x))


@pytest.mark.parametrize("convolution", [c for c in CONVOLUTIONS if c is not LDConv])
def test_an_even_kernel_is_refused(convolution: Callable[..., nn.Module]) -> None:
    with pytest.raises(ValueError, match=r"odd kernel_size.*got 4"):
        convolution(8, 8, kernel_size=4)


@pytest.mark.parametrize(
    ("build", "wrong"),
    [
        (lambda: WTConv(8, 8, levels=0), "levels"),
        (lambda: RFAConv(8, 8, stride=0), "stride"),
        (lambda: LDConv(8, 8, num_param=0), "num_param"),
        (lambda: LDConv(8, 8, fidelity="paper"), "fidelity"),  # type: ignore[arg-type]
        (lambda: DCNv2(8, 8, stride=0), "stride"),
        (lambda: ODConv(8, 8, kernels=0), "kernels"),
        (lambda: PConv(3, 8), "divisor"),
        (lambda: GSConv(8, 7), "even number"),
        (lambda: DBB(8, 8, stride=0), "stride"),
        (lambda: DynamicConv(8, 8, experts=0), "experts"),
        (lambda: VoVGSCSP(8, 6), "multiple of 4"),
    ],
)
def test_wrong_options_are_named(build: Callable[[], nn.Module], wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        build()


def test_the_haar_transform_keeps_all_information_and_lengths() -> None:
    x = _image(3, 6, 8)
    bands = haar(x)
    torch.testing.assert_close(inverse_haar(bands), x)
    torch.testing.assert_close(bands.square().sum(), x.square().sum())
    torch.testing.assert_close(bands[:, :, 0], 2 * F.avg_pool2d(x, 2))
    rows = x[:, :, ::2] - x[:, :, 1::2]
    torch.testing.assert_close(bands[:, :, 1], (rows[..., ::2] + rows[..., 1::2]) / 2)


def test_wavelet_levels_see_further_than_their_kernel() -> None:
    def width(levels: int) -> int:
        module = WTConv2d(1, kernel_size=3, levels=levels).double()
        x = _image(1, 1, 64, batch=1).requires_grad_()
        module(x)[0, 0, 0, 32].backward()
        assert x.grad is not None
        return int((x.grad[0, 0, 0] != 0).sum())

    assert [width(1), width(2), width(3)] == [6, 12, 24]


def test_rfaconv_is_a_strided_convolution_over_enlarged_cells() -> None:
    module = _scramble(RFAConv2d(4, 5, kernel_size=3))
    x = _image(4, 5, 6)
    weights = module.weigh(x).view(2, 4, 9, 5, 6).softmax(2)
    cells = weights * module.features(x).view(2, 4, 9, 5, 6)
    enlarged = torch.zeros(2, 4, 15, 18, dtype=torch.float64)
    for i, j in itertools.product(range(3), range(3)):
        enlarged[:, :, i::3, j::3] = cells[:, :, 3 * i + j]
    torch.testing.assert_close(module(x), F.conv2d(enlarged, module.mix.weight, stride=3))


def test_ldconv_fills_its_grid_row_by_row() -> None:
    rows, columns = initial_shape(7).flatten(1).int().tolist()
    assert list(zip(rows, columns, strict=True)) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]


@pytest.mark.parametrize(("fidelity", "times"), [("corrected", (1, 1)), ("authors", (2, 4))])
def test_ldconv_counts_a_value_beyond_the_border_once_unless_told(fidelity: str, times: tuple[int, int]) -> None:
    module = LDConv2d(1, 1, num_param=1, fidelity=fidelity).double()  # type: ignore[arg-type]
    nn.init.ones_(module.mix.weight)
    x = _image(1, 5, 6, batch=1)
    for row, corner in ((1, 0), (9, 1)):  # right of the map in an inner row, and beyond its corner
        with torch.no_grad():
            assert module.offsets.bias is not None
            module.offsets.bias.copy_(torch.tensor([row, 9.0]))
        y = module(x)[0, 0, 0, 0]
        torch.testing.assert_close(y, times[corner] * x[0, 0, min(row, 4), 5])


def test_deformable_convolution_without_offsets_is_half_of_a_convolution() -> None:
    module = DeformConv2d(4, 6, stride=2).double()
    x = _image(4, 7, 8)
    torch.testing.assert_close(module(x), F.conv2d(x, module.weight, stride=2, padding=1) / 2)


def test_deformable_convolution_is_that_of_torchvision() -> None:
    module = _scramble(DeformConv2d(4, 6, kernel_size=5, stride=2))
    x = _image(4, 9, 8)
    predicted = module.predict(x)
    expected = deform_conv2d(x, predicted[:, :50], module.weight, stride=2, padding=2, mask=predicted[:, 50:].sigmoid())
    torch.testing.assert_close(module(x), expected)


@pytest.mark.parametrize("module", [DCNv2(8, 8), LDConv(8, 8)])
def test_sampling_is_counted_where_no_counter_sees_it(module: nn.Module) -> None:
    inner = module.get_submodule("conv")
    taps = 9 if isinstance(module, DCNv2) else 5
    assert inner.uncounted_flops(7, 8) == 2 * 4 * 8 * taps * 56  # type: ignore[operator]


@pytest.mark.parametrize(("kernel_size", "kernels"), [(3, 4), (1, 2), (3, 1)])
def test_odconv_gives_each_image_its_own_kernel(kernel_size: int, kernels: int) -> None:
    module = _scramble(ODConv2d(6, 5, kernel_size=kernel_size, stride=2, kernels=kernels))
    x = _image(6, 7, 8, batch=3)
    for image in x.split(1):  # type: ignore[no-untyped-call]
        hidden = module.squeeze_bn(module.squeeze(image.mean((2, 3), keepdim=True))).relu()
        kernel = module.kernels.view(kernels, 5, 6, kernel_size, kernel_size)
        if kernels > 1:
            kernel = module.of_kernels(hidden).flatten().softmax(0).view(-1, 1, 1, 1, 1) * kernel
        kernel = kernel.sum(0) * module.of_inputs(hidden).sigmoid().view(1, -1, 1, 1)
        kernel = kernel * module.of_outputs(hidden).sigmoid().view(-1, 1, 1, 1)
        if kernel_size > 1:
            kernel = kernel * module.of_places(hidden).sigmoid().view(1, 1, kernel_size, kernel_size)
        expected = F.conv2d(image, kernel, stride=2, padding=kernel_size // 2)
        torch.testing.assert_close(module(image), expected)
    torch.testing.assert_close(module(x), torch.cat([module(image) for image in x.split(1)]))  # type: ignore[no-untyped-call]


def test_odconv_trains_on_a_last_batch_of_one_image() -> None:
    module = ODConv(8, 8).train()
    module(_image(8, 5, 6, batch=1).float()).sum().backward()
    assert module.conv.squeeze.weight.grad is not None
    assert module.conv.squeeze_bn.num_batches_tracked == 0


def test_dynamic_convolution_mixes_its_kernels_for_each_image() -> None:
    module = _scramble(DynamicConv2d(6, 5, stride=2, experts=3))
    x = _image(6, 7, 8)
    for index, weights in enumerate(module.route(x.mean((2, 3))).sigmoid()):
        kernel = sum(
            weight * kernel for weight, kernel in zip(weights, module.kernels.view(3, 5, 6, 3, 3), strict=True)
        )
        expected = F.conv2d(x[index : index + 1], kernel, stride=2, padding=1)
        torch.testing.assert_close(module(x)[index : index + 1], expected)


@pytest.mark.parametrize("convolution", [ODConv, DynamicConv])
def test_kernels_of_an_image_can_be_channels_last(convolution: Callable[..., nn.Module]) -> None:
    module = _scramble(convolution(8, 8))
    x = _image(8, 5, 6)
    last = copy.deepcopy(module).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    torch.testing.assert_close(last(x.contiguous(memory_format=torch.channels_last)), module(x))


def test_a_partial_convolution_leaves_the_other_channels_as_they_are() -> None:
    module = PartialConv2d(8, stride=2, divisor=4).double()
    x = _image(8, 7, 6)
    y = module(x)
    assert torch.equal(y[:, 2:], x[:, 2:, ::2, ::2])
    torch.testing.assert_close(y[:, :2], F.conv2d(x[:, :2], module.conv.weight, stride=2, padding=1))


@pytest.mark.parametrize(("kernel_size", "stride"), [(3, 1), (5, 2), (1, 1)])
def test_diverse_branches_are_one_convolution(kernel_size: int, stride: int) -> None:
    module = _scramble(DBB(4, 6, kernel_size=kernel_size, stride=stride))
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if "running" in name:
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
    x = _image(4, 9, 8)
    branches = module(x.clone().requires_grad_())
    torch.testing.assert_close(module(x), branches)
    kernel, bias = module.merge()
    expected = F.silu(F.conv2d(x, kernel, bias, stride=stride, padding=kernel_size // 2))
    torch.testing.assert_close(branches, expected)


def test_diverse_branches_can_start_as_the_first_of_them() -> None:
    module = DBB(4, 6, single_init=True)
    x = _image(4, 5, 6).float()
    torch.testing.assert_close(module.train()(x), F.silu(module.bn(module.conv(x))))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("convolution", CONVOLUTIONS)
def test_convolutions_export_to_onnx_for_any_size(convolution: Callable[..., nn.Module]) -> None:
    module = _scramble(convolution(8, 12, stride=2)).float()
    exported = in_onnx_runtime(module, _image(8, 6, 8, batch=1).float())
    for x in (_image(8, 6, 8).float(), _image(8, 9, 7, batch=3).float()):
        torch.testing.assert_close(exported(x), module(x), rtol=1e-4, atol=1e-4)
