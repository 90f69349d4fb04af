"""Student's t over the folds of a cross-validation, with the variance that overlapping training images leave out.

The trainings of two folds share most of their training images, so their differences are not independent, and the
plain variance of their mean is too small. Nadeau and Bengio (2003, Inference for the generalization error, Machine
Learning 52, section 3) replace 1/n by 1/n + n_test/n_train, with n - 1 degrees of freedom. The seeds of one fold are no
further sample of images: they are averaged first, as the runs of one fold are in Bouckaert and Frank (2004,
Evaluating the replicability of significance tests, PAKDD). `standard_error`, `t_interval`, `paired_t` and
`equivalence_p` take the means of folds with this share.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean


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
