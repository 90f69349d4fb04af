"""What makes two trainings comparable, by pairs of records: the rule that stops early, and what older records lack."""

from __future__ import annotations

from typing import Any

import pytest
from tests.factories import decoded

from ablate.analysis.comparability import differences, disagreements, stops
from ablate.records.trial_record import TrialRecord


def trained(
    realised: dict[str, Any] | None = None, train: dict[str, Any] | None = None, metrics: dict[str, Any] | None = None
) -> TrialRecord:
    record = decoded(
        signature="1" * 64,
        status="finished",
        seed=0,
        config={"train": {"epochs": 100, "patience": 20, **(train or {})}},
        metrics={"map50_95": 0.4, "split": "val", "checkpoint": "best", **(metrics or {})},
        realised={
            **{"batch": 16, "epochs": 100, "epochs_asked": 100, "early_stop": False, "stopped_by": "epochs"},
            **{"accumulate": 4, "resumed": 0, "gpus": 1, "versions": {"torch": "2.15.0", "opencv": "5.0.0"}},
            **(realised or {}),
        },
    )
    assert isinstance(record, TrialRecord)
    return record


STOPPED = {"epochs": 61, "early_stop": True, "stopped_by": "patience"}


def test_trainings_that_one_rule_ended_at_different_epochs_are_comparable() -> None:
    assert differences([trained(STOPPED)], [trained()]) == []
    assert differences([trained(STOPPED)], [trained({**STOPPED, "epochs": 40})]) == []
    assert disagreements([trained(STOPPED), trained()]) == []


def test_where_each_stopped_is_told() -> None:
    words = stops([trained(STOPPED), trained(), trained({**STOPPED, "epochs": 40})])
    assert "2 of 3" in words
    assert "61, 40" in words
    assert stops([trained()]) == ""


def test_another_patience_is_another_rule_unless_neither_can_act() -> None:
    assert any("early stop" in reason for reason in differences([trained({}, {"patience": 5})], [trained()]))
    assert differences([trained({}, {"patience": 300})], [trained({}, {"patience": 100})]) == []


def test_another_number_of_epochs_that_were_to_be_trained_is_flagged_although_patience_ended_both_alike() -> None:
    longer = trained({**STOPPED, "epochs_asked": 200}, {"epochs": 200})
    assert differences([longer], [trained(STOPPED)]) == ["epochs 200 (baseline 100)"]


def test_a_training_that_ended_otherwise_is_not_covered_by_the_rule() -> None:
    assert any("epochs 50" in reason for reason in differences([trained({"epochs": 50})], [trained()]))


@pytest.mark.parametrize(
    ("realised", "metrics", "words"),
    [
        ({"accumulate": 2}, {}, "gradient accumulation 2 (baseline 4)"),
        ({"resumed": 1, "resume_exact": False}, {}, "inexact resume on (baseline off)"),
        ({"gpus": 2}, {}, "GPUs 2 (baseline 1)"),
        ({}, {"split": "test"}, "evaluation split test (baseline val)"),
        ({}, {"checkpoint": "last"}, "judged checkpoint last (baseline best)"),
        ({"versions": {"torch": "2.15.0", "opencv": "4.12.0"}}, {}, "opencv version 4.12.0 (baseline 5.0.0)"),
        (
            {"versions": {"torch": "2.15.0", "opencv": "5.0.0", "albumentations": "2.0.8"}},
            {},
            "albumentations version 2.0.8 (baseline not recorded)",
        ),
    ],
)
def test_each_of_what_changes_a_result_is_compared(
    realised: dict[str, Any], metrics: dict[str, Any], words: str
) -> None:
    assert differences([trained(realised, metrics=metrics)], [trained()]) == [words]


def test_an_exact_resume_is_no_difference() -> None:
    assert differences([trained({"resumed": 1, "resume_exact": True})], [trained()]) == []


@pytest.mark.parametrize(
    "older",
    [{"accumulate": None}, {"resumed": None}, {"gpus": None}, {"versions": {"torch": "2.15.0"}}],
    ids=lambda older: next(iter(older)),
)
def test_an_older_record_without_it_is_not_flagged(older: dict[str, Any]) -> None:
    assert differences([trained()], [trained(older)]) == []
