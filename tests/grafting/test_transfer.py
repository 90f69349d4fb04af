"""Pretrained weights survive: every tensor of an untouched layer arrives, and is counted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ultralytics.nn.tasks import DetectionModel

from ablate.checkpoints.stored_network import StoredNetwork, read_checkpoint
from ablate.grafting.insertion import INSERTIONS, GraftError
from ablate.grafting.replaced_layer import stock_name
from ablate.training.network import build_network

NAMES = {0: "a", 1: "b", 2: "c"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock checkpoint whose every tensor is told apart from a fresh network's."""
    network = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    network.names = dict(NAMES)
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=generator))
    path = tmp_path_factory.mktemp("weights") / "stock.pt"
    torch.save({"model": network, "train_args": {}}, path)
    return path


def both() -> dict[str, object]:
    """The yaml of a network with two grafts that share their places."""
    content = yaml(None)
    grafts = [
        {"module": {"_target_": target}, "insertion": {"name": "head", "at": None, "wiring": "plain"}}
        for target in ("ablate.modules.hmha.HMHA", "ablate.modules.acmix.ACmix")
    ]
    return {**content, "ablate": {"grafts": grafts}}


def yaml(insertion: str | None) -> dict[str, object]:
    from ultralytics.nn.tasks import yaml_model_load

    content = yaml_model_load("yolo26n.yaml")
    if insertion:
        content["ablate"] = {
            "module": {"_target_": "ablate.modules.hmha.HMHA"},
            "insertion": {"name": insertion, "at": None, "wiring": "plain"},
        }
    return content


@pytest.mark.parametrize("insertion", [None, *INSERTIONS])
def test_every_stock_tensor_arrives_at_every_insertion_point(insertion: str | None, checkpoint: Path) -> None:
    weights = read_checkpoint(checkpoint).network

    network, _, covered = build_network(yaml(insertion), classes=3, names=NAMES, weights=weights, source="stock.pt")

    assert covered.expected == covered.transferred == len(weights.state)
    theirs = weights.state
    ours = {stock_name(k): v for k, v in network.state_dict().items() if stock_name(k)}
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


def test_with_other_classes_only_the_classifier_s_last_layers_are_missing(checkpoint: Path) -> None:
    weights = read_checkpoint(checkpoint).network

    _, _, covered = build_network(yaml("head"), classes=5, weights=weights, source="stock.pt")

    assert covered.missing
    assert all("cv3" in name for name in covered.missing)


def test_a_checkpoint_of_another_architecture_is_refused_with_the_first_difference() -> None:
    weights = StoredNetwork.of(DetectionModel("yolo26s.yaml", nc=3, verbose=False))
    with pytest.raises(GraftError, match=r"other\.pt: a checkpoint of another architecture: \d+ of \d+ tensors"):
        build_network(yaml("head"), classes=3, weights=weights, source="other.pt")


@pytest.mark.parametrize("insertion", [None, "head", "c3k2"])
def test_a_grafted_checkpoint_is_refused_as_a_start(insertion: str | None) -> None:
    grafted, _, _ = build_network(yaml("head"), classes=3)
    weights = StoredNetwork.of(grafted)
    with pytest.raises(GraftError, match=r"best\.pt: this checkpoint is grafted with ablate\.modules\.hmha\.HMHA"):
        build_network(yaml(insertion), classes=3, weights=weights, source="best.pt")


def test_a_network_is_rebuilt_from_its_own_checkpoint() -> None:
    trained, _, _ = build_network(yaml("c3k2"), classes=3, seed=1)

    again, _, _ = build_network(trained.yaml, classes=3, weights=StoredNetwork.of(trained), seed=2, resume=True)

    state = trained.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())


def test_with_two_grafts_every_stock_tensor_arrives_and_the_checkpoint_is_rebuilt(checkpoint: Path) -> None:
    weights = read_checkpoint(checkpoint).network

    trained, report, covered = build_network(both(), classes=3, names=NAMES, weights=weights, source="stock.pt")
    again, _, _ = build_network(trained.yaml, classes=3, weights=StoredNetwork.of(trained), seed=2, resume=True)

    assert covered.expected == covered.transferred == len(weights.state)
    assert len(report.places) == 6
    assert again.state_dict().keys() == trained.state_dict().keys()
    state = trained.state_dict()
    assert all(torch.equal(tensor, state[name]) for name, tensor in again.state_dict().items())
    with pytest.raises(GraftError, match=r"HMHA and ablate\.modules\.acmix\.ACmix; model\.weights takes a stock"):
        build_network(yaml(None), classes=3, weights=StoredNetwork.of(trained), source="best.pt")
