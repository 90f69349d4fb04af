"""The interval over processes covers what it claims where processes differ; that over their rounds does not."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from simulated.latency_processes import coverage_over_processes, coverage_over_rounds, round_ratios

from ablate.statistics.process_interval import mean_over_processes, process_medians, process_ratios


@pytest.mark.parametrize("between", [0.5, 2.0])
def test_processes_that_differ_are_covered_at_95_percent_and_by_intervals_over_rounds_are_not(between: float) -> None:
    ratios = round_ratios(np.random.default_rng(1), 1500, 4, 100, between, likeness=0.3)

    assert 0.93 <= coverage_over_processes(ratios).covered <= 0.97
    assert coverage_over_rounds(ratios[:600]).covered < 0.91


def test_six_processes_of_the_same_rounds_have_a_narrower_interval_than_four() -> None:
    widths = [
        coverage_over_processes(round_ratios(np.random.default_rng(1), 500, count, 100, 1.0, likeness=0.3)).width
        for count in (4, 6)
    ]

    assert widths[1] < 0.8 * widths[0]


def test_the_interval_is_student_s_on_logarithms() -> None:
    values = [1.1, 1.2, 1.4, 1.25]
    logarithms = np.log(values)
    low, high = stats.t.interval(0.95, 3, logarithms.mean(), stats.sem(logarithms))
    mean = mean_over_processes(values)

    assert mean.estimate == pytest.approx(stats.gmean(values))
    assert mean.interval == pytest.approx((mean.estimate, math.exp(low), math.exp(high)))


def test_one_process_has_no_interval() -> None:
    assert mean_over_processes([1.5]) == (pytest.approx(1.5), None)


def test_no_process_is_an_error_and_not_a_number() -> None:
    with pytest.raises(ValueError, match="positive"):
        mean_over_processes([])


def test_a_process_counts_by_its_median_over_rounds_that_have_a_time() -> None:
    assert process_medians([[3.0, math.nan, 1.0], [math.nan], [5.0]]) == (2.0, 5.0)
    assert process_ratios([[2.0, 9.0, 4.0], [3.0]], [[1.0, 9.0, 2.0], [2.0]]) == (2.0, 1.5)
