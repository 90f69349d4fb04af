"""Simulated sweeps that are looked at after every seed: is any claim false, and how many seeds does stopping save?

Used by benchmarks/coverage_sequential.py (at length) and tests/statistics/test_sequential.py (in short). A rule is
given as the critical value of |t| at each look, so that wrong ones can be tried too. All is in units of the standard
deviation of the paired differences.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from ablate.statistics.paired import ALPHA
from ablate.statistics.sequential import FIRST_LOOK, likelihood_ratio
from ablate.statistics.stopping import Ends, critical_values, ends

KINDS = ("normal", "heavy", "skewed up", "skewed down", "very skewed")


class Claims(NamedTuple):
    """Fractions of sweeps with at least one false claim, and means over all variants."""

    false: float
    seeds: float
    decided: float


def differences(
    random: np.random.Generator, sweeps: int, effects: Sequence[float], seeds: int, kind: str = "normal"
) -> np.ndarray:
    """Differences of variants to one baseline, whose noise they share; shape (sweeps, variants, seeds).

    Args:
        random: Draws them.
        sweeps: How many.
        effects: True difference of each variant.
        seeds: Of each variant.
        kind: Of noise: "normal", "heavy" (Student's t, 4 degrees) in variant and baseline; "skewed up" and "skewed
            down" are exponential in the variant against a normal baseline; "very skewed": exponential differences.
    """
    shape = (sweeps, len(effects), seeds)
    if kind == "heavy":
        baseline, noise = random.standard_t(4, (sweeps, 1, seeds)) / 2, random.standard_t(4, shape) / 2
    elif kind == "very skewed":
        baseline, noise = np.zeros((sweeps, 1, seeds)), random.exponential(1, shape) - 1
    else:
        baseline = random.normal(0, np.sqrt(0.5), (sweeps, 1, seeds))
        if kind == "normal":
            noise = random.normal(0, np.sqrt(0.5), shape)
        else:
            noise = (random.exponential(1, shape) - 1) * np.sqrt(0.5) * (1 if kind == "skewed up" else -1)
    return np.asarray(effects)[:, None] + noise - baseline


def anytime(most: int, tests: int, mixing: float = 4.0) -> np.ndarray:
    """Critical values of the rule without an end: |t| at which the likelihood ratio reaches tests / alpha.

    Infinite where none does: with a handful of seeds its largest value is (1 + n g)^((n - 1) / 2).
    """
    low, high = np.zeros(most - 2), np.full(most - 2, 1e6)
    seeds = np.arange(FIRST_LOOK, most + 1)
    reached = likelihood_ratio(high, seeds, mixing) >= tests / ALPHA
    for _ in range(80):
        middle = (low + high) / 2
        above = likelihood_ratio(middle, seeds, mixing) >= tests / ALPHA
        low, high = np.where(above, low, middle), np.where(above, middle, high)
    return np.where(reached, high, np.inf)


def naive(most: int, tests: int) -> np.ndarray:
    """Critical values of the t-test of a fixed number of seeds, repeated after every seed: wrong."""
    seeds = np.arange(FIRST_LOOK, most + 1)
    return np.asarray(-special.stdtrit(seeds - 1, ALPHA / tests / 2))


def extended(stages: Sequence[int], tests: int) -> np.ndarray:
    """Critical values of a sweep that got another largest number of seeds, as long as it was undecided: not valid.

    Args:
        stages: Largest numbers of seeds, in the order in which they were declared, ascending.
        tests: Variants that are looked at.
    """
    values = critical_values(stages[-1], tests)
    for most in reversed(stages[:-1]):
        values[: most - FIRST_LOOK + 1] = critical_values(most, tests)
    return values


def after_a_test(seeds: int, most: int, tests: int) -> np.ndarray:
    """Critical values where until=decided goes on with the seeds of a t-test that was not significant: not valid."""
    values = critical_values(most, tests)
    look = seeds - FIRST_LOOK
    values[look] = min(values[look], naive(most, tests)[look])
    return values


def claims(
    random: np.random.Generator,
    sweeps: int,
    effects: Sequence[float],
    critical: np.ndarray,
    delta: float | None = None,
    kind: str = "normal",
) -> Claims:
    """How often any claim of a sweep is false, and what the sweep took.

    A claim is false if better or worse has the wrong sign or there is no difference, or if a variant that is called
    equivalent differs by the margin or more.
    """
    end = ends(differences(random, sweeps, effects, len(critical) + 2, kind), critical, delta)
    return _claims(end, effects, delta)


def _claims(end: Ends, effects: Sequence[float], delta: float | None) -> Claims:
    truth = np.asarray(effects)
    false = end.better & (truth <= 0) | end.worse & (truth >= 0)
    false |= end.equivalent & (np.abs(truth) >= (delta if delta is not None else np.inf))
    return Claims(float(false.any(1).mean()), float(end.seeds.mean()), float(end.decided.mean()))


def claims_where_shares_are_released(
    random: np.random.Generator,
    sweeps: int,
    effects: Sequence[float],
    most: int,
    delta: float | None = None,
    kind: str = "normal",
    *,
    has_own_baselines: bool = False,
) -> Claims:
    """As `claims`, by a rule that is not valid: a decided variant's share of alpha goes to the undecided, as in Holm's.

    Holm's procedure (group-sequential: Ye, Li, Liu and Yao 2013, Statistics in Medicine 32) releases the share of a
    rejected hypothesis. A variant that is rightly called equivalent has rejected another hypothesis than the one whose
    error its share was for; those that are left are the ones that look different, and get the share on top.

    Args:
        random: Draws noise.
        sweeps: How many.
        effects: True difference of each variant.
        most: Seeds after which no further look follows.
        delta: Margin of equivalence, or None.
        kind: Of noise.
        has_own_baselines: Whether each variant has a baseline of its own, as on several data sets.
    """
    if has_own_baselines:
        found = np.concatenate([differences(random, sweeps, [effect], most, kind) for effect in effects], axis=1)
    else:
        found = differences(random, sweeps, effects, most, kind)
    variants = len(effects)
    critical = np.array([critical_values(most, left) for left in range(1, variants + 1)])
    n = np.arange(1, most + 1)
    mean = found.cumsum(-1) / n
    error = np.sqrt(np.maximum((found**2).cumsum(-1) - n * mean**2, 0) / np.maximum(n - 1, 1) / n)
    better, worse, equivalent = (np.zeros((sweeps, variants), bool) for _ in range(3))
    seeds = np.full((sweeps, variants), most)
    for look in range(FIRST_LOOK, most + 1):
        for _ in range(variants):
            left = np.maximum((~(better | worse | equivalent)).sum(1), 1)
            reach = critical[left - 1, look - FIRST_LOOK][:, None] * error[..., look - 1]
            low, high = mean[..., look - 1] - reach, mean[..., look - 1] + reach
            is_open = ~(better | worse | equivalent)
            better |= is_open & (low > 0)
            worse |= is_open & (high < 0)
            within = (low > -delta) & (high < delta) if delta is not None else np.zeros_like(better)
            equivalent |= is_open & within & ~better & ~worse
            fresh = is_open & (better | worse | equivalent)
            seeds[fresh] = look
            if not fresh.any():
                break
    return _claims(Ends(better, worse, equivalent, seeds), effects, delta)


def fixed_design(
    random: np.random.Generator,
    sweeps: int,
    effects: Sequence[float],
    decided: float,
    delta: float | None,
    tests: int,
    largest: int = 40,
) -> int:
    """Fewest seeds of a fixed design, one for all variants, that decides as large a part of them (Bonferroni).

    Its interval is read once, by the same three claims. `largest` where none does.
    """
    found = differences(random, sweeps, effects, largest)
    for seeds in range(FIRST_LOOK, largest):
        critical = np.full(seeds - 2, np.inf)
        critical[-1] = -special.stdtrit(seeds - 1, ALPHA / tests / 2)
        end = ends(found[..., :seeds], critical, delta)
        if end.decided.mean() >= decided:
            return seeds
    return largest


def fixed_design_by_holm(
    random: np.random.Generator,
    sweeps: int,
    effects: Sequence[float],
    decided: float,
    delta: float,
    alpha: float,
    largest: int = 40,
) -> int:
    """As `fixed_design`, by Holm's correction of two families: differences, and equivalence by two one-sided tests.

    With alpha = 2.5 % of each family any claim is false in at most 5 % of sweeps, as with the sequential rule; with 5 %
    of each, as in reports of fixed seeds, in at most 10 %.
    """
    found = differences(random, sweeps, effects, largest)
    for seeds in range(FIRST_LOOK, largest):
        mean, error = found[..., :seeds].mean(-1), found[..., :seeds].std(-1, ddof=1) / np.sqrt(seeds)
        different = 2 * special.stdtr(seeds - 1, -abs(mean) / error)
        equivalent = special.stdtr(seeds - 1, -(delta - abs(mean)) / error)
        if (_holm_rejects(different, alpha) | _holm_rejects(equivalent, alpha)).mean() >= decided:
            return seeds
    return largest


def _holm_rejects(p_values: np.ndarray, alpha: float) -> np.ndarray:
    """Which of p-values, shape (sweeps, variants), Holm's procedure rejects in each sweep."""
    order = np.argsort(p_values, axis=1)
    tests = p_values.shape[1]
    sorted_values = np.take_along_axis(p_values, order, 1)
    rejected = np.logical_and.accumulate(sorted_values < alpha / (tests - np.arange(tests)), axis=1)
    result = np.zeros_like(rejected)
    np.put_along_axis(result, order, rejected, 1)
    return result
