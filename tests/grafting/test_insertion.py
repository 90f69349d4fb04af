"""Insertion points mean the same places in every network that has them."""

from __future__ import annotations

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel, yaml_model_load

from ablate.grafting.insertion import INSERTIONS, GraftError, available, find_places


@pytest.fixture(scope="module")
def yolo26n() -> DetectionModel:
    return DetectionModel("yolo26n.yaml", verbose=False)


@pytest.mark.parametrize("scale", ["n", "s", "m", "l", "x"])
def test_yolo26_has_every_insertion_point_at_every_scale(scale: str) -> None:
    content = yaml_model_load(f"yolo26{scale}.yaml")
    content["scales"][scale][1] = 1 / 8  # what a scale is made of does not go by its width
    network = DetectionModel(content, verbose=False)

    assert available(network) == list(INSERTIONS)
    for level, stride in ((3, 8), (4, 16), (5, 32)):
        for part in ("backbone", "neck"):
            (place,) = find_places(network, f"{part}_p{level}")
            assert place.stride == stride
    assert [place.stride for place in find_places(network, "head")] == [8, 16, 32]
    assert len(find_places(network, "c3k2")) == {"n": 13, "s": 13, "m": 15, "l": 29, "x": 29}[scale]


def test_places_of_yolo26n_are_those_of_its_architecture(yolo26n: DetectionModel) -> None:
    def paths(name: str) -> list[tuple[str, int]]:
        return [(str(place), place.channels) for place in find_places(yolo26n, name)]

    assert paths("backbone_p3") == [("model.4", 128)]
    assert paths("backbone_p5") == [("model.10", 256)]
    assert paths("neck_p4") == [("model.19", 128)]
    assert paths("psa") == [("model.10.m.0.attn", 128)]
    assert paths("head") == [("model.23 input 0", 64), ("model.23 input 1", 128), ("model.23 input 2", 256)]
    assert paths("c3k2")[0] == ("model.2.m.0.cv2", 16)
    assert paths("c3k2")[-1] == ("model.22.m.0.0.cv2", 128)


def test_layers_can_be_named_by_index(yolo26n: DetectionModel) -> None:
    assert [place.path for place in find_places(yolo26n, "customary", [4, 6, 4])] == ["model.4", "model.6"]


def test_a_layer_beyond_the_last_is_refused_with_the_valid_range(yolo26n: DetectionModel) -> None:
    with pytest.raises(GraftError, match=r"no layer 23.*valid: 0 to 22"):
        find_places(yolo26n, "customary", [23])


def test_a_place_that_a_network_lacks_is_refused_with_those_it_has() -> None:
    network = DetectionModel("yolov8n.yaml", verbose=False)

    with pytest.raises(GraftError, match=r"insertion=c3k2: yolov8n has no such place; it has head, backbone_p3"):
        find_places(network, "c3k2")


def test_looking_for_places_changes_nothing(yolo26n: DetectionModel) -> None:
    before = {name: tensor.clone() for name, tensor in yolo26n.state_dict().items()}
    yolo26n.train()

    for name in INSERTIONS:
        find_places(yolo26n, name)

    assert all(torch.equal(tensor, before[name]) for name, tensor in yolo26n.state_dict().items())
    assert all(module.training for module in yolo26n.modules())
    assert not any(module._forward_hooks for module in yolo26n.modules())
