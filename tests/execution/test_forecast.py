"""Before the first trial starts a sweep says how it shares the cores, and how long it will take."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tests.execution.test_plan import trial as make_trial

from ablate.execution.forecast import Forecast, announce_forecast
from ablate.execution.launch import Launch
from ablate.execution.reconcile import Job
from ablate.launching.devices import Slot, make_slots
from ablate.launching.sharing import Layout, Sharing, Throughput
from ablate.monitor.render import duration
from ablate.monitor.time_left import Announcer
from ablate.preflight import throughput
from ablate.preflight.estimate import expected_seconds, rough_throughput
from ablate.preflight.network_answer import NetworkCost
from ablate.settings.environment import CPU_THREADS
from hydra_plugins.ablate_plugins.launcher import LocalLauncher

COST = NetworkCost(params=2_400_000, params_train=3_000_000, gflops=0.05, gflops_ultralytics=None)
STEPS = Throughput(Layout(2, 1), 40.0, 0.2, optimizer_share=0.25, setup_seconds=2.0)

Say = Callable[..., tuple[Forecast, list[str]]]


class Here(LocalLauncher):
    """This machine, without a GPU and with two cores."""

    def local_slots(self, device: str) -> list[Slot]:
        return make_slots(device="cpu", cores=2, layout=self._layout, visible=[])


@pytest.fixture
def say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Say:
    """Say the forecast of three trials, given what is measured; return it and its lines."""
    for name in (CPU_THREADS, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)

    def run(measured: Throughput | None = None, sizes: Sequence[float] = (1.0, 1.0, 1.0), **train: Any) -> Any:
        def decide(trials: Any, cores: int, *, measuring: bool, before: Callable[[Sharing], None]) -> Sharing:
            before(Sharing(Layout(2, 1), "assumed"))
            return Sharing(Layout(2, 1), "a reason", measured, others=0.9)

        monkeypatch.setattr(throughput, "decide", decide)
        trials = [make_trial(tmp_path, module, train=train) for module in ("none", "sta", "hmha")]
        costs = {
            trial.identity.variant_key: replace(COST, gflops=COST.gflops * size)
            for trial, size in zip(trials, sizes, strict=True)
        }
        out = io.StringIO()
        found = announce_forecast(Console(file=out, width=500), [Job(trial) for trial in trials], launch(), costs)
        return found, out.getvalue().splitlines()

    return run


def launch() -> Launch:
    return Here()


def test_the_time_follows_from_measured_steps_and_the_sizes_of_the_networks(say: Say, tmp_path: Path) -> None:
    found, lines = say(STEPS, (1.0, 2.0, 3.0), epochs=100)
    seconds = list(found.seconds.values())
    baseline = expected_seconds(make_trial(tmp_path, train={"epochs": 100}), STEPS)

    assert seconds[0] == pytest.approx(baseline)
    assert seconds[0] < seconds[1] < seconds[2] < 3 * seconds[0], "neither the optimizer nor the start grows with it"
    assert found.total == pytest.approx(max(seconds[0] + seconds[2], seconds[1])), "the first slot that is free"
    assert not found.rough
    assert lines[-2] == "2 trials at a time with 1 thread each: a reason"
    assert found.total is not None
    assert lines[-1] == f"about {duration(found.total)}: 3 trials, 2 at a time"


def test_something_is_said_before_the_measurement(say: Say) -> None:
    _, lines = say(STEPS, epochs=100)

    assert lines[0].startswith("roughly ")


def test_without_a_measurement_the_flops_tell_roughly(say: Say) -> None:
    found, lines = say(None, epochs=100)

    assert found.rough
    assert lines[-1].startswith("roughly ")
    assert rough_throughput(make_trial(Path("/none")), COST).step_seconds == pytest.approx(
        3 * 0.05 * 4 / 18 + 0.15, rel=0.01
    )


def test_more_than_an_hour_says_why(say: Say) -> None:
    slow = Throughput(Layout(2, 1), 1.0, 8.0, optimizer_share=0.9)
    found, lines = say(slow, epochs=2000)

    assert found.total is not None
    assert found.total > 3600
    assert "90%" in lines[-1], "the optimizer's share of a step"
    assert "0.9 of" in lines[-1], "what others took"
    assert "64 px" in lines[-1]
    assert say(STEPS, epochs=10)[1][-1].startswith("about")


def test_the_launcher_takes_the_choice_and_a_number_that_is_given_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (CPU_THREADS, "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    ours = Here()
    assert ours.open_cores("cpu") is not None
    ours.share(Layout(2, 1))
    assert [slot.environment["OMP_NUM_THREADS"] for slot in ours.local_slots("cpu")] == ["1", "1"]
    assert ours.slots("cpu") == 2

    assert Here(cpu_workers=2).open_cores("cpu") is None
    for name in (CPU_THREADS, "OMP_NUM_THREADS"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "3")
            assert Here().open_cores("cpu") is None, name


def test_gpus_leave_nothing_to_choose(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CPU_THREADS, raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("ablate.launching.devices.visible_gpus", lambda: ["0"])

    assert LocalLauncher().open_cores("auto") is None
    assert LocalLauncher().open_cores("cpu") is not None


def test_a_rough_estimate_is_corrected_sooner_than_a_measured_one() -> None:
    assert Announcer(100.0, rough=True).due(20.0, 200.0) == "changed"
    assert Announcer(100.0).due(20.0, 200.0) == ""
    assert Announcer(100.0).due(70.0, 200.0) == "changed"
    assert Announcer(100.0).due(70.0, 40.0) == ""
