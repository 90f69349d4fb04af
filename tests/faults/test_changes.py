"""Files that change while a sweep runs, under a process that lives longer than one trial."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
import torch

from ablate.data.catalogue import resolve
from ablate.data.shapes import ShapesSpec, ensure
from ablate.execution.reconcile import Job, reconcile
from ablate.execution.run_trial import record_failure, run_job, run_trial
from ablate.execution.trial_checks import check_unchanged
from ablate.execution.trial_job import TrialOutcome
from ablate.grafting.module_import import import_module_of
from ablate.launching import local
from ablate.launching.devices import DEVICE, Slot
from ablate.launching.jobs import Observer, Outcome, run_jobs
from ablate.launching.local import LocalBackend
from ablate.records.json_struct import to_json
from ablate.records.trial_record import Failure, TrialRecord
from ablate.settings.schema import Config
from ablate.settings.trial_settings import TrialSettings
from ablate.sources.module_source import module_source
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import LAST
from ablate.study.trial import Trial
from ablate.study.trial_inputs import InputsChanged
from ablate.training.trainer import AblateTrainer

BLOCK = """
import torch
from changing_helper import SCALE
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
        helper: A file that it imports.
        data: The data set's folder.
        weights: A file of starting weights, and
        network: the network's yaml, of trials that have their own.
    """

    def __init__(self, folder: Path) -> None:
        self.module = folder / "changing_blocks.py"
        self.module.write_text(BLOCK, encoding="utf-8")
        self.helper = folder / "changing_helper.py"
        self.helper.write_text("SCALE = 1\n", encoding="utf-8")
        self.data = folder / "mine"
        spec = ShapesSpec.from_options({"train_images": 8, "val_images": 4, "imgsz": 64, "seed": 0})
        shutil.copytree(ensure(spec), self.data)
        image = self.data / "images" / "train" / "000000.png"
        PIL.Image.open(image).save(image.with_suffix(".bmp"))  # another pixel leaves its size
        image.unlink()
        self.weights = folder / "mine.pt"
        self.weights.write_text("abc", encoding="utf-8")
        self.network = folder / "yolo26n-mine.yaml"
        self.network.write_text("nc: 80", encoding="utf-8")
        self._root = folder / "multirun"

    def trial(self, *, block: bool, seed: int, epochs: int = 1, own: bool = False) -> Trial:
        """Return a trial as a command sees it that begins now; `own`: with weights and a network of the user's."""
        content = asdict(Config())
        content |= {"data": {"name": "custom", "path": str(self.data / "data.yaml")}, "device": "cpu", "seed": seed}
        content["root"] = str(self._root)
        if block:
            content["module"] = {"name": "block", "_target_": "changing_blocks.Block"}
            content["insertion"]["name"] = "neck_p5"
        if own:
            content["model"] |= {"weights": str(self.weights), "architecture": str(self.network)}
        small = {"imgsz": 64, "batch": 8, "nbs": 8, "workers": 0, "mosaic": 0.0, "close_mosaic": 0, "plots": False}
        content["train"] |= {"epochs": epochs, **small}
        return Trial.of(TrialSettings.from_plain(content))

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
            run_job(Job(trial).for_worker())


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


def record_of(trial: Trial) -> TrialRecord:
    record = trial.record()
    assert record is not None
    return record


def failure_of(trial: Trial) -> Failure:
    failure = record_of(trial).failure
    assert failure is not None
    return failure


def failure(trial: Trial) -> tuple[str, str]:
    return failure_of(trial).type, failure_of(trial).message


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv(DEVICE, "cpu")
    yield Bench(tmp_path)
    for name in ("changing_blocks", "changing_helper"):
        sys.modules.pop(name, None)


@pytest.mark.fault(
    "module, label and checkpoints changed during a sweep, with equal sizes and times",
    "trials of the old files fail as `changed` before training; the same command trains the new ones; "
    "a checkpoint of another trial is set aside and the trial starts over",
)
def test_a_sweep_whose_files_change(bench: Bench, warm_workers: None, monkeypatch: pytest.MonkeyPatch) -> None:
    swapped = [bench.trial(block=False, seed=seed, epochs=2) for seed in (5, 6)]
    for trial in swapped:
        interrupt(trial, monkeypatch)
    swap(*(trial.folder / LAST for trial in swapped))
    planned = reconcile(swapped)
    assert [job.epochs_done for job in planned.jobs] == [0, 0]
    assert [line.split(" is of trial ")[1][:12] for line in planned.ignored] == [
        t.identity.short for t in swapped[::-1]
    ]
    first, second = (bench.trial(block=True, seed=seed) for seed in (0, 1))
    plain = bench.trial(block=False, seed=0)
    trials = [*swapped, first, second, second, plain, plain]
    payloads = [Job(trial).for_worker() for trial in trials]
    results: dict[int, Any] = {}

    def again(index: int) -> None:
        """Give the command again: the trial is composed anew."""
        seed = trials[index].identity.seed
        trials[index] = bench.trial(block="block" in trials[index].identity.name, seed=seed)
        payloads[index] = Job(trials[index]).for_worker()

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
    run_jobs(backend, "ablate.execution.run_trial:run_job", payloads, Observer(end=end))

    assert [results[index].status for index in range(7)] == [
        "finished", "finished", "finished", "failed", "finished", "failed", "finished",
    ]  # fmt: skip
    records = [record_of(trial) for trial in trials]
    # the swapped checkpoints: neither trial went on from the other's
    for trial, other, record in zip(swapped, reversed(swapped), records, strict=False):
        assert [entry.epochs_done for entry in record.tries] == [0, 0]
        assert other.identity.short in (record.tries[1].note or "")
        assert (record.realised.resumed, record.realised.resume_exact) == (0, None)
        assert (trial.folder / f"last-of-{other.identity.short}.pt").is_file()
    # the module: the old class stands under the old signature, the new one under the new, trained in a new process
    assert failure(second)[0] == "changed"
    assert "changing_blocks.py" in failure(second)[1]
    assert not (second.folder / "train").exists()
    assert (gain(first), gain(trials[4])) == (1.0, 2.0)
    assert trials[4].identity.signature != second.identity.signature
    assert records[4].inputs is not None
    assert records[4].inputs.sources == {"changing_blocks.Block": module_source("changing_blocks.Block").sha256}
    assert records[4].tries[0].pid != records[2].tries[0].pid
    # the label: nothing is recorded under the old fingerprint
    assert failure(trials[5])[0] == "changed"
    assert "fingerprint" in failure(trials[5])[1]
    now = resolve(plain.settings.data).fingerprint
    assert records[6].realised.data_fingerprint == now != plain.data.fingerprint


def rename_class(bench: Bench) -> None:
    edit(bench.data / "data.yaml", "circle", "sphere")


def repaint(bench: Bench) -> None:
    """Change an image in one pixel and keep its file's size and times."""
    image = next((bench.data / "images" / "train").glob("*.bmp"))
    before, content = image.stat(), bytearray(image.read_bytes())
    content[-1] ^= 255
    image.write_bytes(content)
    os.utime(image, ns=(before.st_atime_ns, before.st_mtime_ns))


def lose_image(bench: Bench) -> None:
    next((bench.data / "images" / "val").glob("*.png")).unlink()


def break_label(bench: Bench) -> None:
    bench.label.write_text("no box", encoding="utf-8")


DATA_EDITS = [rename_class, repaint, lose_image, break_label, lambda bench: edit_label(bench.label)]
OTHER_EDITS = [
    lambda bench: edit(bench.module, "tensor(1.0)", "tensor(2.0)"),
    lambda bench: bench.module.write_text("class Block", encoding="utf-8"),
    lambda bench: bench.module.unlink(),
    lambda bench: edit(bench.helper, "1", "2"),
    lambda bench: edit(bench.weights, "abc", "abd"),
    lambda bench: edit(bench.network, "nc: 80", "nc: 81"),
]


@pytest.mark.parametrize("change", [*DATA_EDITS, *OTHER_EDITS])
def test_a_trial_is_not_trained_on_other_files_than_its_command_has_seen(
    bench: Bench, change: Callable[[Bench], object]
) -> None:
    trial = bench.trial(block=True, seed=0, own=True)
    payload = Job(trial).for_worker()
    change(bench)

    result = run_job(payload)

    assert isinstance(result, TrialOutcome)
    assert result.failure is not None
    assert (result.signature, result.failure.type) == (trial.identity.signature, "changed")
    assert [path.name for path in trial.folder.iterdir() if path.is_dir()] == [], "nothing was trained"


def test_a_process_with_old_code_hands_its_trial_to_a_new_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    import_module_of("changing_blocks.Block")  # as an earlier trial in this process did, under Hydra's own launcher
    edit(bench.module, "tensor(1.0)", "tensor(2.0)")
    trial = bench.trial(block=True, seed=0)
    handed: list[Any] = []

    def in_new_process(function: str, payloads: list[Any]) -> list[Outcome]:
        handed.append((function, Trial.of(payloads[0].settings).identity.signature))
        return [Outcome(TrialOutcome(trial.identity.signature, "finished", None))]

    monkeypatch.setattr(local, "run_in_worker", in_new_process)

    assert run_trial(trial.settings).status == "finished"
    assert handed == [("ablate.execution.run_trial:run_job", trial.identity.signature)]


@pytest.mark.parametrize("change", DATA_EDITS)
def test_data_that_changed_during_a_training_is_noticed_at_its_end(
    bench: Bench, change: Callable[[Bench], None]
) -> None:
    trial = bench.trial(block=False, seed=0)
    cache = trial.data.yaml.parent / "labels" / "train.cache"
    cache.touch()  # as Ultralytics leaves it
    check_unchanged(trial.settings, trial.data)
    assert cache.exists()
    change(bench)

    with pytest.raises(InputsChanged):
        check_unchanged(trial.settings, trial.data)
    assert not cache.exists()


def test_what_failed_for_changed_files_goes_on_when_they_are_back(bench: Bench) -> None:
    trial = bench.trial(block=False, seed=0)
    job = Job(trial)
    edit_label(bench.label)
    run_job(job.for_worker())
    (again,) = reconcile([trial]).jobs
    assert again.retry == 0
    edit_label(bench.label)

    assert bench.trial(block=False, seed=0).identity == trial.identity
    assert failure_of(trial).intact, "a checkpoint of before would be continued"


def test_what_another_trial_has_left_in_a_folder_is_not_used(bench: Bench) -> None:
    mine, other = (bench.trial(block=False, seed=seed) for seed in (0, 1))
    tries = [{"started": "2026-01-01T10:00:00+00:00", "host": "here", "pid": 1, "device": "cpu"}]
    atomic_write_json(other.folder / "tries.json", {"signature": other.identity.signature, "tries": tries})
    assert to_json(record_failure(other, "timeout", "too slow").tries) == tries
    shutil.copytree(other.folder, mine.folder)
    found = reconcile([mine])

    assert [job.trial for job in found.jobs] == [mine]
    (line,) = found.ignored
    assert mine.identity.short in line
    assert other.identity.short in line
    assert record_failure(mine, "timeout", "too slow").tries == ()


@pytest.mark.fault(
    "a label edited during training",
    "the trial fails as `changed`, since its training data is unknown; the same command trains it again",
)
def test_data_edited_in_mid_training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = bench.trial(block=False, seed=0)
    begin = AblateTrainer.begin_epoch

    def edits(trainer: AblateTrainer) -> None:
        edit_label(bench.label)
        begin(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(AblateTrainer, "begin_epoch", edits)
        result = run_job(Job(trial).for_worker())

    assert isinstance(result, TrialOutcome)
    assert result.failure is not None
    assert result.failure.type == "changed"
    assert not (trial.folder / LAST).exists()
    assert not list(trial.data.yaml.parent.rglob("*.cache")), "labels of that moment would be trained on again"
    edit_label(bench.label)  # as it was
    assert bench.trial(block=False, seed=0).identity.signature == trial.identity.signature
    (job,) = reconcile([trial]).jobs
    assert isinstance(again := run_job(job.for_worker()), TrialOutcome)
    assert again.status == "finished"


@pytest.mark.fault(
    "a module edited during training",
    "no effect: the trial uses the imported source, and its record says so",
)
def test_module_edited_in_mid_training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = bench.trial(block=True, seed=0)
    begin = AblateTrainer.begin_epoch

    def edits(trainer: AblateTrainer) -> None:
        edit(bench.module, "tensor(1.0)", "tensor(2.0)")
        begin(trainer)

    with monkeypatch.context() as patch:
        patch.setattr(AblateTrainer, "begin_epoch", edits)
        result = run_job(Job(trial).for_worker())

    assert isinstance(result, TrialOutcome)
    assert result.status == "finished"
    assert gain(trial) == 1.0
    assert run_job(Job(bench.trial(block=True, seed=1)).for_worker()) == "stale", (
        "this process goes on with the old class"
    )
