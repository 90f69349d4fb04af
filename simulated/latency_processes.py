"""Simulated latency measurements of known ratio: rounds within processes, and processes that differ."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ablate.statistics.process_interval import mean_over_processes
from simulated.round_interval import median_interval

SPREAD = 0.1  # standard deviation of the logarithm of a round
RATIO = 1.2  # the true one


class LatencyCoverage(NamedTuple):
    """How often the interval held the true ratio, and its median width as a fraction of the ratio."""

    covered: float
    width: float


def round_ratios(
    random: np.random.Generator, samples: int, processes: int, rounds: int, between: float, likeness: float
) -> NDArray[np.float64]:
    """Ratios of measurements: [samples, processes, rounds].

    Args:
        random: Source of randomness.
        samples: Measurements.
        processes: Of each measurement.
        rounds: Of each measurement, shared by its processes, rounded up.
        between: Standard deviation between processes, in that of the rounds.
        likeness: Autocorrelation of neighbouring rounds.
    """
    each = -(-rounds // processes)
    noise = random.standard_normal((samples, processes, each))
    for number in range(1, each):
        noise[..., number] = likeness * noise[..., number - 1] + np.sqrt(1 - likeness**2) * noise[..., number]
    offset = between * random.standard_normal((samples, processes, 1))
    return RATIO * np.asarray(np.exp(SPREAD * (noise + offset)))


def coverage_over_processes(ratios: NDArray[np.float64]) -> LatencyCoverage:
    """The interval in use: of the medians of the processes."""
    medians = np.median(ratios, axis=-1)
    intervals = [mean_over_processes(row.tolist()).interval for row in medians]
    return _coverage([(i.low, i.high) if i else (np.nan, np.nan) for i in intervals])


def coverage_over_rounds(ratios: NDArray[np.float64]) -> LatencyCoverage:
    """The former interval, a negative control: of the median over all rounds, spread by their autocorrelation."""
    intervals = [median_interval(blocks).interval for blocks in ratios.tolist()]
    return _coverage([(i.low, i.high) if i else (0.0, np.inf) for i in intervals])


def _coverage(ends: list[tuple[float, float]]) -> LatencyCoverage:
    low, high = np.asarray(ends).T
    return LatencyCoverage(float(np.mean((low <= RATIO) & (high >= RATIO))), float(np.median(high - low)) / RATIO)
