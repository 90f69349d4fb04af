"""Seeds that stop by themselves: tests and intervals that stay valid however often one looks at the differences so far.

| problem | customary | here |
|---|---|---|
| a test after every seed | the p-value of a fixed number: 20 % false alarms by ten looks | a level that is spent |
| the number of seeds was not declared | the same p-value | a p-value that is valid at any number of seeds |
| stopping because nothing differs | "not significant" | the interval lies within a declared margin |

With a declared largest number of seeds N, looks begin at three seeds and the level at n seeds is a share of n / N
(spending of the level: Lan and DeMets 1983, Biometrika 70; Jennison and Turnbull 2000, *Group Sequential Methods*).
The interval at each look covers at all looks together what a 95 % interval covers at one. It decides three claims at
once: better and worse (it excludes zero), and equivalent (it lies within the margin). A false claim of any kind needs
an interval that misses the true difference, so their errors do not add up, also where that lies exactly on the margin.

Where no number was declared, only a rule without an end is valid: the mixture of t likelihood ratios (Lai 1976, Annals
of Statistics 4; Wang and Ramdas 2025, *Anytime-valid t-tests and confidence sequences for Gaussian means with unknown
variance*, Sequential Analysis 44). With a declared number it needs more seeds than spending does (docs/sequential.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, standard_error
from ablate.statistics.verdict import Verdict

FIRST_LOOK = 3  # seeds; two say nothing about their own spread
MOST_LOOKED = 50  # seeds for which the share below was computed
MIXING = 4.0  # variance of the differences' mean, in units of their own, over which the likelihood ratio is mixed

# Share c of the level alpha: with two-sided levels of c * alpha * n / N at n = 3 ... N seeds, the probability of
# crossing at any look is alpha. Solved by simulation of 1.5 million sequences for normal differences, and for those of
# a variant with exponential noise against a baseline with normal noise; the smaller of both, which is the latter
# (simulated/sequential_sweeps.py checks it). Rows: N. Columns: alpha.
_SEEDS = (3, 4, 5, 6, 8, 10, 12, 16, 20, 30, 40, 50)
_LEVELS = (1.0, 0.5, 0.2, 0.1, 0.05, 0.025, 0.0125, 0.05 / 12, 0.05 / 40, 0.0004)
_SHARES = (
    (1.0, 0.980, 0.980, 0.980, 0.980, 0.980, 0.975, 0.960, 0.950, 0.910),
    (1.0, 0.822, 0.752, 0.705, 0.665, 0.631, 0.613, 0.589, 0.560, 0.530),
    (1.0, 0.741, 0.642, 0.584, 0.535, 0.497, 0.471, 0.440, 0.410, 0.395),
    (1.0, 0.692, 0.579, 0.516, 0.464, 0.425, 0.398, 0.362, 0.330, 0.310),
    (1.0, 0.632, 0.507, 0.441, 0.386, 0.348, 0.316, 0.278, 0.250, 0.230),
    (1.0, 0.597, 0.466, 0.398, 0.344, 0.304, 0.271, 0.233, 0.204, 0.178),
    (1.0, 0.573, 0.440, 0.370, 0.317, 0.277, 0.244, 0.206, 0.176, 0.152),
    (1.0, 0.542, 0.408, 0.339, 0.286, 0.245, 0.212, 0.171, 0.145, 0.118),
    (1.0, 0.523, 0.389, 0.321, 0.269, 0.226, 0.192, 0.150, 0.121, 0.097),
    (1.0, 0.495, 0.360, 0.295, 0.245, 0.202, 0.169, 0.127, 0.093, 0.071),
    (1.0, 0.479, 0.345, 0.282, 0.232, 0.190, 0.157, 0.117, 0.082, 0.061),
    (1.0, 0.469, 0.337, 0.274, 0.224, 0.184, 0.151, 0.111, 0.077, 0.056),
)


class Stop(NamedTuple):
    """When looks end, and what each is corrected for.

    Attributes:
        most: Seeds after which no further look follows.
        tests: Variants that are looked at.
    """

    most: int
    tests: int = 1


class Look(NamedTuple):
    """What one look at the seeds so far says.

    Attributes:
        seeds: How many.
        interval: The mean difference with its interval, valid at all looks and corrected for all variants; None where
            all differences are equal.
        p_value: Smallest level at which any look so far excludes zero, corrected for all variants.
        verdict: UNDECIDED until a claim can be made.
    """

    seeds: int
    interval: Interval | None
    p_value: float
    verdict: Verdict


def nominal_level(seeds: int, most: int, alpha: float = ALPHA) -> float:
    """Two-sided level of a t-test at one look, so that all looks together have the level alpha.

    Args:
        seeds: At this look, from `FIRST_LOOK` to `most`.
        most: Seeds after which no further look follows.
        alpha: Of all looks together.
    """
    return alpha * float(np.exp(np.interp(np.log(alpha), *_log_shares(most)))) * seeds / most


def _log_shares(most: int) -> tuple[np.ndarray, np.ndarray]:
    """Logarithms of the levels, ascending, and of the shares at them, for so many seeds at most; shape (L,) each."""
    if not FIRST_LOOK <= most <= MOST_LOOKED:
        raise ValueError(f"{most} seeds: looks are made at {FIRST_LOOK} to {MOST_LOOKED}")
    seeds, levels, shares = np.log(_SEEDS), np.log(_LEVELS), np.log(_SHARES)
    row = np.array([np.interp(np.log(most), seeds, column) for column in shares.T])
    slope = (row[-1] - row[-2]) / (levels[-1] - levels[-2])  # beyond the table the share falls as it does at its end
    lowest = np.log(1e-12)
    levels, row = np.append(levels, lowest), np.append(row, row[-1] + slope * (lowest - levels[-1]))
    return levels[::-1], row[::-1]


def overall_level(p_value: float, seeds: int, most: int) -> float:
    """Level of all looks together at which a look with this two-sided p-value just crosses; `nominal_level` inverted.

    Args:
        p_value: Of the t-test at one look.
        seeds: At this look.
        most: Seeds after which no further look follows.
    """
    levels, shares = _log_shares(most)
    nominal = levels + shares  # rises with the level
    sought = np.log(max(p_value, 1e-300)) + np.log(most / seeds)
    if sought <= nominal[0]:
        return float(np.exp(levels[0]))
    return float(np.exp(np.interp(sought, nominal, levels)))


def sequential_interval(differences: Sequence[float], most: int, tests: int = 1) -> Interval | None:
    """Mean of the paired differences with its interval at this look, which holds the truth at all looks and variants.

    Args:
        differences: Of the seeds so far in their order, shape (n,), n of at least `FIRST_LOOK`.
        most: Seeds after which no further look follows.
        tests: Variants that are looked at (Bonferroni: valid whatever their dependence, and whichever stop early).

    Returns:
        None with fewer seeds, or where all differences are equal.
    """
    error = standard_error(differences)
    if len(differences) < FIRST_LOOK or error is None:
        return None
    level = nominal_level(len(differences), most, ALPHA / tests)
    reach = float(-special.stdtrit(len(differences) - 1, level / 2)) * error
    mean = float(np.mean(differences))
    return Interval(mean, mean - reach, mean + reach)


def verdict_of(interval: Interval | None, delta: float | None) -> Verdict:
    """What an interval says: better or worse than zero, else equivalent within the margin, else undecided.

    Args:
        interval: In the unit of the margin.
        delta: Margin of equivalence; None where none was declared.
    """
    if interval is None:
        return Verdict.UNDECIDED
    if interval.excludes_zero:
        return Verdict.BETTER if interval.low > 0 else Verdict.WORSE
    if delta is not None and -delta < interval.low and interval.high < delta:
        return Verdict.EQUIVALENT
    return Verdict.UNDECIDED


def looks_at(
    differences: Sequence[float], most: int, delta: float | None = None, tests: int = 1, *, identical: bool = False
) -> list[Look]:
    """Every look at paired differences, in the order of the seeds, up to the one that decides.

    What comes after the decision takes no part, and neither does the order in which the trials ended.

    Args:
        differences: Variant - baseline in the order of the seeds, shape (n,).
        most: Seeds after which no further look follows.
        delta: Margin of equivalence, in the unit of the differences; None where none was declared.
        tests: Variants that are looked at.
        identical: Whether variant and baseline computed the same in every digit: then they are equivalent within any
            margin, though differences of exactly zero have no spread to test with.
    """
    looks: list[Look] = []
    smallest = 1.0
    for seeds in range(FIRST_LOOK, min(len(differences), most) + 1):
        so_far = differences[:seeds]
        error = standard_error(so_far)
        if error is not None:
            p_value = float(2 * special.stdtr(seeds - 1, -abs(float(np.mean(so_far))) / error))
            smallest = min(smallest, tests * overall_level(p_value, seeds, most))
        interval = sequential_interval(so_far, most, tests)
        verdict = verdict_of(interval, delta)
        if identical and delta is not None and not np.any(so_far):
            verdict = Verdict.EQUIVALENT
        looks.append(Look(seeds, interval, smallest, verdict))
        if verdict is not Verdict.UNDECIDED:
            break
    return looks


def likelihood_ratio(statistic: np.ndarray | float, seeds: np.ndarray | int, mixing: float = MIXING) -> np.ndarray:
    """Mixture likelihood ratio of t statistics against a mean of zero: a martingale of mean 1 where that is so.

    With m / sd of the differences drawn from a normal distribution of variance `mixing` and a right-invariant prior on
    the spread (Lai 1976; Wang and Ramdas 2025, section 4), for t of any shape and n seeds:
    (1 + n g)^(-1/2) [(1 + t^2 / (n - 1)) / (1 + t^2 / ((n - 1) (1 + n g)))]^(n / 2).
    """
    squared = np.square(statistic) / (np.asarray(seeds) - 1)
    wide = 1 + np.asarray(seeds) * mixing
    return np.asarray(np.exp(-np.log(wide) / 2 + seeds / 2 * (np.log1p(squared) - np.log1p(squared / wide))))


def spent_p(p_value: float, looks: int) -> float:
    """P-value of the last of so many looks that is valid at all of them, whatever the looks have in common.

    A level alpha is spent as alpha / (j (j + 1)) at the j-th look, which sums to alpha over looks without an end
    (Lan and DeMets 1983, by Bonferroni). For looks at the same folds with more seeds, which no martingale describes.

    Args:
        p_value: Of the test at the last look.
        looks: How many there were, that one among them.
    """
    return min(1.0, p_value * looks * (looks + 1))


def anytime_p(differences: Sequence[float]) -> float | None:
    """P-value of paired differences that is valid after any number of seeds, declared or not; shape (n,), in order.

    1 / the largest `likelihood_ratio` of all looks from two seeds on (Ville's inequality). None as in `standard_error`.
    """
    if standard_error(differences) is None:
        return None
    largest = 1.0
    for seeds in range(2, len(differences) + 1):
        error = standard_error(differences[:seeds])
        if error is not None:
            statistic = float(np.mean(differences[:seeds])) / error
            largest = max(largest, float(likelihood_ratio(statistic, seeds)))
    return 1 / largest
