"""A tiny data set and modules that go wrong in known ways."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

# A sixth of YOLO26's layers, a quarter of yolo26n's width: building, copying and storing a network takes most of a tiny
# training, and the time of it goes by the number of layers. It has a place for every insertion point but `psa`.
SMALL = {
    "backbone": [
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 1, "C3k2", [256, False, 0.25]],  # 3, stride 8
        [-1, 1, "Conv", [512, 3, 2]],  # 4, stride 16
        [-1, 1, "Conv", [1024, 3, 2]],
        [-1, 1, "SPPF", [1024, 5, 3, True]],  # 6, stride 32
    ],
    "head": [[[3, 6], 1, "Detect", ["nc"]]],
}
NARROW = 1 / 16

MODULES = '''
import torch
from torch import nn


class Same(nn.Module):
    """The identity as a graft."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x


class OutOfMemoryAbove(nn.Module):
    """Raises as CUDA does when the batch is larger than `batch` while training."""

    def __init__(self, channels, batch=0):
        super().__init__()
        self.batch = batch

    def forward(self, x):
        if self.training and torch.is_grad_enabled() and len(x) > self.batch:
            raise RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return x


class Nan(nn.Module):
    """Gives NaN while training."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * float("nan") if self.training and torch.is_grad_enabled() else x
'''


@pytest.fixture(scope="module", autouse=True)
def nothing_to_collect() -> None:
    """Ultralytics collects garbage in each training: let it not search all that was imported since the tests began."""
    import ablate.training.trainer  # noqa: F401 - Ultralytics with it

    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tiny_data() -> Path:
    """Eight images to train on, four to validate."""
    from ablate.data.catalogue import resolve
    from ablate.data.data_settings import DataSettings

    spec = {"name": "shapes", "path": None, "train_images": 8, "val_images": 4, "imgsz": 64, "seed": 0}
    return resolve(DataSettings.from_plain(spec)).yaml


@pytest.fixture
def user_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A user's own Python file with modules; returns its import name."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "my_blocks.py").write_text(MODULES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "mine")
    yield "my_blocks"
    sys.modules.pop("my_blocks", None)


def small_network(width: float = NARROW) -> dict[str, Any]:
    """Return what the YAML of the small network says."""
    from ultralytics.nn.tasks import yaml_model_load

    content: dict[str, Any] = yaml_model_load("yolo26n.yaml") | SMALL
    content["scales"]["n"][1] = width
    return content


def make_trainer(
    parent: Path, data: Path, target: str | None = None, insertion: str = "neck_p5", on_oom: str = "fail", **given: Any
) -> Any:
    """Return a trainer that is ready to train for a few batches, in a folder of its own below `parent`."""
    from ultralytics.nn.tasks import yaml_model_load

    from ablate.settings.losses import LossSettings
    from ablate.training.trainer import AblateTrainer

    content = small_network()
    if "width" in given:  # YOLO26 itself
        content = yaml_model_load("yolo26n.yaml")
        content["scales"]["n"][1] = given.pop("width")
    content["ablate_on_oom"] = on_oom
    if given.pop("freeze_grafts", False):
        content["ablate_freeze_grafts"] = True
    if "orthogonalise" in given:
        content["ablate_orthogonalise"] = given.pop("orthogonalise")
    options = given.pop("options", {})
    callbacks = given.pop("callbacks", {})
    if losses := given.pop("losses", None):
        content["ablate_losses"] = LossSettings.from_plain(losses).to_yaml()
    if grafts := given.pop("grafts", None):
        content["ablate"] = grafts
    if target:
        content["ablate"] = {
            "module": {"_target_": target, **options},
            "insertion": {"name": insertion, "at": None, "wiring": "plain"},
        }
    folder = parent / f"run{len(list(parent.glob('run*')))}"
    folder.mkdir()
    network = folder / "yolo26n.yaml"
    network.write_text(yaml.safe_dump(content), encoding="utf-8")
    trainer = AblateTrainer(
        overrides={
            "model": str(network),
            "data": str(data),
            "pretrained": False,
            "device": "cpu",
            "epochs": 1,
            "batch": 4,
            "nbs": 4,
            "imgsz": 64,
            "plots": False,
            "optimizer": "MuSGD",
            "project": str(folder),
            "name": "train",
            "exist_ok": True,
            **given,
        }
    )
    for event, function in callbacks.items():
        trainer.add_callback(event, function)
    return trainer


@pytest.fixture
def build(tiny_data: Path, tmp_path: Path) -> Callable[..., Any]:
    """Return a trainer that is ready to train for a few batches."""
    return partial(make_trainer, tmp_path, tiny_data)


@pytest.fixture
def train(build: Callable[..., Any]) -> Callable[..., Any]:
    """Really train for a few batches; return the trainer."""

    def run(*words: Any, **arguments: Any) -> Any:
        trainer = build(*words, **arguments)
        trainer.train()
        return trainer

    return run


@pytest.fixture(scope="module")
def uninterrupted(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return the folder of a training that ran through; the same words are trained once."""
    folders: dict[str, Path] = {}

    def run(*words: Any, **arguments: Any) -> Path:
        key = repr((words, sorted(arguments.items())))
        if key not in folders:
            trainer = make_trainer(tmp_path_factory.mktemp("whole"), tiny_data, *words, **arguments)
            trainer.train()
            folders[key] = Path(trainer.save_dir)
        return folders[key]

    return run
