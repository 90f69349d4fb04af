"""A metric is declared before the results: afterwards the same sweep takes no other one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.execution.test_plan import trial as make_trial

from ablate.errors import ConfigError
from ablate.execution.manifest import open_sweep, sweep_name
from ablate.records.loading import load_manifest
from ablate.records.sweep_record import AnalysisPlan
from ablate.study.trial import Trial


def by(trial: Trial, metric: str) -> Trial:
    return replace(trial, settings=replace(trial.settings, command=replace(trial.settings.command, metric=metric)))


def test_the_manifest_has_the_metric_and_another_one_is_another_declaration_as_long_as_nothing_is_known(
    tmp_path: Path,
) -> None:
    trial = make_trial(tmp_path, "none")
    folder = open_sweep([by(trial, "map50")], ["module=none"])
    assert load_manifest(folder).analysis.metric == "map50"
    open_sweep([trial], ["module=none"])
    assert load_manifest(folder).analysis.metric == "map50_95"


def test_a_sweep_with_results_takes_no_other_metric(tmp_path: Path) -> None:
    trial = make_trial(tmp_path, "none")
    folder = open_sweep([trial], ["module=none"])
    result = folder.trial(trial.identity.signature).result
    result.parent.mkdir(parents=True)
    result.write_text("{}", encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        open_sweep([by(trial, "map50")], ["module=none"])

    message = str(caught.value)
    assert "metric=map50_95 and has results" in message
    assert f"report {folder.path.name} metric=map50" in message
    assert "\n" not in message
    assert load_manifest(folder).analysis.metric == "map50_95"
    open_sweep([trial], ["module=none"])


def test_trials_are_the_same_whatever_they_are_compared_by(tmp_path: Path) -> None:
    trial = make_trial(tmp_path, "none")
    assert Trial.of(by(trial, "recall").settings, trial.data).identity == trial.identity


def test_a_sweep_whose_seeds_are_added_has_its_old_name_and_another_one_by_another_metric() -> None:
    factors = {"module": "hmha", "insertion": "c3k2", "optimizer": "sgd", "model": "yolo26n", "data": "shapes"}
    trials: Any = [SimpleNamespace(identity=SimpleNamespace(signature="ab" * 32, factors=factors))]
    plan = AnalysisPlan(delta=0.02, until="decided", max_seeds=6, budget=60.0, tests=2)
    other = AnalysisPlan(delta=0.02, until="decided", max_seeds=6, budget=60.0, tests=2, metric="map50")
    assert sweep_name(trials, plan=plan) == "hmha_shapes_yolo26n_3da873"
    assert sweep_name(trials, plan=other) != sweep_name(trials, plan=plan)
