"""Whose epochs' accuracy is compared: every number of a report is of one judge, and says whose."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.analysis.comparison import compare
from ablate.cli.report_command import report_options
from ablate.errors import ConfigError
from ablate.findings.all_findings import sentences
from ablate.records.judged import cross_judged, judged_sweep, mean_of_last
from ablate.records.loading import load_object, load_sweep
from ablate.records.metrics import EpochRow
from ablate.settings.judge import check_judge
from ablate.storage.files import atomic_write_json

Write = Callable[..., Path]


def row(epoch: int, first: float, second: float, **more: float) -> EpochRow:
    halves = {"map50_95/half1": first, "map50_95/half2": second, "map50/half1": first, "map50/half2": second}
    return EpochRow({"epoch": epoch, **halves, **more})


@pytest.fixture
def sweep(records: Callable[..., list[dict[str, Any]]], write: Write) -> Path:
    made = records()
    for number, record in enumerate(made):
        record["metrics_last"] = {**record["metrics"], "map50_95": 0.2 + number / 1000, "checkpoint": "last"}
        record["history"] = [
            {"epoch": epoch, "map50_95": 0.1 * epoch, "map50": 0.12 * epoch, "fitness": 0.1 * epoch}
            for epoch in (1, 2, 3)
        ]
    return write(made)


def declare(sweep: Path, judge: str) -> None:
    manifest = load_object(sweep / "sweep.json")
    atomic_write_json(sweep / "sweep.json", {**manifest, "analysis": {"judge": judge}})


def test_the_best_epoch_is_the_default_and_says_nothing(sweep: Path) -> None:
    comparison = compare(load_sweep(sweep))
    assert comparison.sweep.judge == "best"
    assert not any("judge=" in text for text in sentences(comparison))


def test_the_last_epoch_is_judged_everywhere_where_the_command_declared_it(sweep: Path) -> None:
    declare(sweep, "last")
    comparison = compare(load_sweep(sweep))
    for compared in comparison.rows:
        assert compared.accuracy.map50_95 == pytest.approx(compared.accuracy.last)
        assert "last" in compared.accuracy.evaluated
        if compared.difference is not None:
            assert compared.difference.estimate == pytest.approx(compared.difference.last_epoch)
    texts = [text for text in sentences(comparison) if "judge=last" in text]
    assert len(texts) == 1
    assert "after the results" not in texts[0]


def test_a_judge_that_is_chosen_after_the_results_is_told(sweep: Path) -> None:
    comparison = compare(judged_sweep(load_sweep(sweep), "last"))
    assert any("chosen after the results: the command declared judge=best" in text for text in sentences(comparison))


def test_a_mean_over_the_last_epochs_is_that_of_the_history(sweep: Path) -> None:
    comparison = compare(judged_sweep(load_sweep(sweep), "mean_last_2"))
    assert {round(r.accuracy.map50_95 or 0, 6) for r in comparison.rows} == {0.25}
    assert any("no intervals over images" in text for text in sentences(comparison))


def test_too_few_epochs_give_no_number_and_say_so(sweep: Path) -> None:
    comparison = compare(judged_sweep(load_sweep(sweep), "mean_last_4"))
    assert all(r.accuracy.map50_95 is None for r in comparison.rows)
    assert any("fewer than 4 evaluated epochs" in text for text in sentences(comparison))


def test_an_epoch_without_a_validation_gives_no_mean() -> None:
    rows = [EpochRow({"epoch": 1, "map50_95": 0.5}), EpochRow({"epoch": 2}), EpochRow({"epoch": 3, "map50_95": 0.7})]
    assert mean_of_last(rows, 2).map50_95 is None
    assert mean_of_last(rows, 1).map50_95 == 0.7


def test_an_epoch_that_is_chosen_on_one_half_is_judged_on_the_other() -> None:
    rows = [row(1, 0.5, 0.2), row(2, 0.3, 0.6), row(3, 0.1, 0.1)]
    assert cross_judged(rows).map50_95 == pytest.approx((0.2 + 0.3) / 2)
    assert cross_judged(rows).map50 == pytest.approx((0.2 + 0.3) / 2)


def test_the_last_of_equally_good_epochs_is_chosen_as_for_the_best_checkpoint() -> None:
    rows = [row(1, 0.5, 0.1), row(2, 0.5, 0.3)]
    assert cross_judged(rows).map50_95 == pytest.approx((0.3 + 0.5) / 2)


def test_a_history_without_halves_cannot_be_cross_judged(sweep: Path) -> None:
    assert cross_judged([EpochRow({"epoch": 1, "map50_95": 0.5})]).map50_95 is None
    comparison = compare(judged_sweep(load_sweep(sweep), "split"))
    assert any("older versions did not record" in text for text in sentences(comparison))


@pytest.mark.parametrize("judge", ["", "first", "mean_last_0", "mean_last_", "mean_last_5x", "Best", "best\n"])
def test_an_unknown_judge_is_an_error_that_lists_the_valid_ones(judge: str) -> None:
    with pytest.raises(ConfigError, match="mean_last_5"):
        check_judge(judge)
    with pytest.raises(ConfigError, match="mean_last_5"):
        report_options([f"judge={judge}"])


def test_a_training_that_was_validated_on_the_test_split_says_so(
    records: Callable[..., list[dict[str, Any]]], write: Write
) -> None:
    made = records()
    for record in made:
        record["metrics"]["split"] = "test"
    rows = compare(load_sweep(write(made))).rows
    assert all(any("no longer held out" in note for note in row.notes) for row in rows)
