"""Cross-validations of two equally good methods, whose differences between folds depend on one another.

Each method estimates a mean from its training images: the better, the nearer it comes. Both estimate equally well over
all data sets, and not on any one of them. The training sets of two folds overlap, so what was learnt there is alike;
what the images of each part add to the difference is independent between parts.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

from ablate.statistics.paired import paired_t
from ablate.statistics.resampled import share_of_folds

Floats = npt.NDArray[np.float64]
NUMBERS = 10  # that each method estimates, one mean each
OF_SEEDS = 0.3  # of what a seed adds, in standard deviations of what differs between data sets


def fold_differences(random: np.random.Generator, studies: int, folds: int, of_images: float, seeds: int = 1) -> Floats:
    """Differences in squared error of two equally good methods, in standard deviations of a single fold's.

    Args:
        random: Of the data sets and seeds.
        studies: Data sets, each judged by one cross-validation.
        folds: Of each.
        of_images: Of what all images together would add as those that are judged on, in standard deviations of what
            differs by training images. A part adds sqrt(folds) times as much.
        seeds: Trainings of each fold.

    Returns:
        Of each study, seed and fold, (studies, seeds, folds).
    """
    parts = random.normal(size=(2, studies, folds, NUMBERS))  # mean of each part's images, for each method
    learnt = (parts.sum(2, keepdims=True) - parts) / np.sqrt(folds - 1)
    errors = (learnt**2).sum(-1)
    difference = (errors[0] - errors[1]) / np.sqrt(4 * NUMBERS)
    difference = difference + of_images * np.sqrt(folds) * random.normal(size=difference.shape)
    return np.asarray(difference[:, None, :] + OF_SEEDS * random.normal(size=(studies, seeds, folds)))


def false_alarms(differences: Floats) -> tuple[float, float]:
    """Share of studies in which a test at 5 % calls two equally good methods different.

    Args:
        differences: As `fold_differences` gives them.

    Returns:
        Of the plain t-test over all trainings, and of the corrected one over folds.
    """
    studies, _, folds = differences.shape
    every = differences.reshape(studies, -1)
    statistic = every.mean(1) / (every.std(1, ddof=1) / np.sqrt(every.shape[1]))
    plain = 2 * special.stdtr(every.shape[1] - 1, -np.abs(statistic))
    corrected = [paired_t(list(means), share_of_folds(folds)) for means in differences.mean(1)]
    return float(np.mean(plain < 0.05)), float(np.mean([p is not None and p < 0.05 for p in corrected]))
