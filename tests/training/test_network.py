"""The network that is counted, measured and continued is the one that is trained."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from torch import nn
from ultralytics.nn.tasks import DetectionModel, load_checkpoint, yaml_model_load

from ablate.checkpoints.stored_network import StoredNetwork
from ablate.execution.run_trial import run_trial
from ablate.latency.backends import deploy
from ablate.latency.latency_settings import Setting
from ablate.latency.measurement_job import MeasurementOptions
from ablate.latency.worker import measure_networks
from ablate.measuring.complexity import complexity
from ablate.preflight.networks import preflight
from ablate.settings.schema import Config
from ablate.settings.trial_settings import TrialSettings
from ablate.study.trial import Trial
from ablate.training.network import build_network

NAMES = {0: "a", 1: "b", 2: "c"}
IDENTITY = {"_target_": "ablate.modules.identity.Identity"}


def checkpoint(architecture: str, classes: int = 80, channels: int = 3) -> DetectionModel:
    torch.manual_seed(1)
    network = DetectionModel(architecture, nc=classes, ch=channels, verbose=False)
    network.names = {index: f"class {index}" for index in range(classes)}
    return network


def content(architecture: str, insertion: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = yaml_model_load(architecture)
    if insertion is not None:
        place = {"name": insertion, "at": None, "wiring": "rezero"}
        found["ablate"] = {"module": IDENTITY, "insertion": place}
    return found


def as_saved(network: nn.Module) -> nn.Module:
    """Return a network as a checkpoint holds it: the average of the weights, in half precision, without gradients."""
    return deepcopy(network).half().eval().requires_grad_(False)


def width(network: DetectionModel) -> int:
    return int(network.model[-1].cv3[0][-1].in_channels)


@pytest.mark.parametrize(
    ("architecture", "insertion", "classes", "channels"),
    [
        ("yolo26n.yaml", None, 80, 3),
        ("yolo26n.yaml", "head", 80, 3),
        ("yolo26s.yaml", "c3k2", 1, 3),
        ("yolo11n.yaml", "neck_p5", 80, 1),
        ("yolov8n.yaml", "backbone_p4", 80, 4),
        ("yolov10n.yaml", "head", 80, 3),
    ],
)
def test_a_network_is_continued_in_the_shapes_that_its_starting_weights_gave_it(
    architecture: str, insertion: str | None, classes: int, channels: int
) -> None:
    given: dict[str, Any] = {"classes": 3, "names": NAMES, "channels": channels}
    weights = checkpoint(architecture, classes)
    trained, _, covered = build_network(content(architecture, insertion), weights=StoredNetwork.of(weights), **given)
    alone, _, _ = build_network(content(architecture, insertion), **given)
    resumed, _, _ = build_network(
        content(architecture, insertion), weights=StoredNetwork.of(as_saved(trained)), resume=True, **given
    )

    assert covered.transferred > 0.8 * covered.expected
    shapes = {name: tensor.shape for name, tensor in trained.state_dict().items()}
    assert {name: tensor.shape for name, tensor in resumed.state_dict().items()} == shapes
    learning = [parameter.requires_grad for parameter in trained.parameters()]
    assert [parameter.requires_grad for parameter in resumed.parameters()] == learning
    assert all(tensor.dtype != torch.half for tensor in resumed.state_dict().values())
    assert next(resumed.parameters()).shape[1] == channels
    if width(alone) != width(trained):
        assert complexity(resumed, 64) == complexity(trained, 64) != complexity(alone, 64)
    image = torch.rand(1, channels, 64, 64)
    resumed.load_state_dict(trained.state_dict())
    assert torch.equal(trained.eval()(image)[0], resumed.eval()(image)[0])


def test_starting_weights_of_other_classes_make_another_class_branch() -> None:
    trained, _, _ = build_network(
        "yolo26n.yaml", classes=3, names=NAMES, weights=StoredNetwork.of(checkpoint("yolo26n.yaml"))
    )
    alone, _, _ = build_network("yolo26n.yaml", classes=3, names=NAMES)

    assert (width(trained), width(alone)) == (80, 64)


@pytest.mark.parametrize("remap", [True, False])
def test_rows_of_like_named_classes_are_taken_over_unless_that_is_switched_off(remap: bool) -> None:
    weights = checkpoint("yolo26n.yaml", classes=3)
    weights.names = {0: "c", 1: "a", 2: "b"}
    network, _, _ = build_network(
        "yolo26n.yaml", classes=3, names=NAMES, remap=remap, weights=StoredNetwork.of(weights)
    )

    ours, theirs = network.model[-1].cv3[0][-1].weight, weights.model[-1].cv3[0][-1].weight
    assert torch.equal(ours, theirs[[1, 2, 0]] if remap else theirs)
    assert network.names == NAMES


def grey_data(folder: Path, channels: int) -> str:
    """Write a data set of images with so many channels and three classes; return its data file."""
    random = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 2)):
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for number in range(count):
            image = random.integers(0, 255, (64, 64) if channels == 1 else (64, 64, channels), dtype=np.uint8)
            Image.fromarray(image).save(folder / "images" / split / f"{number}.tif")
            (folder / "labels" / split / f"{number}.txt").write_text(
                "0 0.5 0.5 0.4 0.4\n1 0.3 0.3 0.2 0.2\n2 .7 .7 .2 .2"
            )
    content = {"train": "images/train", "val": "images/val", "names": list("abc"), "channels": channels}
    (folder / "data.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(folder / "data.yaml")


@pytest.mark.parametrize(("channels", "single"), [(1, True)])
def test_plan_record_and_latency_are_of_the_network_that_is_trained(
    tmp_path: Path, channels: int, single: bool
) -> None:
    torch.save({"model": checkpoint("yolo26n.yaml"), "train_args": {}}, tmp_path / "coco.pt")
    config = asdict(Config())
    config["train"] |= {"epochs": 1, "imgsz": 50, "batch": 4, "nbs": 4, "mosaic": 0.0, "plots": False, "workers": 0}
    config["train"] |= {"single_cls": single}
    config |= {
        "root": str(tmp_path / "out"),
        "device": "cpu",
        "data": {"name": "custom", "path": grey_data(tmp_path, channels)},
    }
    config["model"] = {"name": "yolo26n", "architecture": "yolo26n.yaml", "weights": str(tmp_path / "coco.pt")}
    trial = Trial.of(TrialSettings.from_plain(config))
    (planned,) = preflight([trial], with_cost=True).answers.values()

    run_trial(trial.settings)

    record = trial.record()
    assert record is not None
    assert record.failure is None
    trained = load_checkpoint(str(trial.folder / str(record.artifacts.best)))[0]
    assert (next(trained.parameters()).shape[1], trained.model[-1].nc, width(trained)) == (
        channels,
        1 if single else 3,
        80,
    )
    counted = asdict(complexity(trained, 64))
    assert planned.cost is not None
    assert asdict(planned.cost).items() <= counted.items()
    assert {name: getattr(record.cost, name) for name in counted} == counted
    assert record.realised.weights.transferred == planned.transferred
    assert list(record.data.classes) == [row.name for row in record.per_class] == (["item"] if single else list("abc"))
    deployed = deploy(trained, "validated")
    settings = [Setting(scope=scope) for scope in ("network", "pipeline")]
    options = MeasurementOptions(rounds=3, warmup=0, warmup_max=0)
    for times in measure_networks({"a": (deployed, 64)}, settings, options).settings:
        assert times.networks["a"].reason is None
        assert len(times.networks["a"].parts) == 3
