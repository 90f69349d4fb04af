"""Do paired differences look skewed, and what does a test say that allows for it?

Student's test of few skewed differences calls too many of them real: a rare bad seed that did not come up makes the
others look consistently good. A single variant's three to ten differences hardly show skewness; those of all variants
together may.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from ablate.statistics.paired import standard_error

LOOKS_SKEWED = 0.90  # quantile of the mean skewness of normal samples from which on differences are said to look skewed
_DRAWS = 2000
_MOST_DRAWN = 200  # samples of one size in a draw; the quantile changes little beyond


class PooledSkewness(NamedTuple):
    """Mean skewness of several samples of differences, and the limit that normal samples keep nine times out of ten.

    `population` is an estimate of the skewness of the distribution that all samples are of.
    """

    mean: float
    limit: float
    population: float
    samples: int

    @property
    def is_notable(self) -> bool:
        """Whether the samples look skewed."""
        return abs(self.mean) > self.limit


def pooled_skewness(samples: Sequence[Sequence[float]]) -> PooledSkewness | None:
    """Mean skewness g1 = m3 / m2^1.5 of samples of shape (n,) each, of three values or more that are not all equal.

    The limit is that of normal samples of the same sizes which share one normal baseline, by simulation with a fixed
    seed. None where there is no such sample.
    """
    fit = [sample for sample in samples if len(sample) > 2 and standard_error(sample) is not None]
    if not fit:
        return None
    sizes = tuple(sorted(Counter(len(sample) for sample in fit).items()))
    tables = [np.array([sample for sample in fit if len(sample) == size]) for size, _ in sizes]
    mean = float(np.mean(np.concatenate([stats.skew(table, axis=1) for table in tables])))
    population = float(np.mean(np.concatenate([stats.skew(table, axis=1, bias=False) for table in tables])))
    return PooledSkewness(mean, _limit(sizes), population, len(fit))


@cache
def _limit(sizes: tuple[tuple[int, int], ...]) -> float:
    """Quantile of the absolute mean skewness of normal samples; `sizes` are values in a sample and samples of it."""
    random = np.random.default_rng(0)
    total, count = np.zeros(_DRAWS), 0
    for values, samples in sizes:
        drawn = min(samples, _MOST_DRAWN)
        baseline = random.normal(size=(_DRAWS, 1, values))
        differences = random.normal(size=(_DRAWS, drawn, values)) - baseline
        total += samples * stats.skew(differences, axis=-1).mean(axis=-1)
        count += samples
    return float(np.quantile(np.abs(total / count), LOOKS_SKEWED))


def skewed_p(differences: Sequence[float], skewness: float) -> float | None:
    """Two-sided p-value of a mean of zero from differences of shape (n,) of a distribution with this skewness.

    Student's statistic is transformed by Hall's cubic, which removes its skewness to first order (Hall 1992, JRSS B 54,
    221-228, eq. 2.3), and held against Student's distribution. None as in `standard_error`.
    """
    if standard_error(differences) is None:
        return None
    n, ratio = len(differences), float(np.mean(differences) / np.std(differences, ddof=1))
    cubic = ratio + skewness * ratio**2 / 3 + skewness**2 * ratio**3 / 27 + skewness / (6 * n)
    return float(2 * special.stdtr(n - 1, -abs(np.sqrt(n) * cubic)))
