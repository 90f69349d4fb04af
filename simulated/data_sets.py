"""Variants over simulated data sets: do means, predictions and ranks say what is true?

Used by `benchmarks/coverage_data_sets.py` (at length) and tests/statistics/test_random_effects.py (in short). What is
judged comes as an argument, so that wrong formulas can be tried too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, LEVEL, t_interval
from ablate.statistics.random_effects import prediction
from ablate.statistics.ranks import ranks

NOISE = 0.008  # standard deviation of a paired difference over seeds, on a typical data set
UNEQUAL = 0.5  # standard deviation of its logarithm over data sets

MakeInterval = Callable[["Differences"], Interval | None]


@dataclass(frozen=True)
class Differences:
    """A variant's paired differences on k data sets with n seeds each, (k, n).

    `truth` is the mean over all data sets there are, `following` the true difference on the next one, and `measured`
    what as many seeds show of it.
    """

    by_seed: np.ndarray
    truth: float
    following: float
    measured: float

    @property
    def means(self) -> list[float]:
        """Mean of each data set, (k,)."""
        means: list[float] = self.by_seed.mean(axis=1).tolist()
        return means

    @property
    def variances(self) -> np.ndarray:
        """Squared standard error of each mean, (k,)."""
        squares: np.ndarray = self.by_seed.var(axis=1, ddof=1) / self.by_seed.shape[1]
        return squares


def draw(random: np.random.Generator, data_sets: int, seeds: int, between: float, truth: float = 0.0) -> Differences:
    """Differences whose true values vary by `between` (standard deviation) from data set to data set."""
    spread = NOISE * np.exp(random.normal(0, UNEQUAL, data_sets + 1))
    true = truth + random.normal(0, between, data_sets + 1)
    values = true[:, None] + spread[:, None] * random.normal(size=(data_sets + 1, seeds))
    return Differences(values[:-1], truth, float(true[-1]), float(values[-1].mean()))


def of_means(one: Differences) -> Interval | None:
    """The interval of the report."""
    return t_interval(one.means)


def fixed_effect(one: Differences) -> Interval:
    """Wrong where data sets differ: weights by precision, and no variance between data sets."""
    weights = 1 / one.variances
    mean = float(weights @ one.means / weights.sum())
    reach = float(special.ndtri(0.5 + LEVEL / 2) / np.sqrt(weights.sum()))
    return Interval(mean, mean - reach, mean + reach)


def all_trials(one: Differences) -> Interval | None:
    """Wrong where data sets differ: trials of all data sets as if they were independent."""
    return t_interval(one.by_seed.ravel().tolist())


def weighted_hartung_knapp(one: Differences) -> Interval:
    """Wrong with few seeds: Paule and Mandel's variance, weights by precision, Hartung and Knapp's interval."""
    means, variances = np.array(one.means), one.variances
    low, high = 0.0, 4 * float(means.var(ddof=1) + variances.max())

    def excess(between: float) -> tuple[float, np.ndarray, float]:
        weights = 1 / (variances + between)
        mean = float(weights @ means / weights.sum())
        return float(weights @ (means - mean) ** 2), weights, mean

    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle)[0] > len(means) - 1 else (low, middle)
    total, weights, mean = excess(high if low > 0 else 0.0)
    error = np.sqrt(total / (len(means) - 1) / weights.sum())
    reach = float(special.stdtrit(len(means) - 1, 0.5 + LEVEL / 2) * error)
    return Interval(mean, mean - reach, mean + reach)


def coverage(
    random: np.random.Generator,
    count: int,
    data_sets: int,
    seeds: int,
    between: float,
    interval: MakeInterval = of_means,
) -> float:
    """How often an interval holds the true mean over data sets."""
    held = 0
    for _ in range(count):
        one = draw(random, data_sets, seeds, between)
        found = interval(one)
        held += found is not None and found.low <= one.truth <= found.high
    return held / count


def prediction_coverage(
    random: np.random.Generator, count: int, data_sets: int, seeds: int, between: float
) -> dict[str, float]:
    """How often the prediction interval holds the "measured" and the "true" difference on the next data set."""
    held = {"measured": 0, "true": 0}
    for _ in range(count):
        one = draw(random, data_sets, seeds, between)
        found = prediction(one.means)
        if found is not None:
            held["measured"] += found.interval.low <= one.measured <= found.interval.high
            held["true"] += found.interval.low <= one.following <= found.interval.high
    return {name: times / count for name, times in held.items()}


@dataclass(frozen=True)
class Calibration:
    """Cases in which a probability within a range was said: its mean, how often it came true, and how many they are."""

    said: float
    came_true: float
    cases: int


def calibration(
    random: np.random.Generator, count: int, data_sets: int, seeds: int, between: float, truths: float,
    low: float, high: float,
) -> Calibration:  # fmt: skip
    """Whether the next data set is better as often as is said, over variants whose true means vary by `truths`."""
    said, hits = [], []
    for _ in range(count):
        one = draw(random, data_sets, seeds, between, float(random.normal(0, truths)))
        found = prediction(one.means)
        if found is not None and low <= found.higher < high:
            said.append(found.higher)
            hits.append(one.measured > 0)
    return Calibration(float(np.mean(said)), float(np.mean(hits)), len(said))


def rank_alarms(random: np.random.Generator, count: int, data_sets: int, variants: int) -> dict[str, float]:
    """Variants that do not differ: how often Friedman's test is significant, and also two by Nemenyi's distance."""
    alarms = {"Friedman": 0, "Nemenyi": 0, "both": 0}
    for _ in range(count):
        found = ranks(random.normal(size=(data_sets, variants)).tolist())
        if found is not None:
            apart = max(found.means) - min(found.means) > found.distance
            alarms["Friedman"] += found.p_value < ALPHA
            alarms["Nemenyi"] += apart
            alarms["both"] += apart and found.p_value < ALPHA
    return {name: times / count for name, times in alarms.items()}
