"""Ranks of variants over several data sets: do they differ, and by how much must two of them (Demsar 2006).

Demsar, Statistical comparisons of classifiers over multiple data sets, JMLR 7. Ranks ask for less than means: neither
a common scale of the data sets nor normal differences; and they know nothing of sizes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from ablate.statistics.paired import ALPHA

PERMUTATIONS = 9999


class Ranks(NamedTuple):
    """Mean ranks of m variants over N data sets.

    Attributes:
        means: Mean rank of each variant, (m,); 1 is the most accurate.
        p_value: That all variants are alike, by Friedman's statistic over permutations within the data sets: exact
            where there are few.
        distance: Nemenyi's critical distance: two mean ranks that differ by more differ significantly.
    """

    means: list[float]
    p_value: float
    distance: float

    @property
    def can_differ(self) -> bool:
        """Whether any two mean ranks could differ by more than the critical distance."""
        return self.distance < len(self.means) - 1


def ranks(accuracies: Sequence[Sequence[float]]) -> Ranks | None:
    """Rank variants on each data set, the highest accuracy first; ties share their mean rank.

    Args:
        accuracies: (N data sets, m variants).

    Returns:
        None below two data sets or three variants: two are compared by their difference.
    """
    table = np.asarray(accuracies, dtype=float)
    if table.ndim != 2 or table.shape[0] < 2 or table.shape[1] < 3:
        return None
    ranked = stats.rankdata(-table, axis=1)
    return Ranks(ranked.mean(axis=0).tolist(), _friedman(ranked), critical_distance(table.shape[1], table.shape[0]))


def critical_distance(variants: int, data_sets: int, alpha: float = ALPHA) -> float:
    """Nemenyi's critical distance of mean ranks: Demsar's equation for CD, from the studentized range."""
    quantile = float(stats.studentized_range.ppf(1 - alpha, variants, np.inf)) / np.sqrt(2)
    return float(quantile * np.sqrt(variants * (variants + 1) / (6 * data_sets)))


def cliques(means: Sequence[float], distance: float) -> list[tuple[float, float]]:
    """The largest groups of variants that do not differ: the lowest and the highest mean rank of each.

    Args:
        means: Mean ranks, in any order.
        distance: The critical distance.

    Returns:
        Ascending; groups of one variant are left out, and so are those inside of another.
    """
    ascending = sorted(means)
    spans: list[tuple[float, float]] = []
    for low in ascending:
        high = max(mean for mean in ascending if mean - low <= distance)
        if high > low and not any(first <= low and high <= last for first, last in spans):
            spans.append((low, high))
    return spans


def _friedman(ranked: np.ndarray) -> float:
    """P-value of Friedman's test by permuting the ranks within each data set, (N, m)."""

    def statistic(*columns: np.ndarray, axis: int) -> np.ndarray:
        sums = np.stack([column.sum(axis=axis) for column in columns])
        spread: np.ndarray = ((sums - sums.mean(axis=0)) ** 2).sum(axis=0)
        return spread

    outcome = stats.permutation_test(
        list(ranked.T), statistic, permutation_type="samples", n_resamples=PERMUTATIONS, alternative="greater",
        vectorized=True, random_state=np.random.default_rng(0),
    )  # fmt: skip
    return float(outcome.pvalue)
