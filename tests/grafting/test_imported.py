"""An imported network is its stock ancestor with new layers in it: every untouched tensor keeps its weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tests.fixtures.network_files import Content, insert, replaced, stock, write, write_code
from torch import nn
from ultralytics.nn.tasks import DetectionModel

from ablate.grafting.conventions import LayerRequest, build_layer
from ablate.grafting.imported import Import, transplant
from ablate.grafting.insertion import GraftError
from ablate.importing.network_file import read_network_file
from ablate.importing.stock_networks import find_ancestor
from ablate.importing.written_file import imported_network
from ablate.settings.architecture import is_layer, read_architecture
from ablate.settings.imported_network import ImportedNetwork
from ablate.sources.code_folder import Code

# Percent of the stock network's numbers that Ultralytics' loading by number keeps where a layer is inserted there.
BY_NUMBER = {5: 3, 7: 12, 11: 53, 17: 59, 20: 64, 23: 88}


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Code:
    found = Code.at(write_code(tmp_path_factory.mktemp("code"), "imported_layers"))
    found.allow()
    return found


@pytest.fixture(scope="module")
def built() -> DetectionModel:
    torch.manual_seed(0)
    network = DetectionModel(read_architecture("yolo26n.yaml"), nc=80, verbose=False)
    for name, tensor in network.state_dict().items():
        if tensor.dtype.is_floating_point and "running_var" not in name:
            tensor.copy_(torch.randn_like(tensor) * 0.1)
    return network


@pytest.fixture
def ancestor(built: DetectionModel) -> DetectionModel:
    return deepcopy(built)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def imported(folder: Path, content: Content, code: Code) -> ImportedNetwork:
    network = read_network_file(write(folder, content))
    alignment = find_ancestor(network, "file", "yolo26")
    names = [layer.name for layer in network.layers if not is_layer(layer.name)]
    return imported_network(alignment, code.find(names), code.path)


def state(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def operate(folder: Path, ancestor: DetectionModel, content: Content, code: Code) -> Import:
    return transplant(ancestor, imported(folder, content, code), seed=0)


def run(network: DetectionModel) -> Any:
    return network.train()(torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize("at", BY_NUMBER)
def test_all_tensors_of_the_stock_network_are_kept_wherever_a_layer_is_inserted(
    tmp_path: Path, ancestor: DetectionModel, code: Code, at: int
) -> None:
    before = state(ancestor)

    done = operate(tmp_path, ancestor, insert(stock(), at, [-1, 1, "EMA", []]), code)

    after = state(ancestor)
    for name, tensor in before.items():
        model, number, rest = name.split(".", 2)
        assert torch.equal(after[f"{model}.{int(number) + (int(number) >= at)}.{rest}"], tensor)
    assert [(layer.index, layer.convention) for layer in done.built] == [(at, "(c1, ...)")]
    plain = {name.replace(".graft.", "."): tensor.shape for name, tensor in after.items()}
    by_number = sum(tensor.numel() for name, tensor in before.items() if plain.get(name) == tensor.shape)
    assert round(100 * by_number / sum(tensor.numel() for tensor in before.values())) == BY_NUMBER[at]


def test_the_new_layer_is_in_the_path_and_the_rest_computes_the_same(
    tmp_path: Path, ancestor: DetectionModel, code: Code
) -> None:
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = ancestor.eval()(image)[0].clone()
        operate(tmp_path, ancestor, insert(stock(), 11, [-1, 1, "EMA", []]), code)
        other = ancestor.eval()(image)[0]
        ancestor.model[11].forward = lambda x: x
        same = ancestor(image)[0]

    assert not torch.equal(before, other)
    assert torch.equal(before, same)


def test_the_global_random_state_stays_and_new_weights_follow_from_the_seed(
    tmp_path: Path, built: DetectionModel, code: Code
) -> None:
    one, other = deepcopy(built), deepcopy(built)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    operate(tmp_path, one, insert(stock(), 11, [-1, 1, "EMA", []]), code)

    assert torch.equal(torch.rand(3), expected)
    operate(tmp_path, other, insert(stock(), 11, [-1, 1, "EMA", []]), code)
    state = other.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in one.state_dict().items())


def test_every_kind_of_layer_of_a_fork_is_built_by_its_convention(
    tmp_path: Path, ancestor: DetectionModel, code: Code
) -> None:
    content = replaced(
        stock(),
        {
            5: [-1, 1, "Down", [512, 3, 2]],
            6: [-1, 2, "C3k2_Mine", [512, True]],
            11: [-1, 1, "Up", []],
            12: [[-1, 6], 1, "BiFPN_Concat", [1]],
            15: [[-1, 4], 1, "Fusion", [256]],
            23: [[16, 19, 22], 1, "MyDetect", ["nc"]],
        },
    )

    done = operate(tmp_path, ancestor, insert(content, 17, [-1, 1, "SimAM", []]), code)

    conventions = {layer.name: layer.convention for layer in done.built}
    assert conventions["Down"] == "(c1, c2, ...)"
    assert conventions["C3k2_Mine"] == "(c1, c2, n, ...)"
    assert conventions["Up"] == "(c1, ...)"
    assert conventions["BiFPN_Concat"] == "as written"
    assert conventions["Fusion"] == "([c1, ...], c2, ...)"
    assert conventions["MyDetect"] == "(nc, ..., reg_max, end2end, [c1, ...])"
    assert conventions["SimAM"] in ("()", "as written")
    assert run(ancestor)["one2many"]["feats"][0].shape[-1] == 8
    assert ancestor.stride.tolist() == [8, 16, 32]


def test_what_a_replaced_layer_shares_keeps_its_weights(tmp_path: Path, ancestor: DetectionModel, code: Code) -> None:
    before = state(ancestor)
    content = replaced(stock(), {6: [-1, 2, "C3k2_Mine", [512, True]], 23: [[16, 19, 22], 1, "MyDetect", ["nc"]]})

    done = operate(tmp_path, ancestor, content, code)

    after = state(ancestor)
    assert torch.equal(after["model.6.graft.cv1.conv.weight"], before["model.6.cv1.conv.weight"])
    head = {name: tensor for name, tensor in before.items() if name.startswith("model.23.")}
    assert all(torch.equal(after[name], tensor) for name, tensor in head.items())
    assert {layer.index: layer.kept for layer in done.built}[23] == len(head)


def test_a_head_of_an_older_ultralytics_trains_and_detects(
    tmp_path: Path, ancestor: DetectionModel, code: Code
) -> None:
    operate(tmp_path, ancestor, replaced(stock(), {23: [[16, 19, 22], 1, "OldDetect", ["nc", 256]]}), code)

    raw = run(ancestor)
    assert [raw[name].shape[1] for name in ("boxes", "scores")] == [64, 80]
    assert ancestor.stride.tolist() == [8, 16, 32]
    older = ancestor.model[-1].older
    assert (float(older.cv2[0][-1].bias[0]), float(older.cv3[0][-1].bias[0])) == (1.0, -5.0)
    assert not older.cv2[0][0].bn.training or ancestor.training
    with torch.no_grad():
        detections, _ = ancestor.eval()(torch.rand(1, 3, 64, 64))
    assert detections.shape == (1, 84, 64 + 16 + 4)
    batch = {
        "img": torch.rand(2, 3, 64, 64),
        "batch_idx": torch.tensor([0.0, 1.0]),
        "cls": torch.zeros(2, 1),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.4], [0.4, 0.4, 0.3, 0.3]]),
    }
    ancestor.args = SimpleNamespace(box=7.5, cls=0.5, dfl=1.5, epochs=1)
    loss, _ = ancestor.train().loss(batch)
    assert bool(loss.sum().isfinite())


def test_an_added_branch_keeps_all_that_is_stock(tmp_path: Path, ancestor: DetectionModel, code: Code) -> None:
    before = state(ancestor)

    done = operate(tmp_path, ancestor, stock("yolo26-p2"), code)

    kept = sum(len(ancestor.model[index].state_dict()) for index in done.moved) + sum(it.kept for it in done.built)
    assert kept > 0.6 * len(before)
    assert ancestor.stride.tolist() == [4, 8, 16, 32]
    assert len(run(ancestor)["one2many"]["feats"]) == 4


@pytest.mark.parametrize("name", ["Pyramid", "pyramid_tiny"])
def test_a_whole_backbone_in_one_row_is_numbered_as_forks_do(
    tmp_path: Path, ancestor: DetectionModel, code: Code, name: str
) -> None:
    content = stock()
    places = {4: 2, 6: 3}  # layers 0 to 8 of the stock backbone are one row, numbered 0 to 4; the others begin at 5

    def moved(source: int) -> int:
        return source if source < 0 else places.get(source, source - 4)

    rows = [[-1, 1, name, []], *content["backbone"][9:]]
    head = [[[moved(it) for it in f] if isinstance(f, list) else f, n, m, a] for f, n, m, a in content["head"]]

    done = operate(tmp_path, ancestor, {**content, "backbone": rows, "head": head}, code)

    assert ancestor.stride.tolist() == [8, 16, 32]
    assert [layer.name for layer in done.built][:5] == [name, *["Index"] * 4]
    assert len(run(ancestor)["one2many"]["feats"]) == 3


def test_other_widths_keep_what_fits(tmp_path: Path, ancestor: DetectionModel, code: Code) -> None:
    done = operate(tmp_path, ancestor, replaced(stock(), {4: [-1, 2, "C3k2", [256, False, 0.25]]}), code)

    assert {layer.index for layer in done.built} == {4, 5, 16}
    assert all(0 < layer.kept < layer.tensors for layer in done.built)
    run(ancestor)


@pytest.mark.parametrize(
    ("row", "at", "reason"),
    [
        ([-1, 1, "Narrow", []], 11, r"layer 11 \(Narrow\): its class .*Narrow cannot be called for \(1, 256, 8, 8\)"),
        ([[16, 19, 22], 1, "NoDetect", ["nc"]], None, "NoDetect is no subclass of Ultralytics' Detect"),
    ],
)
def test_a_class_that_cannot_be_built_is_named(
    tmp_path: Path, ancestor: DetectionModel, code: Code, row: list[Any], at: int | None, reason: str
) -> None:
    content = replaced(stock(), {23: row}) if at is None else insert(stock(), at, row)

    with pytest.raises(GraftError, match=reason):
        operate(tmp_path, ancestor, content, code)


def test_maps_that_do_not_fit_are_named_with_their_layer(tmp_path: Path, ancestor: DetectionModel, code: Code) -> None:
    content = replaced(stock(), {12: [[-1, 4], 1, "Concat", [1]]})

    with pytest.raises(
        GraftError, match=r"layer 12 \(Concat\) cannot be built for \(1, 256, 16, 16\), \(1, 128, 32, 32\)"
    ):
        operate(tmp_path, ancestor, content, code)


class _Known(nn.Module):
    def __init__(self, *arguments: Any) -> None:
        super().__init__()
        self.arguments = arguments

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class _Single(_Known):
    def __init__(self, dim: int, ratio: int = 16) -> None:
        super().__init__(dim, ratio)


class _InOut(_Known):
    def __init__(self, inp: int, oup: int, k: int = 1) -> None:
        super().__init__(inp, oup, k)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.new_zeros(x.shape[0], self.arguments[1], *x.shape[2:])


class _OutOnly(_Known):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y


class _ListOf(_Known):
    def __init__(self, channels: list[int]) -> None:
        super().__init__(*channels)

    def forward(self, x: list[torch.Tensor]) -> torch.Tensor:  # type: ignore[override]
        return torch.cat(x, 1)


@pytest.mark.parametrize(
    ("cls", "arguments", "read", "called"),
    [
        (_Single, (), [32], (32, 16)),
        (_Single, (8,), [32], (32, 8)),
        (_InOut, (256,), [32], (32, 64, 1)),  # 256 at a width of 0.25
        (_InOut, (256, 3), [32], (32, 64, 3)),
        (_InOut, (), [32], (32, 32, 1)),
        (_OutOnly, (128,), [32], (32,)),
        (_ListOf, (), [32, 16], (32, 16)),
    ],
)
def test_conventions_are_told_by_what_runs(
    cls: type[_Known], arguments: tuple[Any, ...], read: list[int], called: tuple[Any, ...]
) -> None:
    maps = [torch.rand(1, channels, 8, 8) for channels in read]
    request = LayerRequest(
        title="layer 3 (X)",
        name="X",
        arguments=arguments,
        repeats=1,
        width=0.25,
        most_channels=1024,
        read=maps[0] if len(maps) == 1 else maps,
        image=256,
        classes=80,
        reg_max=1,
        end2end=True,
        is_head=False,
    )

    layer, _, _ = build_layer(cls, request, "tests.X")

    assert layer.arguments == called
