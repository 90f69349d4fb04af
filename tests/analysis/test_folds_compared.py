"""What a report says of a cross-validation: trials of two variants are paired by seed and fold."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.analysis.comparison import Comparison, compare
from ablate.records.loading import load_sweep
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
