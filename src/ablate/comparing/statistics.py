"""Is a difference real? Pure functions over a few seeds.

| problem | customary | here |
|---|---|---|
| few seeds | bare means | Student's t interval, which covers what it claims from two seeds on |
| seeds move all variants together | two separate means | differences paired by seed |
| many variants against one baseline | the best p-value | Holm's correction over the table |
| several components at once | one variant against another | main effects: the mean over all others, paired by seed |

Accuracies are fractions from 0 to 1. Where a number cannot be known the answer is None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95
ALPHA = 0.05


class Interval(NamedTuple):
    """An estimate with its confidence interval, in the unit of what was estimated."""

    estimate: float
    low: float
    high: float


def paired_differences(variant: Mapping[int, float], baseline: Mapping[int, float]) -> tuple[list[int], list[float]]:
    """Differences variant - baseline over the seeds that both have.

    Args:
        variant: seed -> metric.
        baseline: seed -> metric, same unit.

    Returns:
        Shared seeds in ascending order, shape (n,), and the differences in that order, shape (n,).
    """
    seeds = sorted(variant.keys() & baseline.keys())
    return seeds, [variant[seed] - baseline[seed] for seed in seeds]


class MainEffect(NamedTuple):
    """What a component adds, averaged over the other components."""

    seeds: list[int]
    effects: list[float]
    pairs: int


def main_effect(
    accuracy: Mapping[tuple[bool, ...], Mapping[int, float]],
    component: int,
    *,
    fair: Callable[[tuple[bool, ...], tuple[bool, ...]], bool] = lambda having, lacking: True,
) -> MainEffect:
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
    for having in accuracy:
        lacking = (*having[:component], False, *having[component + 1 :])
        if having[component] and lacking in accuracy and fair(having, lacking):
            pairs.append((accuracy[having], accuracy[lacking]))
    common = [set(having) & set(lacking) for having, lacking in pairs]
    seeds = sorted(set.intersection(*common)) if common else []
    means = [sum(having[seed] - lacking[seed] for having, lacking in pairs) / len(pairs) for seed in seeds]
    return MainEffect(seeds, means, len(pairs))


def sample_std(values: Sequence[float]) -> float | None:
    """Sample standard deviation (n - 1) of values of shape (n,); None below two values."""
    return float(np.std(values, ddof=1)) if len(values) >= 2 else None


def standard_error(values: Sequence[float]) -> float | None:
    """Standard error of the mean of values of shape (n,).

    None below two values, and None where all values are equal up to rounding: a spread of nothing
    over a few seeds is no evidence that the next seed agrees.
    """
    spread = sample_std(values)
    if spread is None or spread <= 1e-12 * max(1.0, float(np.max(np.abs(values)))):
        return None
    return float(spread / np.sqrt(len(values)))


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval | None:
    """Mean of values of shape (n,) with its two-sided Student-t interval; None as in `standard_error`.

    It covers the spread over what was replicated (here: the seeds) and nothing else.
    """
    error = standard_error(values)
    if error is None:
        return None
    mean = float(np.mean(values))
    reach = float(special.stdtrit(len(values) - 1, 0.5 + level / 2)) * error
    return Interval(mean, mean - reach, mean + reach)


def paired_t(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of Student's t for a mean difference of zero, from differences of shape (n,).

    None as in `standard_error`.
    """
    error = standard_error(differences)
    if error is None:
        return None
    statistic = abs(float(np.mean(differences))) / error
    return float(2 * special.stdtr(len(differences) - 1, -statistic))


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
