"""Files that change while a sweep runs, under a process that lives longer than one trial."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.config import Config
from ablate.data.catalogue import resolve
from ablate.data.shapes import ShapesSpec, ensure
from ablate.launching.devices import DEVICE, Slot
from ablate.launching.jobs import Observer, run_jobs
from ablate.launching.local import LocalBackend
from ablate.module_source import module_source
from ablate.sweeping.reconcile import Job, reconcile
from ablate.training.trainer import AblateTrainer
from ablate.trial import LAST, Trial, run_job

BLOCK = """
import torch
from torch import nn


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.register_buffer("gain", torch.tensor(1.0))

    def forward(self, x):
        return x * self.gain
"""


class Bench:
    """A user's module and data set, and trials on them.

    Attributes:
        module: The module's file.
        data: The data set's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.module = folder / "changing_blocks.py"
        self.module.write_text(BLOCK, encoding="utf-8")
        self.data = folder / "mine"
        spec = ShapesSpec.from_mapping({"train_images": 8, "val_images": 4, "imgsz": 64, "seed": 0})
        shutil.copytree(ensure(spec), self.data)
        self._root = folder / "multirun"

    def trial(self, *, block: bool, seed: int, epochs: int = 1) -> Trial:
        """Return a trial as a command sees it that begins now."""
        content = asdict(Config())
        content |= {"data": {"name": "custom", "path": str(self.data / "data.yaml")}, "device": "cpu", "seed": seed}
        content["root"] = str(self._root)
        if block:
            content["module"] = {"name": "block", "_target_": "changing_blocks.Block"}
            content["insertion"]["name"] = "neck_p5"
        small = {"imgsz": 64, "batch": 8, "nbs": 8, "workers": 0, "mosaic": 0.0, "close_mosaic": 0, "plots": False}
        content["train"] |= {"epochs": epochs, **small}
        return Trial.of(content)

    @property
    def label(self) -> Path:
        """A label file of the training images."""
        return sorted((self.data / "labels" / "train").glob("*.txt"))[0]


def edit(path: Path, old: str, new: str) -> None:
    """Edit a file so that its size and its time of modification stay."""
    before = path.stat()
    content = path.read_text(encoding="utf-8")
    assert old in content
    assert len(old) == len(new)
    path.write_text(content.replace(old, new, 1), encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def edit_label(path: Path) -> None:
    """Give the first box of a label file another class; the second time its old one."""
    first = int(path.read_text(encoding="utf-8")[0])
    edit(path, str(first), str(first ^ 1))


def interrupt(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    """Train the first epoch of a trial, and leave what a killed process leaves."""

    class Killed(BaseException):
        pass

    def kill(trainer: AblateTrainer) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(AblateTrainer, "end_epoch", kill)
        with pytest.raises(Killed):
            run_job(Job(trial).payload)


def swap(one: Path, other: Path) -> None:
    """Let two files change places."""
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)


def gain(trial: Trial) -> float:
    """Return what tells the class that a trial has trained from its edited successor."""
    state = torch.load(trial.folder / "train/weights/best.pt", weights_only=False)["model"].state_dict()
    (value,) = [tensor for name, tensor in state.items() if name.endswith(".gain")]
    return float(value)


def failure(trial: Trial) -> tuple[str, str]:
    record = trial.record()
    assert record is not None
    return record["failure"]["type"], record["failure"]["message"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(DEVICE, "cpu")
    yield Bench(tmp_path)
    sys.modules.pop("changing_blocks", None)


@pytest.mark.fault(
    "module, label and checkpoints changed under a running sweep, with sizes and times as they were",
    "what was promised of the old files fails as `changed`, untrained; the same command trains the new ones; "
    "a checkpoint of another trial is put aside and its trial starts anew",
)
def test_a_sweep_whose_files_change(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = [bench.trial(block=False, seed=seed, epochs=2) for seed in (5, 6)]
    for trial in swapped:
        interrupt(trial, monkeypatch)
    swap(*(trial.folder / LAST for trial in swapped))
    first, second = (bench.trial(block=True, seed=seed) for seed in (0, 1))
    plain = bench.trial(block=False, seed=0)
    trials = [*swapped, first, second, second, plain, plain]
    payloads = [Job(trial).payload for trial in trials]
    results: dict[int, Any] = {}

    def again(index: int) -> None:
        """Give the command again: the trial is composed anew."""
        seed = trials[index].identity.seed
        trials[index] = bench.trial(block="block" in trials[index].identity.name, seed=seed)
        payloads[index] = Job(trials[index]).payload

    steps: dict[int, Callable[[], None]] = {
        2: lambda: edit(bench.module, "tensor(1.0)", "tensor(2.0)"),
        3: lambda: again(4),
        4: lambda: (again(5), edit_label(bench.label))[0],  # type: ignore[func-returns-value]
        5: lambda: again(6),
    }

    def end(index: int, outcome: Any) -> None:
        results[index] = outcome.result
        steps.get(index, lambda: None)()

    backend = LocalBackend([Slot("cpu", {DEVICE: "cpu", "OMP_NUM_THREADS": "1"})])
    run_jobs(backend, "ablate.trial:run_job", payloads, Observer(end=end))

    assert [results[index]["status"] for index in range(7)] == [
        "finished", "finished", "finished", "failed", "finished", "failed", "finished",
    ]  # fmt: skip
    records = [trial.record() or {} for trial in trials]
    # the swapped checkpoints: neither trial went on from the other's
    for trial, other, record in zip(swapped, reversed(swapped), records, strict=False):
        assert [entry["epochs_done"] for entry in record["tries"]] == [0, 0]
        assert other.identity.short in record["tries"][1]["note"]
        assert (record["realised"]["resumed"], record["realised"]["resume_exact"]) == (0, None)
        assert (trial.folder / f"last-of-{other.identity.short}.pt").is_file()
    # the module: the old class stands under the old signature, the new one under the new, trained in a new process
    assert failure(second)[0] == "changed"
    assert "changing_blocks.py" in failure(second)[1]
    assert not (second.folder / "train").exists()
    assert (gain(first), gain(trials[4])) == (1.0, 2.0)
    assert trials[4].identity.signature != second.identity.signature
    assert records[4]["inputs"]["sources"] == {"changing_blocks.Block": module_source("changing_blocks.Block").sha256}
    assert records[4]["tries"][0]["pid"] != records[2]["tries"][0]["pid"]
    # the label: nothing is recorded under the old fingerprint
    assert failure(trials[5])[0] == "changed"
    assert "fingerprint" in failure(trials[5])[1]
    now = resolve(plain.config["data"]).fingerprint
    assert records[6]["realised"]["data_fingerprint"] == now != plain.data.fingerprint


@pytest.mark.fault(
    "a label edited while its trial is trained",
    "the trial fails as `changed`: nobody can say what it was trained on; the same command trains it anew",
)
def test_data_edited_in_mid_training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = bench.trial(block=False, seed=0)
    begin = AblateTrainer.begin_epoch

    def edits(trainer: AblateTrainer) -> None:
        edit_label(bench.label)
        begin(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(AblateTrainer, "begin_epoch", edits)
        result = run_job(Job(trial).payload)

    assert isinstance(result, dict)
    assert result["failure"]["type"] == "changed"
    assert not (trial.folder / LAST).exists()
    assert not list(trial.data.yaml.parent.rglob("*.cache")), "labels of that moment would be trained on again"
    edit_label(bench.label)  # as it was
    assert bench.trial(block=False, seed=0).identity.signature == trial.identity.signature
    (job,) = reconcile([trial]).jobs
    assert isinstance(again := run_job(job.payload), dict)
    assert again["status"] == "finished"


@pytest.mark.fault(
    "a module edited while its trial is trained",
    "nothing: the trial was trained with what it had imported, and its record says so",
)
def test_module_edited_in_mid_training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = bench.trial(block=True, seed=0)
    begin = AblateTrainer.begin_epoch

    def edits(trainer: AblateTrainer) -> None:
        edit(bench.module, "tensor(1.0)", "tensor(2.0)")
        begin(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(AblateTrainer, "begin_epoch", edits)
        result = run_job(Job(trial).payload)

    assert isinstance(result, dict)
    assert result["status"] == "finished"
    assert gain(trial) == 1.0
    assert run_job(Job(bench.trial(block=True, seed=1)).payload) == "stale", "this process goes on with the old class"
