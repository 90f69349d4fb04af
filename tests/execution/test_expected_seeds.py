"""A plan with `until=decided` says how many seeds it will probably take, from the spread of records on disk."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from tests.fixtures.comparisons import digest
from tests.fixtures.planted_sweeps import TINY, Machine, Ran

from ablate.analysis.spread_on_disk import spread_on_disk
from ablate.cli.hydra_bridge import run
from ablate.execution import plan as planning
from ablate.preflight.networks import Preflight, preflight
from ablate.records import comparable_records as comparable
from ablate.records.comparable_records import comparable_records
from ablate.records.loading import load_record
from ablate.storage.layout import OutputFolder
from ablate.study.trial import Trial

PLAN = ["module=acmix,sta", "until=decided", "probe=false", *TINY, "-m"]
Planned = Callable[..., Any]

_built: dict[str, Preflight] = {}


@pytest.fixture
def planned(builds_here: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Planned:
    """Plan a command where `swept` ran; return what it says of seeds, as JSON or in words."""

    def once(trials: list[Trial], **options: Any) -> Preflight:
        key = " ".join(sorted({trial.identity.variant_key for trial in trials}))
        if key not in _built:
            _built[key] = preflight(trials, **options)
        return _built[key]

    monkeypatch.setattr(planning, "preflight", once)

    def plan(*words: str, as_json: bool = True) -> Any:
        capsys.readouterr()
        assert run([*PLAN[:-1], *words, "-m"], plan=True, as_json=as_json) == 0
        out = capsys.readouterr().out
        return json.loads(out)["expected_seeds"] if as_json else out

    return plan


def test_pairs_on_disk_say_how_many_seeds_differences_of_zero_and_of_the_margin_take(
    swept: Ran, planned: Planned
) -> None:
    swept(Machine(), "module=sta", "seed=range(0,4)", *TINY, "-m")

    found = planned("delta=0.02", "budget=8h")

    (group,) = found["groups"]
    assert group["paired"]
    assert group["from"] == ["sta@head musgd"]
    assert group["spread"]["differences"] == 4
    assert 0.002 < group["spread"]["std"] < group["spread"]["upper"] < 0.02  # planted: 0.006
    assert [one["difference"] for one in group["scenarios"]] == pytest.approx([0.0, 0.02, 0.04])
    nothing, margin, twice = (one["seeds"] for one in group["scenarios"])
    assert 3 <= twice < min(nothing, margin) <= max(nothing, margin) <= 12
    trials = found["trials"]
    assert 3 * 3 <= trials["low"] <= trials["likely"] <= trials["high"] <= 3 * 12
    assert found["done"] == 7  # three seeds decide sta: its fourth is none of this sweep
    low, likely, high = found["seconds"]
    assert likely == pytest.approx((trials["likely"] - 7) * 300)  # each recorded trial took five minutes
    assert low < likely < high

    words = planned("delta=0.02", "budget=8h", as_json=False)
    assert "the margin" in words
    assert "the budget of 8 h 0 min is enough" in words
    assert "is probably too short" in planned("delta=0.02", "budget=30m", as_json=False)


def test_the_trials_that_are_done_are_all_counted_however_few_records_are_read(
    swept: Ran, planned: Planned, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparable, "MOST", 2)
    swept(Machine(), "module=sta,acmix", "seed=range(0,4)", *TINY, "-m")
    assert planned()["done"] == 4 + 3 + 4  # of the baseline, sta, acmix


def test_the_declaration_is_a_line_of_the_plan(swept: Ran, planned: Planned) -> None:
    words = planned("delta=0.02", "metric=map50", "max_seeds=20", "budget=8h", as_json=False)
    declared = "metric=map50, judge=best, delta=0.02 (2.00 points), until=decided max_seeds=20 seed=0, budget 8 h 0 min"
    assert f"analysis: {declared}" in words


def test_the_declaration_is_in_the_plan_as_json(
    swept: Ran, planned: Planned, capsys: pytest.CaptureFixture[str]
) -> None:
    swept(Machine(), "module=sta", "judge=last", *TINY, "-m")
    planned()
    capsys.readouterr()
    assert run(["module=sta", "sweep=other", "delta=0.02", "probe=false", *TINY, "-m"], plan=True, as_json=True) == 0
    plan = json.loads(capsys.readouterr().out)
    assert plan["analysis"] == {"metric": "map50_95", "judge": "best", "delta": 0.02, "until": None}
    (late,) = plan["late"]
    assert late["words"] == ["judge=best", "delta=0.02"]
    assert late["trials"] == 1


def test_a_plan_says_that_looks_were_made_before(swept: Ran, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["module=sta", *TINY]
    swept(Machine(), *words, "until=decided", "-m")
    capsys.readouterr()
    assert run(["probe=false", *words, "seed=range(0,12)", "-m"], plan=True) == 0
    assert "20 % false alarms" in capsys.readouterr().out


def test_seeds_of_the_baseline_alone_are_taken_as_if_seeds_were_not_paired(swept: Ran, planned: Planned) -> None:
    swept(Machine(), "module=none", "seed=range(0,3)", *TINY, "-m")
    (group,) = planned("delta=0.02")["groups"]
    assert not group["paired"]
    assert group["spread"]["differences"] == 3
    accuracies = [0.4 + np.random.default_rng(seed).normal(0, 0.02) for seed in range(3)]
    assert group["spread"]["std"] == pytest.approx(np.sqrt(2) * np.std(accuracies, ddof=1))


def test_without_a_record_that_fits_it_says_what_would_tell(swept: Ran, planned: Planned) -> None:
    swept(Machine(), "module=none", "seed=range(0,3)", "train.epochs=7", *TINY, "-m")
    found = planned("delta=0.02")
    assert found["trials"] is None
    assert found["groups"][0]["spread"] is None
    (line,) = [line for line in planned("delta=0.02", as_json=False).splitlines() if "is not known" in line]
    assert "module=none 'seed=range(0,3)'" in line


def test_two_seeds_of_one_variant_are_too_few(swept: Ran, planned: Planned) -> None:
    swept(Machine(), "module=sta", "seed=range(0,2)", *TINY, "-m")
    assert planned("delta=0.02")["groups"][0]["spread"] is None


def test_output_folders_beside_the_commands_are_searched(swept: Ran, planned: Planned) -> None:
    swept(Machine(), "module=sta", "seed=range(0,3)", *TINY[:-1], "root=other", "-m")
    found = planned("delta=0.02")
    assert found["groups"][0]["from"] == ["sta@head musgd"]
    assert found["done"] == 0  # they are trained again in the command's own folder
    assert found["seconds"][1] == pytest.approx(found["trials"]["likely"] * 300)


def test_without_a_margin_differences_are_multiples_of_the_spread(swept: Ran, planned: Planned) -> None:
    swept(Machine(), "module=sta", "seed=range(0,4)", *TINY, "-m")
    (group,) = planned("max_seeds=6")["groups"]
    assert [one["difference"] / group["spread"]["upper"] for one in group["scenarios"]] == pytest.approx([0, 1, 2])
    assert group["scenarios"][0]["seeds"] > 5.8  # nothing decides that nothing differs
    assert group["suffices"] > 6


def test_identical_variants_and_records_of_other_settings_are_no_spread(swept: Ran, tmp_path: Path) -> None:
    swept(Machine(), "module=sta", "controls=[identity]", "seed=range(0,4)", *TINY, "-m")
    root = tmp_path / "here" / "multirun"
    records = [load_record(folder.path) for folder in OutputFolder(root).trial_folders()]
    found = spread_on_disk(records)
    assert found is not None
    assert found.spread.variants == 1
    assert found.variants == ("sta@head musgd",)
    changed = [
        record
        if record.factors["module"] == "none"
        else msgspec.structs.replace(record, realised=msgspec.structs.replace(record.realised, batch=7))
        for record in records
    ]
    unpaired = spread_on_disk(changed)  # trained otherwise than their baseline: no pairs
    assert unpaired is not None
    assert not unpaired.is_paired


def test_a_thousand_records_are_searched_quickly(swept: Ran, tmp_path: Path) -> None:
    swept(Machine(), "module=sta", "seed=range(0,4)", *TINY, "-m")
    root = tmp_path / "here" / "multirun"
    folder = next(OutputFolder(root).trial_folders())
    record, text = load_record(folder.path), folder.result.read_text(encoding="utf-8")
    text = text.replace(record.comparison_key, digest(1, digits=16))
    for number in range(1000):
        other = OutputFolder(root).trial(digest(number))
        other.path.mkdir()
        other.result.write_text(text.replace(record.signature, other.signature), encoding="utf-8")
    started = time.process_time()
    assert len(comparable_records(root, {record.comparison_key})) == 8
    assert time.process_time() - started < 2
