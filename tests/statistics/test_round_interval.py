"""The interval of a median covers what it claims, also where neighbouring rounds are alike."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from statistics import median

import pytest
from simulated.round_interval import median_interval

from ablate.statistics.process_interval import quantile


def series(count: int, likeness: float, generator: random.Random) -> list[float]:
    """Skewed latencies whose logarithm is an autoregression; their true median is 10 ms."""
    state = generator.gauss(0, 1)
    found = []
    for _ in range(count):
        found.append(10 * math.exp(0.2 * state))
        state = likeness * state + math.sqrt(1 - likeness**2) * generator.gauss(0, 1)
    return found


def coverage(draw: Callable[[random.Random], list[list[float]]], times: int = 1500) -> float:
    generator = random.Random(0)
    hits = 0
    for _ in range(times):
        interval = median_interval(draw(generator)).interval
        hits += interval is None or interval.low <= 10 <= interval.high
    return hits / times


@pytest.mark.parametrize("rounds", [20, 50, 100])
def test_independent_rounds_are_covered_at_95_percent(rounds: int) -> None:
    assert 0.93 <= coverage(lambda generator: [series(rounds, 0.0, generator)]) <= 0.995


@pytest.mark.parametrize(("likeness", "least"), [(0.3, 0.92), (0.6, 0.88)])
def test_rounds_that_resemble_their_neighbours_are_covered_nearly_as_often(likeness: float, least: float) -> None:
    assert coverage(lambda generator: [series(100, likeness, generator)]) >= least


def test_an_interval_that_takes_such_rounds_for_independent_would_miss_far_more() -> None:
    generator = random.Random(0)
    misses = 0
    for _ in range(1000):
        ranked = sorted(series(100, 0.6, generator))
        misses += not ranked[39] <= 10 <= ranked[60]  # the order statistics for independent rounds
    assert misses / 1000 > 0.2


def test_two_processes_add_up() -> None:
    assert 0.93 <= coverage(lambda generator: [series(25, 0.0, generator) for _ in range(2)]) <= 0.995


def test_too_few_rounds_have_no_interval() -> None:
    assert median_interval([[3.0, 1.0, 2.0]]) == (2.0, None)


def test_equal_rounds_have_an_interval_of_no_width() -> None:
    assert median_interval([[2.0] * 30]) == (2.0, (2.0, 2.0, 2.0))


def test_the_interval_holds_its_median_and_stays_within_the_data() -> None:
    values = series(40, 0.5, random.Random(3))
    interval = median_interval([values[:20], values[20:]]).interval

    assert interval is not None
    assert interval.estimate == median(values)
    assert min(values) <= interval.low <= interval.estimate <= interval.high <= max(values)


def test_nothing_measured_is_an_error_and_not_a_number() -> None:
    with pytest.raises(ValueError, match="no value"):
        median_interval([[], []])


def test_a_quantile_is_one_of_the_values() -> None:
    assert quantile([float(value) for value in range(1, 101)], 0.95) == 95
    assert quantile([7.0], 0.95) == 7.0
    assert quantile([1.0, 2.0, 3.0], 0.95) == 3.0
