"""Latency over processes: the process is the unit, its rounds are not. Pure functions, no torch.

Where a process puts its weights and kernels in memory stays as long as the process and moves all of its rounds alike:
a hundred rounds of four processes are four independent values, and not a hundred (hierarchical sampling: Kalibera and
Jones, *Rigorous benchmarking in reasonable time*, ISMM 2013). Each process gives one median over its rounds, which a
single interruption does not move. Times and ratios are positive and skewed to the right, so their logarithms are
averaged: the estimate is a geometric mean, the interval that of Student's t on logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, median
from typing import NamedTuple

from ablate.statistics.interval import Interval
from ablate.statistics.paired import t_interval


class ProcessMean(NamedTuple):
    """A geometric mean over processes with its 95 % interval; no interval of one process."""

    estimate: float
    interval: Interval | None


def mean_over_processes(values: Sequence[float]) -> ProcessMean:
    """Return the geometric mean of one positive value for each process, with its interval.

    Raises:
        ValueError: There is no value, or one that is not positive.
    """
    if not values or min(values) <= 0:
        raise ValueError("a positive value of at least one process is needed")
    logarithms = [math.log(value) for value in values]
    interval = t_interval(logarithms)
    if interval is None:
        return ProcessMean(math.exp(fmean(logarithms)), None)
    mean = Interval(*map(math.exp, interval))
    return ProcessMean(mean.estimate, mean)


def process_medians(blocks: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the median over the rounds of each process; of one without any time there is none.

    Args:
        blocks: The rounds of each process, NaN where there is no time.
    """
    times = ([value for value in block if value == value] for block in blocks)
    return tuple(median(block) for block in times if block)


def process_ratios(blocks: Sequence[Sequence[float]], baseline: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return for each process the median over its rounds of the ratio to a baseline in the same round.

    Args:
        blocks: The rounds of each process.
        baseline: Those of the baseline, the same processes and rounds.

    Raises:
        ValueError: The rounds are not the same in number.
    """
    pairs = zip(blocks, baseline, strict=True)
    return process_medians([[a / b for a, b in zip(block, base, strict=True)] for block, base in pairs])


def quantile(values: Sequence[float], share: float) -> float:
    """Return the smallest value that at least a share of all values do not exceed."""
    ranked = sorted(values)
    return ranked[max(math.ceil(share * len(ranked)) - 1, 0)]
