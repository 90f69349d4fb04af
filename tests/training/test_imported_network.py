"""An imported network starts from the same checkpoint as its baseline, and comes back from its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.fixtures.network_files import insert, replaced, stock, write, write_code
from ultralytics.nn.tasks import DetectionModel

from ablate.checkpoints.stored_network import StoredNetwork
from ablate.importing.network_file import read_network_file
from ablate.importing.stock_networks import find_ancestor
from ablate.importing.written_file import imported_network
from ablate.settings.architecture import read_architecture
from ablate.settings.imported_network import ImportedNetwork
from ablate.sources.code_folder import Code
from ablate.training.network import build_network, restore

NAMES = {0: "a", 1: "b", 2: "c"}


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> ImportedNetwork:
    folder = tmp_path_factory.mktemp("imported")
    code = Code.at(write_code(folder, "resumed_layers"))
    code.allow()
    content = replaced(stock(), {6: [-1, 2, "C3k2_Mine", [512, True]]})
    file = write(folder, insert(content, 11, [-1, 1, "EMA", []]))
    alignment = find_ancestor(read_network_file(file), "file")
    return imported_network(alignment, code.find(["EMA", "C3k2_Mine"]), code.path)


@pytest.fixture(scope="module")
def checkpoint() -> StoredNetwork:
    torch.manual_seed(1)
    published = DetectionModel("yolo26n.yaml", nc=80, verbose=False)
    published.names = {index: f"class {index}" for index in range(80)}
    return StoredNetwork.of(published)


def yaml_of(network: ImportedNetwork, *others: dict[str, Any]) -> dict[str, Any]:
    graft = network.to_graft("mine")
    return {**read_architecture(network.ancestor), "ablate": {"grafts": [graft, *others]} if others else graft}


def test_untouched_tensors_come_from_the_checkpoint_and_shared_ones_too(
    network: ImportedNetwork, checkpoint: StoredNetwork
) -> None:
    torch.manual_seed(5)
    built, report, covered = build_network(yaml_of(network), classes=3, names=NAMES, weights=checkpoint, source="n.pt")
    torch.manual_seed(5)
    baseline, _, of_baseline = build_network(
        read_architecture("yolo26n.yaml"), classes=3, names=NAMES, weights=checkpoint, source="n.pt"
    )

    of_layer_6 = [name for name in baseline.state_dict() if name.startswith("model.6.")]
    assert covered.expected == of_baseline.expected - len(of_layer_6)
    assert covered.transferred == of_baseline.transferred - len(of_layer_6)
    theirs, ours = built.state_dict(), baseline.state_dict()
    head = {name.removeprefix("model.23."): it for name, it in ours.items() if name.startswith("model.23.")}
    assert all(torch.equal(theirs[f"model.24.{name}"], it) for name, it in head.items())
    places = {place.place: place.content for place in report.places}
    assert places["model.6"]["kept"] > 0
    assert places["model.6"]["tensors"] == len(of_layer_6)
    assert "kept" not in places["model.11"]


def test_without_weights_it_starts_as_its_baseline_does(network: ImportedNetwork) -> None:
    torch.manual_seed(5)
    built, _, _ = build_network(yaml_of(network), classes=3, names=NAMES)
    after = torch.rand(2)
    torch.manual_seed(5)
    baseline, _, _ = build_network(read_architecture("yolo26n.yaml"), classes=3, names=NAMES)

    assert torch.equal(after, torch.rand(2))
    assert torch.equal(
        built.state_dict()["model.23.cv1.conv.weight"], baseline.state_dict()["model.22.cv1.conv.weight"]
    )


def test_its_own_checkpoint_builds_it_again_with_a_graft_on_top(
    network: ImportedNetwork, checkpoint: StoredNetwork
) -> None:
    identity = {
        "module": {"_target_": "ablate.modules.identity.Identity"},
        "insertion": {"name": "neck_p4", "at": None, "wiring": "rezero"},
    }
    built, report, _ = build_network(
        yaml_of(network, identity), classes=3, names=NAMES, weights=checkpoint, source="n.pt"
    )
    built.names = NAMES
    stored = StoredNetwork.of(built)

    again = restore(stored, network.targets, trust=True)

    assert report.places[-1].place == "model.20"
    assert list(again.state_dict()) == list(built.state_dict())
    state = again.state_dict()
    assert all(torch.equal(it, state[name]) for name, it in built.state_dict().items())
    with torch.no_grad():
        image = torch.rand(1, 3, 64, 64)
        assert torch.equal(again(image)[0], built.eval()(image)[0])


def test_code_that_lies_elsewhere_is_searched_where_the_user_names_it(network: ImportedNetwork) -> None:
    assert network.code is not None
    assert Path(network.code).name == "resumed_layers"
    assert set(network.targets) == {"resumed_layers.layers.EMA", "resumed_layers.layers.C3k2_Mine"}
