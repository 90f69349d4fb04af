"""Student's t over the folds of a cross-validation, with the variance that overlapping training images leave out.

The trainings of two folds share most of their training images, so their differences are not independent, and the
plain variance of their mean is too small. Nadeau and Bengio (2003, Inference for the generalization error, Machine
Learning 52, section 3) replace 1/n by 1/n + n_test/n_train, with n - 1 degrees of freedom. The seeds of one fold are no
further sample of images: they are averaged first, as the runs of one fold are in Bouckaert and Frank (2004,
Evaluating the replicability of significance tests, PAKDD). The same holds for any contrast that is computed for each
fold: an effect, an interaction, the difference of two variants. `Samples` are the values of one contrast with what
Student's t needs to know of them.

The factor is the true one where the differences of two folds correlate by n_test / n. Then the mean and the spread
between folds are independent, and the statistic has Student's distribution, noncentral where there is a difference: the
power is that of a test of as many seeds whose spread is sqrt(1 + k n_test / n_train) times that between folds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import fmean

from ablate.statistics.interval import Interval
from ablate.statistics.paired import LEVEL, paired_t, t_interval, upper_std


@dataclass(frozen=True)
class Samples:
    """The values of one contrast that a test is made of: of each seed, or the mean of each fold over its seeds.

    Attributes:
        values: Shape (n,).
        share: n_test / n_train of folds; 0 of seeds, which are independent.
    """

    values: tuple[float, ...]
    share: float = 0.0

    @property
    def is_of_folds(self) -> bool:
        """Whether they are means of folds."""
        return self.share > 0

    @property
    def unit(self) -> str:
        """What they are one of each of, in a word."""
        return "fold" if self.is_of_folds else "seed"

    @property
    def mean(self) -> float:
        """Their mean."""
        return fmean(self.values)

    @property
    def p_value(self) -> float | None:
        """Two-sided p-value of a mean of zero; None as in `standard_error`."""
        return paired_t(self.values, self.share)

    @property
    def upper_spread(self) -> float | None:
        """`upper_std` of as many independent values with the same error of the mean; None as there."""
        spread = upper_std(self.values)
        return None if spread is None else spread * sqrt(1 + len(self.values) * self.share)

    def interval(self, level: float = LEVEL) -> Interval | None:
        """The mean with its two-sided interval; None as in `standard_error`."""
        return t_interval(self.values, level, self.share)


def of_seeds(keys: Sequence[object], values: Sequence[float]) -> Samples:
    """Samples of values that are independent, one for each key."""
    return Samples(tuple(values))


def share_of_folds(folds: int) -> float:
    """n_test / n_train of a cross-validation of so many folds, at least 2."""
    return 1 / (folds - 1)


def fold_means(folds: Sequence[int], differences: Sequence[float]) -> list[float]:
    """Mean difference of each fold over its seeds.

    Args:
        folds: Of each trial, shape (n,).
        differences: Of each trial, shape (n,).

    Returns:
        Shape (k,), in ascending order of the folds.
    """
    of_fold: dict[int, list[float]] = {}
    for fold, difference in zip(folds, differences, strict=True):
        of_fold.setdefault(fold, []).append(difference)
    return [fmean(of_fold[fold]) for fold in sorted(of_fold)]
