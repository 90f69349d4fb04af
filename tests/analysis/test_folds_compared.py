"""What a report says of a cross-validation: trials of two variants are paired by seed and fold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.factories import make_record

from ablate.analysis.comparability import differences, disagreements
from ablate.analysis.comparison import Comparison, compare
from ablate.analysis.table import trial_frame, trial_rows
from ablate.records.loading import load_sweep
from ablate.records.trial_record import TrialRecord, decode_record
from ablate.report.captions import accuracy_caption
from ablate.statistics.paired import paired_t, t_interval

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
GAINS = [0.011, 0.004, 0.013, 0.007, 0.009]


@pytest.fixture
def comparison(record: Make, write: Write) -> Comparison:
    made = []
    for module in ("none", "hmha"):
        for seed in (0, 1):
            for fold, gain in enumerate(GAINS):
                trial = record(module, seed=10 * seed + fold)
                trial["metrics"]["map50_95"] = 0.3 + 0.01 * fold + (0 if module == "none" else gain + 0.002 * seed)
                trial |= {"seed": seed, "fold": fold}
                trial["config"] = {**trial["config"], "fold": {"folds": 5, "index": fold, "by_groups": False}}
                made.append(trial)
    return compare(load_sweep(write(made)))


def test_the_test_is_the_corrected_one_over_folds(comparison: Comparison) -> None:
    row = next(row for row in comparison.rows if row.module == "hmha")
    assert row.is_comparable, row.notes
    difference = row.difference
    assert difference is not None
    means = [gain + 0.001 for gain in GAINS]
    assert difference.fold_means == pytest.approx(means)
    assert difference.p_value == pytest.approx(paired_t(means, 0.25))
    assert difference.over_seeds == pytest.approx(t_interval(means, share=0.25))
    assert len(difference.replicates) == 10
    assert difference.p_holm == difference.p_value


def test_what_needs_independent_replicates_is_left_out(comparison: Comparison) -> None:
    difference = next(row.difference for row in comparison.rows if row.module == "hmha")
    assert difference is not None
    assert difference.p_sign_flip is None
    assert difference.smallest_detectable is None
    assert difference.seeds_needed is None
    assert difference.over_both is None
    assert comparison.skewness is None


def test_the_reader_is_told(comparison: Comparison) -> None:
    row = next(row for row in comparison.rows if row.module == "hmha")
    assert any("5 of 5 folds" in note for note in row.notes)
    assert "corrected resampled t-test" in accuracy_caption(comparison)


def test_trials_are_listed_by_seed_and_fold(comparison: Comparison) -> None:
    rows = trial_rows(comparison)
    assert [row.replicate for row in rows[:6]] == ["0 f0", "0 f1", "0 f2", "0 f3", "0 f4", "1 f0"]
    frame = trial_frame(comparison)
    assert list(frame["fold"][:6]) == [0, 1, 2, 3, 4, 0]
    assert list(frame["seed"][:6]) == [0, 0, 0, 0, 0, 1]


def test_without_folds_no_list_of_trials_has_a_column_of_them(record: Make, write: Write) -> None:
    comparison = compare(load_sweep(write([record("none"), record("hmha")])))
    assert [row.replicate for row in trial_rows(comparison)] == ["0", "0"]
    assert "fold" not in trial_frame(comparison)


def used(fold: int, seed: int, images: int) -> TrialRecord:
    """A trial of a fold, trained on so many images."""
    found = decode_record(make_record(signature=f"{fold}{seed}" * 32, seed=seed, fold=fold))
    realised = msgspec.structs.replace(found.realised, images={"train": images, "val": 5}, instances={})
    return msgspec.structs.replace(found, realised=realised)


def test_folds_have_other_images_and_seeds_of_one_fold_the_same() -> None:
    folds = [used(fold, seed, 20 + fold) for fold in range(2) for seed in range(2)]

    assert disagreements(folds) == []
    assert differences(folds, folds[:2]) == []  # a side may lack a fold
    assert "fold 1: train 99 images" in disagreements([*folds, used(1, 2, 99)])[0]
    assert "fold 0: train 99 images" in differences(folds, [used(0, 0, 99)])[0]
