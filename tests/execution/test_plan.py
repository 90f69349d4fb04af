"""A plan says what would run and what it would take; it starts nothing and writes nothing but caches."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ablate.data.catalogue import resolve
from ablate.data.data_settings import DataSettings
from ablate.execution.make_request import LeftOut, Request
from ablate.execution.plan import DiskNeed, MemoryNeed, Plan, PlanRow, make_plan
from ablate.execution.plan_table import print_plan, show_plan
from ablate.launching.devices import Slot
from ablate.launching.jobs import Observer
from ablate.launching.sharing import Layout
from ablate.measuring.step_cost import StepCost, StepTimes
from ablate.preflight import memory_probe as probing
from ablate.records.loading import save_record
from ablate.records.trial_record import NO_METRICS, Failure, TrialRecord
from ablate.settings.schema import Config, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.study.trial import Trial, data_warnings

DATA = {"name": "shapes", "path": None, "train_images": 8, "val_images": 4, "imgsz": 64, "seed": 0}

BROKEN = """
import torch
from torch import nn

class Broken(nn.Identity):
    def __init__(self, channels):
        super().__init__()
    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            raise RuntimeError("this module is broken")
        return x
"""


@pytest.fixture
def root(tmp_path: Path, warm_workers: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(probing, "Cache", lambda name, kind: _Cache(tmp_path, name, kind))
    return tmp_path / "multirun"


class _Cache(probing.Cache[Any]):
    """The probes of one test."""

    def __init__(self, folder: Path, name: str, kind: type[Any]) -> None:
        super().__init__(name, kind)
        self._folder = folder / name


def trial(root: Path, module: str = "none", **changes: Any) -> Trial:
    content = asdict(Config())
    content |= {"data": DATA, "module": {**option_file("module", module), **changes.pop("options", {})}}
    content |= {"root": str(root), "device": "cpu"}
    content["insertion"]["name"] = changes.pop("insertion", "customary")
    small = {"imgsz": 64, "batch": 4, "nbs": 4, "workers": 0, "mosaic": 0.0, "close_mosaic": 0, "plots": False}
    content["train"] |= {"epochs": 3, **small, **changes.pop("train", {})}
    return Trial.of(TrialSettings.from_plain({**content, **changes}), resolve(DataSettings.from_plain(DATA)))


class Slots:
    """A launch with some slots, where nobody shares out cores."""

    def __init__(self, count: int = 1, local: Sequence[Slot] = ()) -> None:
        self._count = count
        self._local = local

    def check(self, device: str) -> None: ...

    def slots(self, device: str) -> int:
        return self._count

    def local_slots(self, device: str) -> Sequence[Slot]:
        return self._local

    def open_cores(self, device: str) -> int | None:
        return None

    def share(self, layout: Layout) -> None: ...

    def run(self, function: str, payloads: Sequence[Any], device: str, observer: Observer) -> None:
        pytest.fail("a plan runs nothing")


def request(trials: Sequence[Trial], **more: Any) -> Request:
    """Return the request of some trials whose steps are not measured."""
    settings = [replace(one.settings, command=replace(one.settings.command, probe=False)) for one in trials]
    unprobed = [replace(one, settings=changed) for one, changed in zip(trials, settings, strict=True)]
    return Request(unprobed, **more)


def ends(of: Trial, status: str, kind: str = "code") -> None:
    """Write the record of a trial that has ended."""
    failure = Failure(type=kind, message="it fell over") if status == "failed" else None
    header = msgspec.structs.asdict(of.header())
    save_record(of.folder, TrialRecord(**header, status=status, failure=failure, metrics=NO_METRICS))


def is_interrupted(of: Trial, epochs: int) -> None:
    """Leave what a trial leaves that was killed after so many epochs."""
    (of.folder / "train" / "weights").mkdir(parents=True)
    (of.folder / "train" / "weights" / "last.pt").write_bytes(b"a checkpoint")
    lines = [json.dumps({"epoch": epoch + 1}) for epoch in range(epochs)]
    (of.folder / "train" / "history.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_it_tells_what_runs_what_goes_on_and_what_is_there_already(root: Path) -> None:
    trials = [trial(root, "hmha", seed=seed) for seed in range(4)]
    ends(trials[1], "finished")
    ends(trials[2], "failed")
    is_interrupted(trials[3], epochs=2)

    plan = make_plan(request([*trials, trials[0]]), Slots())

    assert [row.state for row in plan.trials] == ["run", "reuse", "failed", "resume"]
    assert [row.epochs_done for row in plan.trials] == [0, 3, 0, 2]
    assert plan.counts == {"run": 1, "reuse": 1, "failed": 1, "resume": 1}
    assert len(plan.trials[0].places) == 13


def test_without_a_probe_nothing_is_said_about_time_and_memory(root: Path) -> None:
    plan = make_plan(request([trial(root)]), Slots())

    assert plan.trial_hours is None
    assert plan.finish == {}
    assert plan.trials[0].seconds is None
    assert plan.trials[0].peak_memory_gb is None
    assert plan.disk.needed > 0


def test_whether_to_probe_is_said_by_the_trials(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ablate.execution.plan.probe_variants", lambda *_: pytest.fail("it probes"))

    assert make_plan(request([trial(root)]), Slots()).finish == {}


def test_a_probe_gives_each_trial_its_time_and_memory_and_all_of_them_an_end(root: Path) -> None:
    trials = [trial(root, seed=seed, train={"epochs": epochs}) for seed, epochs in ((0, 3), (1, 3), (0, 6))]
    is_interrupted(trials[1], epochs=2)

    plan = make_plan(Request(trials), Slots(2))

    whole, resumed, longer = (row.seconds or 0 for row in plan.trials)
    assert 0 < resumed < whole < longer
    assert all((row.peak_memory_gb or 0) > 0.1 for row in plan.trials)
    assert plan.trial_hours == pytest.approx((whole + resumed + longer) / 3600)
    assert set(plan.finish) == {1, 2, 4, 8}
    assert plan.finish[1] == pytest.approx(whole + resumed + longer)
    assert plan.finish[8] == pytest.approx(longer)
    assert not (root.parent / "probes").is_file()
    assert len(list((root.parent / "probes").iterdir())) == 1, "epochs and seeds share a probe"
    assert {path.name for path in root.iterdir()} == {"trials"}
    assert len(list((root / "trials").iterdir())) == 1, "nothing is written beside what was there"


def test_a_probe_is_not_repeated_and_leaves_no_folder_behind(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = make_plan(Request([trial(root)]), Slots())
    monkeypatch.setattr(probing, "run_jobs", lambda *_: pytest.fail("it probes again"))

    second = make_plan(Request([trial(root, seed=5)]), Slots())

    assert second.trials[0].seconds == first.trials[0].seconds
    assert not list(probing.cache_dir().glob(".probe-*"))


def test_what_was_probed_before_an_interruption_need_not_be_probed_again(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = probing.run_jobs

    def run_once(backend: Any, function: str, jobs: Any, observer: Any, limits: Any) -> Any:
        def end(index: int, outcome: Any) -> None:
            observer.end(index, outcome)
            raise KeyboardInterrupt

        return run(backend, function, jobs, replace(observer, end=end), limits)

    monkeypatch.setattr(probing, "run_jobs", run_once)
    with pytest.raises(KeyboardInterrupt):
        make_plan(Request([trial(root), trial(root, "sta")]), Slots())

    assert len(list((root.parent / "probes").glob("*.json"))) == 1
    assert not list(probing.cache_dir().glob(".probe-*"))


def test_a_variant_that_falls_over_in_its_first_steps_is_known_before_it_is_run(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "falling_over.py").write_text(BROKEN, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    broken = trial(root, options={"name": "broken", "_target_": "falling_over.Broken"}, insertion="neck_p5")

    plan = make_plan(Request([trial(root), broken]), Slots())
    print_plan(plan)

    assert plan.trials[1].probe_failure == probing.ProbeFailure("code", "this module is broken")
    assert plan.trials[1].seconds is None
    assert (plan.trials[0].seconds or 0) > 0
    assert "broken@neck_p5 musgd fails in its first steps: code: this module is broken" in capsys.readouterr().out


def test_json_and_the_table_say_the_same(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trials = [trial(root, module, seed=seed) for module in ("none", "sta") for seed in range(3)]
    ends(trials[0], "finished")
    asked = request(trials, left_out=[LeftOut("hat@head musgd s0", "excluded")], notes=["look here"])

    assert show_plan(asked, Slots(), as_json=True) == 0
    plan = json.loads(capsys.readouterr().out)
    assert show_plan(asked, Slots()) == 0
    lines = capsys.readouterr().out.splitlines()

    (baseline,) = [line for line in lines if line.startswith("baseline")]
    (sta,) = [line for line in lines if line.startswith("sta@head")]
    assert "2 run, 1 reuse" in baseline
    assert "3 run" in sta
    assert f"{plan['trials'][3]['params'] / 1e6:.2f}" in sta
    assert f"{plan['trials'][3]['gflops']:.2f}" in sta
    assert "6 trials: 5 run, 1 reuse" in lines
    assert "left out: hat@head musgd s0: excluded" in lines
    assert "look here" in lines
    assert plan["left_out"] == [{"trial": "hat@head musgd s0", "reason": "excluded"}]


def test_models_are_told_apart_where_there_are_several(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    models = [{"name": name, "architecture": f"{name}.yaml", "weights": None} for name in ("yolo26n", "yolov8n")]

    show_plan(request([trial(root, model=model) for model in models]), Slots())

    out = capsys.readouterr().out
    assert "model" in out
    assert "yolov8n" in out


ROW = PlanRow(
    trial="a s0", variant="a", variant_key="a", signature="", state="run", factors={"model": "m", "data": "d"}, seed=0,
    epochs=1, epochs_done=0, places=(), params=1, gflops=1.0, gflops_ultralytics=None, weights_transferred=0,
    weights_expected=1, seconds=60.0, peak_memory_gb=2.0,
)  # fmt: skip
PLAN = Plan(
    [ROW] * 6, slots=1, trial_hours=0.1, finish={1: 360.0, 2: 180.0, 8: 60.0}, disk=DiskNeed(1.0, 10.0),
    memory=MemoryNeed("a device", 2.0, 8.0),
)  # fmt: skip


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        (PLAN, "1 at a time:   finishes"),
        (replace(PLAN, disk=DiskNeed(12.0, 10.0)), "the disk is too small: 12 GB needed, 10 GB free"),
        (
            replace(PLAN, memory=MemoryNeed("a device", 9.0, 8.0)),
            "memory may not suffice: 9.0 GB where trials share a device that has 8.0 GB",
        ),
        (
            replace(PLAN, left_out=[LeftOut(f"t s{seed}", "excluded") for seed in range(7)]),
            "left out: t s0, t s1, t s2, t s3, t s4 and 2 more: excluded",
        ),
    ],
)
def test_what_the_user_should_know_before_starting_is_said(
    plan: Plan, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    print_plan(plan)

    out = capsys.readouterr().out
    assert words in out
    assert "8 at a time" not in out, "there are six trials"


def test_what_is_odd_in_the_data_is_said_with_the_name_of_the_set_where_there_are_several(root: Path) -> None:
    one = trial(root)
    odd = replace(one, data=replace(one.data, warnings=["train: 1 image is left out"]))
    other = replace(one, data=replace(one.data, name="mine", fingerprint="f" * 64, warnings=["val: 1 image is a copy"]))
    assert data_warnings([replace(one, data=replace(one.data, warnings=[]))]) == []
    assert make_plan(request([odd, odd]), Slots()).notes == ["data: train: 1 image is left out"]
    assert data_warnings([odd, other]) == [
        "data shapes: train: 1 image is left out",
        "data mine: val: 1 image is a copy",
    ]


def test_slots_that_share_a_gpu_share_its_memory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = StepTimes(1.0, 1.0, 1.0, 1.0, train_batches=2, val_batches=1)
    step = StepCost(times, 4, 4, 1, peak_memory_gb=30.0, device_name="GPU", device_memory_gb=80.0)
    probes = probing.Probes({trial(root).identity.variant_key: step})
    monkeypatch.setattr("ablate.execution.plan.probe_variants", lambda *_: probes)
    slots = [Slot(f"{n}", {"CUDA_VISIBLE_DEVICES": device}) for n, device in enumerate("00011")]

    plan = make_plan(Request([trial(root)]), Slots(5, slots))

    assert plan.memory == MemoryNeed("GPU", 90.0, 80.0)
