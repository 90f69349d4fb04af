"""Of equally good variants the noisier one has the better best epoch; the other judges are not taken in."""

from __future__ import annotations

import numpy as np
import pytest
from simulated.selection import JUDGES, Curves, accuracy, bias

from ablate.records.judged import cross_judged, mean_of_last
from ablate.records.metrics import EpochRow


@pytest.mark.parametrize("judge", JUDGES)
def test_only_the_best_epoch_favours_the_noisier_curve(judge: str) -> None:
    result = bias(np.random.default_rng(4), 400, 5, judge)
    if judge == "best":
        assert 0.3 < result.points < 0.7
        assert result.false_alarms > 0.2
    else:
        assert abs(result.points) < 3.5 * result.error
        assert result.false_alarms < 0.09


def test_halves_of_single_frames_of_clips_favour_the_noisier_curve_too_and_those_of_whole_clips_do_not() -> None:
    of_frames = bias(np.random.default_rng(4), 400, 5, "split", Curves.of_clips())
    assert of_frames.points > 0.3
    assert of_frames.false_alarms > 0.2
    of_clips = bias(np.random.default_rng(4), 400, 5, "split")
    assert abs(of_clips.points) < 3.5 * of_clips.error


def test_the_simulation_judges_as_reports_do() -> None:
    halves = np.round(np.random.default_rng(3).random((20, 12, 2)), 1)  # with equal ones
    for trial in range(20):
        rows = [
            EpochRow({"epoch": e + 1, "map50_95": one.mean(), "map50_95/half1": one[0], "map50_95/half2": one[1]})
            for e, one in enumerate(halves[trial])
        ]
        assert accuracy(halves, "split")[trial] == pytest.approx(cross_judged(rows).map50_95)
        assert accuracy(halves, "mean_last_5")[trial] == pytest.approx(mean_of_last(rows, 5).map50_95)
