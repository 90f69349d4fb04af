"""A median with its interval, from rounds of one process that follow one another in time. Pure functions, no torch.

Latencies are skewed and their rounds are no independent draws: a busy second slows several rounds in a row. Both rule
out the usual interval of a mean. For a stationary series the sample median is normal about the true one with the
long-run variance of the indicator "at most the median" (Bahadur's representation under mixing: P. K. Sen, 1972), so the
order statistics between which the median lies with a given confidence are those of independent rounds, spread by that
variance. Nothing is assumed of the distribution of the latencies, and no random numbers are drawn. Over processes that
differ it is too narrow (`simulated.latency_processes`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, median
from typing import NamedTuple

from ablate.statistics.interval import Interval


class Median(NamedTuple):
    """A median with the order statistics around it; no interval where there are too few rounds for one."""

    estimate: float
    interval: Interval | None


def median_interval(blocks: Sequence[Sequence[float]], level: float = 0.95) -> Median:
    """Return the median of some series, all of the same quantity, with its interval.

    Args:
        blocks: Series in the order of time, one for each process that measured; what binds neighbours in one does not
            reach into the next.
        level: How often the interval shall hold the true median.

    Raises:
        ValueError: There is no value at all.
    """
    ranked = sorted(value for block in blocks for value in block)
    if not ranked:
        raise ValueError("no value to take the median of")
    middle = median(ranked)
    reach = NormalDist().inv_cdf((1 + level) / 2) * math.sqrt(_variance_of_count(blocks, middle))
    count = len(ranked)
    below = math.floor(count / 2 - reach)  # values outside the interval on each side
    if below < 1:
        return Median(middle, None)
    return Median(middle, Interval(middle, ranked[below - 1], ranked[count - below]))


def _variance_of_count(blocks: Sequence[Sequence[float]], middle: float) -> float:
    """Return the variance of how many values are at most the true median, neighbours taken into account.

    Autocovariances within blocks up to the lag at which a pair of them first sums to less than nothing, much as Geyer
    (1992) does; he pairs lags 0 and 1, 2 and 3, here it is 1 and 2, 3 and 4. Never less than independent rounds have.
    """
    signs = [[0.5 if value > middle else -0.5 if value < middle else 0.0 for value in block] for block in blocks]
    count = sum(map(len, signs))
    longest = max(map(len, signs)) // 2
    total, lag = 0.0, 1
    while lag + 1 <= longest:
        pair = _covariance(signs, lag) + _covariance(signs, lag + 1)
        if pair <= 0:
            break
        total += pair
        lag += 2
    return max(count / 4 + 2 * total, count / 4)


def _covariance(blocks: Sequence[Sequence[float]], lag: int) -> float:
    """Return the sum over pairs of rounds that lie `lag` apart of the product of their signs."""
    return sum(sum(earlier * later for earlier, later in zip(block, block[lag:], strict=False)) for block in blocks)
