"""A match of latency is measured once, kept in the output folder, and never measured where nothing trains."""

from __future__ import annotations

import errno
import json
import re
import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from ablate.__main__ import main
from ablate.console import Terminal
from ablate.data.catalogue import DataSet
from ablate.errors import ConfigError
from ablate.execution import latency_matches
from ablate.execution.latency_matches import LatencyMatcher
from ablate.latency.measurement_job import NetworkTimes, ProcessTimes, SettingTimes, UntrainedJob
from ablate.launching.devices import DEVICE, Slot
from ablate.launching.jobs import Observer
from ablate.launching.sharing import Layout
from ablate.settings.schema import Config, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.locking import lock
from ablate.study.trial import Trial

DATA = DataSet("mine", Path("mine.yaml"), ["a", "b"], {"train": 8, "val": 4}, {"train": 8, "val": 4}, "f" * 64)
HERE = (Slot("cpu", {DEVICE: "cpu"}),)


def trial(root: Path, module: str = "hmha", **changes: Any) -> Trial:
    content = asdict(Config()) | {"root": str(root), "data": {"name": "mine", "path": "mine.yaml"}}
    content["module"] = option_file("module", module)
    return Trial.of(TrialSettings.from_plain({**content, **changes}), DATA)


class Slots:
    """A launch with slots on this machine, or without any."""

    def __init__(self, local: Sequence[Slot] = HERE) -> None:
        self._local = local

    def check(self, device: str) -> None: ...

    def slots(self, device: str) -> int:
        return 1

    def local_slots(self, device: str) -> Sequence[Slot]:
        return self._local

    def open_cores(self, device: str) -> int | None:
        return None

    def share(self, layout: Layout) -> None: ...

    def run(self, function: str, payloads: Sequence[Any], device: str, observer: Observer) -> None:
        pytest.fail("nothing is trained")


class Clock:
    """Stands in for the processes that measure: milliseconds of the graft, and of the stock network by its width."""

    def __init__(self, graft: float, exponent: float = 1.0, least: float = 0.0) -> None:
        self.graft, self.exponent, self.least = graft, exponent, least
        self.jobs: list[tuple[list[str], int]] = []

    def __call__(
        self, function: str, job: UntrainedJob, processes: int, console: Any, environment: Mapping[str, str]
    ) -> tuple[list[ProcessTimes], str]:
        self.jobs.append((list(job.networks), processes))
        times = {key: NetworkTimes(parts=((self._milliseconds(key),),) * 3) for key in job.networks}
        one = SettingTimes(job.settings[0], 64, 0, None, "", "", None, (), times)
        return [ProcessTimes({"device": "cpu", "device_name": "a processor", "threads": 1}, (), (one,))] * processes, ""

    def _milliseconds(self, key: str) -> float:
        if key == "graft":
            return self.graft
        width = 0.25 if key == "stock" else float(key)
        return max(4 * (width / 0.25) ** self.exponent, 0 if key == "stock" else self.least)


@pytest.fixture(autouse=True)
def _networks_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_matches, "preflight", lambda trials: None)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(graft=5.0)
    monkeypatch.setattr(latency_matches, "in_processes", clock)
    return clock


def matcher(*, measuring: bool = True, local: Sequence[Slot] = HERE) -> LatencyMatcher:
    return LatencyMatcher(Slots(local), measuring, Terminal(stderr=True))


def test_the_width_that_is_as_slow_is_measured_once_for_all_seeds_and_read_ever_after(
    tmp_path: Path, clock: Clock
) -> None:
    trials = [trial(tmp_path, seed=seed) for seed in (0, 1)]
    first = matcher()(trials)
    measured = len(clock.jobs)
    again = matcher()(trials)
    elsewhere = matcher(measuring=False)(trials)

    assert {found.settings.model.name for found in first.values()} == {"yolo26n-width0.3125"}
    assert [first[one.identity.signature].settings.seed for one in trials] == [0, 1]
    assert first[trials[0].identity.signature].ratio.ratio == 1.0
    assert first == again == elsewhere
    assert len(clock.jobs) == measured <= 6
    assert all(keys[:2] == ["graft", "stock"] for keys, _ in clock.jobs)  # interleaved in every measurement
    assert clock.jobs[-1][1] == 6  # the match itself is measured as the sweep's latencies are


def test_a_plan_measures_nothing_and_says_what_must_be_measured(tmp_path: Path, clock: Clock) -> None:
    plan = matcher(measuring=False)

    assert plan([trial(tmp_path)]) == {}
    assert clock.jobs == []
    assert list(tmp_path.iterdir()) == []
    (note,) = plan.notes
    assert "hmha@c3k2" in note
    assert re.search(r"about \d min", note)
    assert "plan --measure" in note


@pytest.mark.parametrize(
    ("clock_of", "words"),
    [
        (Clock(graft=4.0), "it is 1.00 (no CI) times as slow as the stock network: none is needed"),
        (Clock(graft=3.0), "it is 0.75"),
        (Clock(graft=4.2, least=5.0), "the stock network itself is nearest: it is 0.95 times as slow as the graft"),
        (Clock(graft=40.0), "no width up to 0.75 is as slow"),
    ],
)
def test_a_graft_without_a_match_has_a_reason_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock_of: Clock, words: str
) -> None:
    monkeypatch.setattr(latency_matches, "in_processes", clock_of)
    run = matcher()
    assert run([trial(tmp_path)]) == {}
    measured = len(clock_of.jobs)
    plan = matcher(measuring=False)
    assert plan([trial(tmp_path)]) == {}

    assert run.notes == plan.notes
    assert "hmha@c3k2 has no control of latency" in run.notes[0]
    assert words in run.notes[0]
    assert len(clock_of.jobs) == measured


def test_where_the_trials_run_elsewhere_nothing_is_measured_and_it_is_said_what_to_do(
    tmp_path: Path, clock: Clock
) -> None:
    with pytest.raises(ConfigError, match=r"plan --measure") as refused:
        matcher(local=())([trial(tmp_path)])
    assert "\n" not in str(refused.value)
    assert clock.jobs == []

    here = matcher()([trial(tmp_path, device="cpu")])
    assert matcher(local=())([trial(tmp_path, device="cpu")]) == here  # measured on a node, used by the cluster


def test_a_damaged_match_is_read_from_its_copy_and_measured_again_without_one(tmp_path: Path, clock: Clock) -> None:
    trials = [trial(tmp_path)]
    first = matcher()(trials)
    measured = len(clock.jobs)
    files = sorted((tmp_path / "latency_matches").glob("*.json"))
    assert len(files) == 2
    next(file for file in files if "backup" not in file.name).write_text("{", encoding="utf-8")
    assert matcher()(trials) == first
    assert len(clock.jobs) == measured
    for file in files:
        file.write_text("{}", encoding="utf-8")
    again = matcher()
    assert again(trials) == first
    assert len(clock.jobs) > measured
    assert "it is measured again" in again.notes[0]


@pytest.mark.parametrize(("by", "size"), [("width", 1e9), ("width", 0.01), ("imgsz", 0.5), ("imgsz", 1e9)])
def test_a_match_of_an_impossible_size_is_measured_again(tmp_path: Path, clock: Clock, by: str, size: float) -> None:
    trials = [trial(tmp_path)]
    first = matcher()(trials)
    for file in (tmp_path / "latency_matches").glob("*.json"):
        file.write_text(json.dumps({**json.loads(file.read_text()), "by": by, "size": size}), encoding="utf-8")

    plan = matcher(measuring=False)
    assert plan(trials) == {}
    assert "has no size of the stock network" in plan.notes[0]
    assert matcher()(trials) == first


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(tmp_path: Path, clock: Clock) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="results cannot be written there"):
        matcher()([trial(tmp_path / "file" / "root")])
    assert clock.jobs == []


def test_what_the_system_refuses_of_a_measurement_is_not_told_as_a_file_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_process(*_: Any) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(latency_matches, "in_processes", no_process)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        matcher()([trial(tmp_path)])


def test_a_match_that_cannot_be_written_is_told_by_its_file(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(latency_matches, "save_match", full)
    with pytest.raises(ConfigError, match=r"latency_matches/\w+\.json cannot be written: No space left on device"):
        matcher()([trial(tmp_path)])


def test_a_network_that_cannot_be_built_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency_matches, "in_processes", lambda *_: ([], "no network can be measured: no such place"))
    with pytest.raises(ConfigError, match=r"hmha@c3k2: latency was not measured: no network .*: no such place"):
        matcher()([trial(tmp_path)])


def test_a_size_that_one_process_could_not_measure_is_not_taken(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*job: Any) -> tuple[list[ProcessTimes], str]:
        measured, failure = clock(*job)
        (one,) = measured[-1].settings
        if len(measured) == 6:  # the last measurement
            failed = {"0.3125": NetworkTimes(reason="out of memory")}
            measured[-1] = replace(measured[-1], settings=(replace(one, networks={**one.networks, **failed}),))
        return measured, failure

    monkeypatch.setattr(latency_matches, "in_processes", measure)

    (match,) = matcher()([trial(tmp_path)]).values()

    assert match.settings.model.name != "yolo26n-width0.3125"  # as slow as the graft, where it was measured
    assert match.ratio.ratio == pytest.approx(1, abs=0.05)


def test_two_commands_measure_one_after_the_other_and_take_the_same(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trial(tmp_path)
    first = matcher()([one])
    files = sorted((tmp_path / "latency_matches").glob("*.json"))
    contents = {file: file.read_bytes() for file in files}
    for file in files:
        file.unlink()
    monkeypatch.setattr(latency_matches, "WAIT", 0.05)
    measured = len(clock.jobs)
    with ExitStack() as other:
        other.enter_context(lock(tmp_path / "latency_matches" / ".lock"))

        def other_ends() -> None:
            for file, content in contents.items():
                file.write_bytes(content)
            other.close()

        timer = threading.Timer(0.5, other_ends)
        timer.start()
        assert matcher()([one]) == first
        timer.join()
    assert len(clock.jobs) == measured


def test_a_plan_that_is_to_measure_and_has_nothing_to_measure_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["module=hmha", "train=smoke", "data.train_images=8", "data.val_images=4", "data.imgsz=64"]
    for more in ([], ["controls=[identity]"]):
        assert main(["plan", "--measure", *words, *more]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert "controls=[latency]" in line
