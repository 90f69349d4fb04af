"""Is a difference real? Pure functions over a few seeds.

| problem | customary | here |
|---|---|---|
| few seeds | bare means | Student's t interval, which covers what it claims from two seeds on |
| seeds move all variants together | two separate means | differences paired by seed |
| many variants against one baseline | the best p-value | Holm's correction over the table |

Accuracies are fractions from 0 to 1. Where a number cannot be known the answer is None.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95


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
