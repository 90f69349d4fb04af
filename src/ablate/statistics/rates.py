"""Rates of events in few trials: an exact interval, and an exact comparison of two rates."""

from __future__ import annotations

from scipy import stats

from ablate.statistics.interval import Interval
from ablate.statistics.paired import LEVEL


def rate_interval(events: int, trials: int, level: float = LEVEL) -> Interval:
    """Rate of events with Clopper and Pearson's exact interval (1934, Biometrika 26); `trials` is at least 1."""
    bounds = stats.binomtest(events, trials).proportion_ci(level, method="exact")
    return Interval(events / trials, float(bounds.low), float(bounds.high))


def rates_p(events: int, trials: int, other_events: int, other_trials: int) -> float:
    """Two-sided p-value of Fisher's exact test that two rates are the same."""
    table = [[events, trials - events], [other_events, other_trials - other_events]]
    return float(stats.fisher_exact(table).pvalue)
