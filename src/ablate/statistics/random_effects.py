"""One effect on several data sets: its mean, how much it differs between them, and what the next one will show.

Data sets are the unit of replication: as seeds of one data set agree with one another more than with those of another,
trials of several data sets must not be taken together.

The customary random-effects analysis weights each data set by its precision and takes Hartung and Knapp's interval
(IntHout, Ioannidis and Borm 2014, BMC Medical Research Methodology 14:25). Here the precision would come from three to
five seeds, is itself known to a factor of two or more, and weights by it take data sets whose seeds happened to agree
for the surest: in simulation the interval covers 88 to 93 % in place of 95 %. With equal weights Hartung and Knapp's
interval is Student's over the data sets. That covers 95 to 96 %, is hardly wider where data sets do differ, and needs
no precision, so that it is there with one seed as well. `benchmarks/coverage.py data_sets` has both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from ablate.statistics.interval import Interval
from ablate.statistics.paired import LEVEL, paired_t, standard_error, t_interval

FEWEST = 3  # data sets from which the next one is predicted


class Prediction(NamedTuple):
    """What the next data set, measured as these were, will show.

    Attributes:
        interval: Prediction interval of its measured difference.
        higher: Probability that this difference is above zero.
    """

    interval: Interval
    higher: float


class Pooled(NamedTuple):
    """An effect over data sets, in the unit of the differences.

    Attributes:
        mean: Unweighted mean over the data sets.
        interval: With its 95 % interval over data sets; None from one, or where all are equal.
        p_value: That the mean is zero; None as above.
        between: Standard deviation of the true differences between data sets, without what seeds add to it; None where
            a data set has no standard error.
        prediction: Of the next data set; None from fewer than `FEWEST`.
    """

    mean: float
    interval: Interval | None
    p_value: float | None
    between: float | None
    prediction: Prediction | None


def pooled(differences: Sequence[float], errors: Sequence[float | None]) -> Pooled:
    """Pool the differences of some data sets.

    Args:
        differences: One for each data set, (k,), k at least 1.
        errors: Their standard errors, (k,); None where one is not known.
    """
    return Pooled(
        float(np.mean(differences)),
        t_interval(differences),
        paired_t(differences),
        between_data_sets(differences, errors),
        prediction(differences),
    )


def prediction(differences: Sequence[float], level: float = LEVEL) -> Prediction | None:
    """Predict the difference that the next data set will show, from those of k data sets, (k,).

    For a normal sample with unknown mean and variance, (next - mean) / (s sqrt(1 + 1/k)) has Student's t distribution
    with k - 1 degrees of freedom (Fisher 1935). This is of the *measured* difference, with what as many seeds add; the
    interval for the true one by Higgins, Thompson and Spiegelhalter (2009, JRSS A 172, eq. 12; k - 2 degrees) covers
    88 to 99 % in simulation, depending on how much of the spread is of the seeds.
    """
    error = standard_error(differences)
    count = len(differences)
    if count < FEWEST or error is None:
        return None
    mean, spread = float(np.mean(differences)), error * np.sqrt(count + 1)
    reach = float(special.stdtrit(count - 1, 0.5 + level / 2)) * spread
    return Prediction(
        Interval(mean, float(mean - reach), float(mean + reach)), float(special.stdtr(count - 1, mean / spread))
    )


def between_data_sets(differences: Sequence[float], errors: Sequence[float | None]) -> float | None:
    """Standard deviation of the true differences between data sets, by Paule and Mandel (1982).

    Zero where seeds alone explain that the differences are not the same.

    Args:
        differences: One for each data set, (k,).
        errors: Their standard errors, (k,).

    Returns:
        None below two data sets and where a standard error is not known.
    """
    all_errors = [error for error in errors if error is not None]
    if len(differences) < 2 or len(all_errors) < len(differences):
        return None
    if standard_error(differences) is None:  # all are equal, of which statsmodels takes the inverse
        return 0.0
    from statsmodels.stats.meta_analysis import combine_effects

    combined = combine_effects(np.array(differences), np.square(all_errors), method_re="iterated")
    return float(np.sqrt(max(combined.tau2, 0.0)))
