"""Is a difference real? Pure functions over a few seeds.

| problem | customary | here |
|---|---|---|
| few seeds | bare means | Student's t interval, which covers what it claims from two seeds on |
| seeds move all variants together | two separate means | differences paired by seed |
| many variants against one baseline | the best p-value | Holm's correction over the table |
| several components at once | one variant against another | main effects: the mean over all others, paired by seed |
| "no significant difference" | read as "no difference" | the smallest difference that so many seeds would have shown |

Accuracies are fractions from 0 to 1. Where a number cannot be known the answer is None.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import cache, lru_cache
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import numpy as np
from scipy import special

from ablate.statistics.interval import Interval

LEVEL = 0.95
ALPHA = 0.05
POWER = 0.8
PLANNED = 0.8  # share of the studies in which a plan is to hold: level of the upper bound of the spread
MOST_SEEDS = 100_000  # more than anybody trains: beyond it a difference counts as out of reach


class Sortable(Hashable, Protocol):
    """What repetitions are told apart by: seeds, or seeds and folds."""

    def __lt__(self, other: Any, /) -> bool:
        """Whether it comes first."""


Key = TypeVar("Key", bound=Sortable)


def paired_differences(variant: Mapping[Key, float], baseline: Mapping[Key, float]) -> tuple[list[Key], list[float]]:
    """Differences variant - baseline over the seeds that both have.

    Args:
        variant: seed, or whatever a repetition is called -> metric.
        baseline: seed -> metric, same unit.

    Returns:
        Shared seeds in ascending order, shape (n,), and the differences in that order, shape (n,).
    """
    seeds = sorted(variant.keys() & baseline.keys())
    return seeds, [variant[seed] - baseline[seed] for seed in seeds]


class MainEffect(NamedTuple, Generic[Key]):
    """What a component adds, averaged over the other components."""

    seeds: list[Key]
    effects: list[float]
    pairs: int


def main_effect(
    accuracy: Mapping[tuple[bool, ...], Mapping[Key, float]],
    component: int,
    *,
    fair: Callable[[tuple[bool, ...], tuple[bool, ...]], bool] = lambda subset, without: True,
) -> MainEffect[Key]:
    """Differences with - without one component, for each seed the mean over the settings of the other components.

    Args:
        accuracy: For each subset of the components (whether it has each of them) seed -> metric.
        component: Index of the component.
        fair: Whether a subset with it may be compared with the one without.

    Returns:
        The seeds that all pairs of subsets have, shape (n,) ascending; the effects in that order, shape (n,), in the
        metric's unit; and the number of pairs they are the mean of: 0 where there is none.
    """
    pairs = []
    for subset in accuracy:
        without = (*subset[:component], False, *subset[component + 1 :])
        if subset[component] and without in accuracy and fair(subset, without):
            pairs.append((accuracy[subset], accuracy[without]))
    common = [set(subset) & set(without) for subset, without in pairs]
    seeds = sorted(set.intersection(*common)) if common else []
    means = [sum(subset[seed] - without[seed] for subset, without in pairs) / len(pairs) for seed in seeds]
    return MainEffect(seeds, means, len(pairs))


def sample_std(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1) of values of shape (n,); None below two values."""
    return float(np.std(values, ddof=1)) if len(values) >= 2 else None


def standard_error(values: Sequence[float], share: float = 0.0) -> float | None:
    """Standard error of the mean of values of shape (n,); `share` is n_test / n_train of folds (see `resampled`).

    None below two values, and None where all values are equal up to rounding: a spread of nothing
    over a few seeds is no evidence that the next seed agrees.
    """
    spread = sample_std(values)
    if spread is None or spread <= 1e-12 * max(1.0, float(np.max(np.abs(values)))):
        return None
    return float(spread / np.sqrt(len(values)) * np.sqrt(1 + len(values) * share))


def t_interval(values: Sequence[float], level: float = LEVEL, share: float = 0.0) -> Interval | None:
    """Mean of values of shape (n,) with its two-sided Student-t interval; None as in `standard_error`.

    It covers the spread over what was replicated (here: the seeds) and nothing else.
    """
    error = standard_error(values, share)
    if error is None:
        return None
    mean = float(np.mean(values))
    reach = float(special.stdtrit(len(values) - 1, 0.5 + level / 2)) * error
    return Interval(mean, mean - reach, mean + reach)


def paired_t(differences: Sequence[float], share: float = 0.0) -> float | None:
    """Two-sided p-value of Student's t for a mean difference of zero, from differences of shape (n,).

    None as in `standard_error`.
    """
    error = standard_error(differences, share)
    if error is None:
        return None
    statistic = abs(float(np.mean(differences))) / error
    return float(2 * special.stdtr(len(differences) - 1, -statistic))


def effect_size(differences: Sequence[float]) -> float | None:
    """Size of a mean difference in units of the differences' own spread, from differences of shape (n,).

    Cohen's d of paired differences (mean / standard deviation), times Hedges' exact correction for few values
    (Hedges 1981, Journal of Educational Statistics 6, eq. 6e), without which three seeds overstate it by 77 %.
    None as in `standard_error`, and below three values, from which no unbiased estimate exists.
    """
    if len(differences) < 3 or standard_error(differences) is None:
        return None
    freedom = len(differences) - 1
    log_correction = special.gammaln(freedom / 2) - special.gammaln((freedom - 1) / 2) - np.log(freedom / 2) / 2
    return float(np.mean(differences) / np.std(differences, ddof=1) * np.exp(log_correction))


def power_of(n: int, ratio: float, level: float = LEVEL) -> float:
    """How often a paired t-test of n seeds finds a true difference of `ratio` standard deviations of the differences.

    Two-sided, at significance 1 - level: the mass of the noncentral t distribution beyond Student's critical values,
    to about 1e-6, for n of at least 2. Integrated here over the spread that the seeds may show, because scipy's
    own (special.nctdtr) answers nan for many arguments.
    """
    freedom, shift = n - 1, abs(ratio) * np.sqrt(n)
    spread, weights = _quantiles(freedom)
    reach = special.stdtrit(freedom, 0.5 + level / 2) * spread
    return float((special.ndtr(shift - reach) + special.ndtr(-shift - reach)) @ weights / 2)


def upper_std(values: Sequence[float], level: float = PLANNED) -> float | None:
    """Upper confidence bound of the standard deviation that values of shape (n,) are drawn with.

    The chi-square bound for normal values: what is planned with it is enough in `level` of all studies, where the
    sample standard deviation itself is too small in 63 % of those with three seeds.

    Returns:
        None below three values, whose bound would say nothing, and as in `standard_error`.
    """
    error = standard_error(values)
    if error is None or len(values) < 3:
        return None
    freedom = len(values) - 1
    return float(error * np.sqrt(len(values) * freedom / special.chdtri(freedom, level)))


@cache
def _quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Nodes in (-1, 1) and weights of Gauss and Legendre's rule, (200,) each."""
    return np.polynomial.legendre.leggauss(200)


@lru_cache(maxsize=512)
def _quantiles(freedom: int) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of seen by true spread, (200,), and their weights, (200,)."""
    nodes, weights = _quadrature()
    return np.sqrt(special.chdtri(freedom, (1 - nodes) / 2) / freedom), weights


@cache
def _detectable_ratio(n: int, level: float, power: float) -> float | None:
    """The smallest detectable difference in standard deviations; None where it is beyond all measure."""
    low, high = 0.0, 1.0
    while power_of(n, high, level) < power:
        low, high = high, high * 2
        if high > 1e9:
            return None
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if power_of(n, middle, level) < power else (low, middle)
    return high


def smallest_detectable(std: float | None, n: int, level: float = LEVEL, power: float = POWER) -> float | None:
    """Smallest true difference that a paired t-test of n seeds finds in `power` of all such studies.

    Args:
        std: Standard deviation of the paired differences, in the unit of the answer; `upper_std` where it is known
            from few seeds only.
        n: Seeds.
        level: Of the interval: 1 - significance. For one of m variants after Holm's correction, the strictest step
            is 1 - 0.05 / m.
        power: Probability of finding it.

    Returns:
        None below two seeds and where the spread is not known or is nothing.
    """
    if n < 2 or not std or not np.isfinite(std):
        return None
    ratio = _detectable_ratio(n, level, power)
    return None if ratio is None else ratio * float(std)


def seeds_needed(std: float | None, difference: float | None, level: float = LEVEL, power: float = POWER) -> int | None:
    """Fewest seeds with which a paired t-test finds a true `difference` in `power` of all such studies.

    Args:
        std: Standard deviation of the paired differences in the unit of `difference`; `upper_std` where it is known
            from few seeds only.
        difference: What is to be found; its sign is of no account.
        level: As in `smallest_detectable`.
        power: As in `smallest_detectable`.

    Returns:
        None where the spread is not known or is nothing, where the difference is zero or not known, and where more
        than `MOST_SEEDS` would be needed.
    """
    if not std or not difference or not np.isfinite(std) or not np.isfinite(difference):
        return None
    ratio = abs(difference) / std
    normal = ((special.ndtri(0.5 + level / 2) + special.ndtri(power)) / ratio) ** 2  # with a known spread
    low = int(min(max(normal - 1, 1), MOST_SEEDS))
    if low > 1 and power_of(low, ratio, level) >= power:
        low = 1
    high, step = low + 1, 1
    while power_of(high, ratio, level) < power:
        low, high, step = high, high + step, 2 * step
        if high > 2 * MOST_SEEDS:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power_of(middle, ratio, level) < power else (low, middle)
    return high if high <= MOST_SEEDS else None


def is_significant(p_value: float | None) -> bool:
    """Whether a corrected p-value is below ALPHA; what was not tested, None, is not significant."""
    return p_value is not None and p_value < ALPHA


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction of p-values of shape (m,), in the same order.

    Entries of None take no part: the family is the tests that were made.
    """
    made = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, index) in enumerate(made):
        largest = max(largest, min(1.0, p * (len(made) - rank)))
        corrected[index] = largest
    return corrected
