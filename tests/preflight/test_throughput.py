"""How many trials run at a time is measured once, and then known."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.execution.test_plan import trial as make_trial

from ablate.data.cache import cache_dir
from ablate.launching.sharing import Layout, Throughput
from ablate.preflight import throughput
from ablate.preflight.result_cache import Cache
from ablate.preflight.throughput import cache_key, decide, measured_trial
from ablate.study.trial import Trial

SPEEDS = {(1, 1): 25.0, (1, 2): 30.0, (2, 1): 48.0, (1, 4): 40.0, (2, 2): 60.0, (4, 1): 90.0}


class Machine:
    """A measurement with given results; it notes what was measured."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.asked: list[tuple[int, int]] = []
        self.others = 0.0
        self.memory_gb = 100.0
        self.failing: str | None = None
        monkeypatch.setattr(throughput, "Cache", lambda name, kind: _Cache(folder, name, kind))
        monkeypatch.setattr(throughput, "Neighbours", lambda: self)
        monkeypatch.setattr(throughput, "available_memory_gb", lambda: self.memory_gb)
        monkeypatch.setattr(throughput, "LocalBackend", lambda slots: _Nowhere())
        monkeypatch.setattr(throughput, "_warm_up", lambda backend: None)
        monkeypatch.setattr(throughput, "_side_by_side", self._measure)
        monkeypatch.setattr(throughput, "_summed", lambda layout, results: results[0])

    def cores(self) -> float:
        return self.others

    def _measure(self, backend: Any, trial: Trial, layout: Layout, work: Path) -> list[Any]:
        self.asked.append((layout.trials, layout.threads))
        if self.failing:
            return [throughput.Outcome(failure="code", message=self.failing)]
        speed = SPEEDS[layout.trials, layout.threads]
        return [throughput.Outcome(result=Throughput(layout, speed, 16 * layout.trials / speed, memory_gb=2.0))]


class _Cache(Cache[Any]):
    def __init__(self, folder: Path, name: str, kind: type[Any]) -> None:
        super().__init__(name, kind)
        self._folder = folder / name


class _Nowhere:
    def __enter__(self) -> _Nowhere:
        return self

    def __exit__(self, *exception: object) -> None:
        pass


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Machine:
    return Machine(monkeypatch, tmp_path)


@pytest.fixture
def trials(tmp_path: Path) -> Callable[..., Sequence[Trial]]:
    def make(count: int = 4, epochs: int = 10_000, **train: Any) -> Sequence[Trial]:
        return [make_trial(tmp_path, seed=seed, train={"epochs": epochs, **train}) for seed in range(count)]

    return make


def test_it_is_measured_once_and_then_read_from_the_cache(machine: Machine, trials: Any) -> None:
    first = decide(trials(), 2)
    again = decide(trials(count=7), 2)

    assert machine.asked == [(1, 2), (2, 1)]
    assert first == again
    assert first.layout == Layout(2, 1)
    assert [found.images_per_second for found in first.measured] == [30.0, 48.0]


def test_what_was_measured_for_many_trials_serves_one_too(machine: Machine, trials: Any) -> None:
    decide(trials(), 2)
    alone = decide(trials(count=1), 2)

    assert alone.layout == Layout(1, 2)
    assert machine.asked == [(1, 2), (2, 1), (1, 1)], "a layout is measured once"


@pytest.mark.parametrize("change", [{"imgsz": 96}, {"batch": 8}])
def test_another_image_size_or_batch_is_measured_anew(machine: Machine, trials: Any, change: dict[str, int]) -> None:
    decide(trials(), 2)
    decide(trials(**change), 2)

    assert machine.asked == [(1, 2), (2, 1)] * 2


def test_the_key_tells_machines_networks_and_optimizers_apart(
    machine: Machine, trials: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = trials()[0]
    key = cache_key(one, 2)

    assert cache_key(trials(epochs=77)[3], 2) == key, "neither seed nor epochs matter"
    assert cache_key(one, 4) != key
    assert cache_key(make_trial(tmp_path, "sta"), 2) != key
    sgd = replace(one.settings, optimizer=replace(one.settings.optimizer, name="SGD"))
    assert cache_key(replace(one, settings=sgd), 2) != key
    for name, found in (("device_name", lambda device: "another"), ("instruction_sets", lambda: ("avx512_bf16",))):
        with monkeypatch.context() as patch:
            patch.setattr(throughput, name, found)
            assert cache_key(one, 2) != key, name


def test_a_neighbours_load_is_not_kept_as_the_machines_truth(machine: Machine, trials: Any) -> None:
    machine.others = 1.0
    beside = decide(trials(), 2)
    machine.others = 0.0
    quiet = decide(trials(), 2)
    decide(trials(), 2)

    assert machine.asked == [(1, 2), (2, 1)] * 2
    assert (beside.others, quiet.others) == (1.0, 0.0)
    assert "1.0 cores" in beside.reason


def test_no_further_layout_is_measured_once_it_gets_no_better(machine: Machine, trials: Any) -> None:
    found = decide(trials(), 4)

    assert found.layout == Layout(4, 1)
    assert machine.asked == [(1, 4), (4, 1), (2, 2)]


def test_layouts_that_do_not_fit_into_the_memory_are_not_tried(machine: Machine, trials: Any) -> None:
    machine.memory_gb = 5.5
    found = decide(trials(), 4)

    assert machine.asked == [(1, 4), (2, 2)]
    assert found.layout == Layout(2, 2)


def test_a_short_sweep_is_not_measured(machine: Machine, trials: Any) -> None:
    found = decide(trials(epochs=1), 2)

    assert machine.asked == []
    assert found.layout == Layout(2, 1)
    assert found.chosen is None


def test_a_plan_without_a_probe_measures_nothing_but_knows_what_was_measured(machine: Machine, trials: Any) -> None:
    before = decide(trials(), 2, measuring=False)
    decide(trials(), 2)
    after = decide(trials(), 2, measuring=False)

    assert machine.asked == [(1, 2), (2, 1)]
    assert (before.chosen, after.chosen) == (None, after.measured[1])


def test_a_measurement_that_fails_costs_the_choice_only(machine: Machine, trials: Any) -> None:
    machine.failing = "RuntimeError: the module is broken"
    found = decide(trials(), 2)

    assert machine.asked == [(1, 2)]
    assert "the module is broken" in found.reason


def test_the_baseline_at_the_largest_images_stands_for_all(trials: Any, tmp_path: Path) -> None:
    graft = make_trial(tmp_path, "sta", train={"imgsz": 128})
    small, large = trials(count=1)[0], trials(count=1, imgsz=96)[0]

    assert measured_trial([graft, small, large]) is large


def test_real_processes_meet_and_are_measured(trials: Any, tmp_path: Path) -> None:
    found, problem = throughput._measure(trials()[0], [], [Layout(1, 2), Layout(2, 1)], 100.0)

    assert problem == ""
    assert [each.layout for each in found] == [Layout(1, 2), Layout(2, 1)]
    for each in found:
        assert each.images_per_second == pytest.approx(4 * each.layout.trials / each.step_seconds, rel=1.0)
        assert 0 < each.optimizer_share < 1
        assert each.memory_gb is None or 0.1 < each.memory_gb < 10
    assert not list(cache_dir().glob(".probe-*"))
