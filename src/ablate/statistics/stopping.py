"""How many seeds a rule of `ablate.statistics.sequential` takes: simulated sweeps that stop by themselves.

All is in units of the standard deviation of the paired differences. A rule is given as the critical value of |t| at
each look, so that others can be tried too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from ablate.statistics.paired import ALPHA
from ablate.statistics.sequential import FIRST_LOOK, nominal_level

SIMULATED = 4000  # studies of one variant: its mean number of seeds is known to 0.1
NUMBERS = 2_000_000  # that are drawn at most for sweeps of several variants
QUANTILES = (0.1, 0.5, 0.9)


class Ends(NamedTuple):
    """How simulated variants end, shape (sweeps, variants) each."""

    better: np.ndarray
    worse: np.ndarray
    equivalent: np.ndarray
    seeds: np.ndarray

    @property
    def decided(self) -> np.ndarray:
        """Whether a claim was made."""
        return np.asarray(np.logical_or.reduce([self.better, self.worse, self.equivalent]))


class Expected(NamedTuple):
    """What a variant with a true difference takes.

    Attributes:
        seeds: On average.
        decided: Probability of a claim by the last look.
    """

    seeds: float
    decided: float


class Trials(NamedTuple):
    """Trials of a sweep, at three quantiles: low, likely and high."""

    low: int
    likely: int
    high: int


def critical_values(most: int, tests: int) -> np.ndarray:
    """Critical values of |t| at 3 ... `most` seeds, corrected for so many variants; shape (most - 2,)."""
    seeds = np.arange(FIRST_LOOK, most + 1)
    levels = np.array([nominal_level(int(n), most, ALPHA / tests) for n in seeds])
    return np.asarray(-special.stdtrit(seeds - 1, levels / 2))


def ends(differences: np.ndarray, critical: np.ndarray, delta: float | None) -> Ends:
    """Let variants stop at the first look whose interval decides.

    Args:
        differences: Shape (sweeps, variants, seeds).
        critical: Values of |t| at 3 ... seeds, shape (seeds - 2,).
        delta: Margin of equivalence, or None.
    """
    n = np.arange(1, differences.shape[-1] + 1)
    mean = differences.cumsum(-1) / n
    squares = (differences**2).cumsum(-1) - n * mean**2
    mean, error = mean[..., 2:], np.sqrt(np.maximum(squares, 0) / np.maximum(n - 1, 1) / n)[..., 2:]
    with np.errstate(invalid="ignore"):
        low, high = mean - critical * error, mean + critical * error
    better, worse = low > 0, high < 0
    within = (low > -delta) & (high < delta) if delta is not None else np.zeros_like(better)
    equivalent = within & ~better & ~worse
    decided = better | worse | equivalent
    first = np.where(decided.any(-1), decided.argmax(-1), decided.shape[-1] - 1)
    at = np.expand_dims(first, -1)
    better, worse, equivalent = (np.take_along_axis(one, at, -1)[..., 0] for one in (better, worse, equivalent))
    return Ends(better, worse, equivalent, first + FIRST_LOOK)


def expected_seeds(effect: float, delta: float | None, most: int, tests: int) -> Expected:
    """Return what a variant with normal differences takes.

    Args:
        effect: Its true difference.
        delta: Margin of equivalence, or None.
        most: Seeds after which no further look follows.
        tests: Variants that are looked at.
    """
    drawn = np.random.default_rng(0).normal(effect, 1, (SIMULATED, 1, most))
    end = ends(drawn, critical_values(most, tests), delta)
    return Expected(float(end.seeds.mean()), float(end.decided.mean()))


def expected_trials(
    effects: Sequence[float],
    deltas: Sequence[float | None],
    groups: Sequence[int],
    most: int,
    tests: int,
    identical: int = 0,
) -> Trials:
    """Return the trials of a sweep, baselines included, where each true difference is one of a few, equally likely.

    Half of the variance of a difference is its baseline's, which the variants of a group share; the baseline is
    trained as long as any of them is undecided.

    Args:
        effects: True differences, in multiples of each group's unit: the margin, else the standard deviation.
        deltas: Margin of each group, or None.
        groups: Variants of each group.
        most: Seeds after which no further look follows.
        tests: Variants that are looked at.
        identical: How many further variants compute what their baseline does, which the first look tells.
    """
    random = np.random.default_rng(0)
    sweeps = int(np.clip(NUMBERS // (most * max(sum(groups), 1)), 200, SIMULATED))
    critical = critical_values(most, tests)
    total = np.full(sweeps, FIRST_LOOK * identical)
    for variants, delta in zip(groups, deltas, strict=True):
        truth = random.choice(np.asarray(effects), (sweeps, variants, 1)) * (1.0 if delta is None else delta)
        baseline = random.normal(0, np.sqrt(0.5), (sweeps, 1, most))
        drawn = truth + random.normal(0, np.sqrt(0.5), (sweeps, variants, most)) - baseline
        seeds = ends(drawn, critical, delta).seeds
        total += seeds.sum(1) + seeds.max(1, initial=FIRST_LOOK)
    low, likely, high = np.quantile(total, QUANTILES, method="nearest")
    return Trials(int(low), int(likely), int(high))
