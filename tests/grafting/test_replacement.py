"""A module takes the place of a layer: where each point lies, what its constructor gets, what it keeps of the layer."""

from __future__ import annotations

from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn.tasks import DetectionModel

from ablate.grafting.insertion import GraftError, find_places
from ablate.grafting.replaced_layer import replaced_names, stock_name
from ablate.grafting.surgery import Surgery, operate
from ablate.settings.graft import GraftSpec, InsertionSpec, ModuleSpec
from ablate.settings.points import POINTS

REPLACING = [name for name, point in POINTS.items() if point.replaces and name != "replace_layer"]
ULTRALYTICS = "ultralytics.nn.modules"


@cache
def built() -> DetectionModel:
    torch.manual_seed(0)
    return DetectionModel("yolo26n.yaml", nc=3, verbose=False)


def network() -> DetectionModel:
    return deepcopy(built())


def output(model: nn.Module) -> Tensor:
    x = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = model.eval()(x)
    return y[0]


def replaced(target: str, point: str, model: DetectionModel, at: tuple[int, ...] | None = None) -> Surgery:
    return operate(model, [GraftSpec(ModuleSpec(target), InsertionSpec(point, at))])


@pytest.mark.parametrize("point", REPLACING)
def test_a_layer_in_its_own_place_changes_nothing(point: str) -> None:
    stock, same = network(), network()
    surgery = operate(same, [GraftSpec.from_text(f"stock@{point}")])

    assert torch.equal(output(same), output(stock))
    names = replaced_names(same)
    ours = {stock_name(name, names): tensor for name, tensor in same.state_dict().items()}
    assert ours.keys() == stock.state_dict().keys()
    assert all(torch.equal(tensor, ours[name]) for name, tensor in stock.state_dict().items())
    rows = [row.content for row in surgery.report().places]
    assert all(row["kept"] == row["tensors"] for row in rows)


# What goes where, and how many of the tensors of each replaced layer it keeps.
KEPT: dict[str, tuple[str, str, list[tuple[int, int]]]] = {
    "a downsampler": (f"{ULTRALYTICS}.ADown", "down_neck", [(0, 6)] * 2),
    "a downsampler that asks for kernel and stride": (f"{ULTRALYTICS}.SCDown", "down_neck", [(0, 6)] * 2),
    "a convolution": (f"{ULTRALYTICS}.GhostConv", "bottleneck_conv", [(0, 6)] * 13),
    "the layer's own class": (f"{ULTRALYTICS}.Conv", "down_neck", [(6, 6)] * 2),
    "a block of the same ends": (f"{ULTRALYTICS}.C2f", "c3k2_block", [(8, 24)] * 2 + [(14, 54)] * 5 + [(12, 54)]),
    "a graft's module": ("ablate.modules.hmha.HMHA", "psa_attention", [(0, 18)]),
}  # fmt: skip


@pytest.mark.parametrize("case", KEPT)
def test_what_is_shared_by_name_and_shape_keeps_its_weights(case: str) -> None:
    target, point, kept = KEPT[case]
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    state = torch.get_rng_state()

    surgery = replaced(target, point, model)

    assert torch.equal(torch.get_rng_state(), state)
    assert [(row.content["kept"], row.content["tensors"]) for row in surgery.report().places] == kept
    assert surgery.report().kept == tuple(map(sum, zip(*kept, strict=True)))
    names = replaced_names(model)
    after = model.state_dict()
    shared = {stock: name for name in after if (stock := stock_name(name, names)) is not None}
    assert all(torch.equal(after[name], before[stock]) for stock, name in shared.items())
    assert output(model).shape == output(network()).shape


def test_a_layer_is_replaced_by_its_index() -> None:
    model = network()
    surgery = replaced(f"{ULTRALYTICS}.ADown", "replace_layer", model, (3, 7))
    assert [(place.path, place.kind, place.inputs, place.channels) for place in surgery.places] == [
        ("model.3", "downsample", (64,), 64),
        ("model.7", "downsample", (128,), 256),
    ]
    with pytest.raises(GraftError, match="has no layer 23 to replace; valid: 0 to 22"):
        find_places(network(), "replace_layer", (23,))


def test_weights_of_a_replacement_depend_on_seed_and_place_alone() -> None:
    def weights(seed: int, *more: str) -> Tensor:
        model = network()
        adown = GraftSpec(ModuleSpec(f"{ULTRALYTICS}.ADown"), InsertionSpec("down"))
        operate(model, [adown, *map(GraftSpec.from_text, more)], seed)
        return model.state_dict()["model.17.replacement.cv1.conv.weight"]

    assert torch.equal(weights(1), weights(1, "hmha@neck_p4"))
    assert not torch.equal(weights(1), weights(2))


def test_a_graft_after_a_replaced_layer_receives_its_output() -> None:
    model = network()
    operate(model, [GraftSpec.from_text("identity@neck_p4"), GraftSpec.from_text("stock@c3k2_block")])
    assert type(model.model[19].host).__name__ == "Replaced"
    assert torch.equal(output(model), output(network()))


def test_a_place_inside_of_a_replaced_layer_is_refused() -> None:
    grafts = [GraftSpec.from_text("stock@replace_layer4"), GraftSpec.from_text("hmha@c3k2")]
    with pytest.raises(GraftError, match=r"model\.4\.m\.0\.cv2 is inside of model\.4 that replace_layer4 replaces"):
        operate(network(), grafts)


def test_a_block_whose_ports_differ_is_refused_with_both_shapes() -> None:
    with pytest.raises(GraftError) as refused:
        replaced("ablate.modules.hmha.HMHA", "c3k2_block", network())
    message = "replace maps (B, 32, H, W) to 64 channels, and its own output has 32"
    assert "at c3k2_block (model.2): its constructor takes one number of channels" in str(refused.value)
    assert message in str(refused.value)


def test_weights_drawn_anew_are_other_weights() -> None:
    stock, reset = network(), network()
    operate(reset, [GraftSpec.from_text("reset@c3k2_block"), GraftSpec.from_text("reset@detect")])
    old, new = stock.state_dict(), reset.state_dict()
    assert not torch.equal(old["model.4.cv1.conv.weight"], new["model.4.replacement.cv1.conv.weight"])
    assert not torch.equal(old["model.23.cv2.0.0.conv.weight"], new["model.23.cv2.0.0.conv.weight"])
    assert torch.equal(new["model.23.cv2.0.0.conv.weight"], new["model.23.one2one_cv2.0.0.conv.weight"])
    assert torch.equal(old["model.23.cv3.0.2.bias"], new["model.23.cv3.0.2.bias"])
    assert torch.equal(old["model.1.conv.weight"], new["model.1.conv.weight"])
