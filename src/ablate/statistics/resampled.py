"""Student's t over the folds of a cross-validation, with the variance that overlapping training images leave out.

The trainings of two folds share most of their training images, so their differences are not independent, and the
plain variance of their mean is too small. Nadeau and Bengio (2003, Inference for the generalization error, Machine
Learning 52, section 3) replace 1/n by 1/n + n_test/n_train, with n - 1 degrees of freedom. The seeds of one fold are no
further sample of images: they are averaged first, as the runs of one fold are in Bouckaert and Frank (2004,
Evaluating the replicability of significance tests, PAKDD).
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ablate.statistics.equivalence import equivalence_p
from ablate.statistics.interval import Interval
from ablate.statistics.paired import LEVEL, paired_t, standard_error, t_interval


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


def corrected_error(means: Sequence[float], share: float) -> float | None:
    """Standard error of the mean of `fold_means`, shape (k,); `share` is n_test / n_train. None as `standard_error`."""
    return standard_error(means, share)


def corrected_interval(means: Sequence[float], share: float, level: float = LEVEL) -> Interval | None:
    """Mean of `fold_means`, shape (k,), with its two-sided interval; None as in `standard_error`."""
    return t_interval(means, level, share)


def corrected_t(means: Sequence[float], share: float) -> float | None:
    """Two-sided p-value of a mean of zero, from `fold_means` of shape (k,); None as in `standard_error`."""
    return paired_t(means, share)


def corrected_equivalence_p(means: Sequence[float], margin: float, share: float) -> float | None:
    """P-value of the claim that the mean lies within +-margin (two one-sided tests); None as in `standard_error`."""
    return equivalence_p(means, margin, share)
