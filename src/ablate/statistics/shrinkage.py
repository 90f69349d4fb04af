"""The best of many variants is partly luck: what remains of its difference when it is trained again."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

FEWEST = 3  # variants of which a variance between them can be estimated


class Shrunken(NamedTuple):
    """Differences to the baseline pulled towards their mean.

    `kept` is the share of each deviation from the mean that is kept: the estimated variance between variants over that
    of their means. `differences` are in the order of the variants.
    """

    differences: tuple[float, ...]
    kept: float


def shrunken(differences: np.ndarray, share: float = 0.0) -> Shrunken | None:
    """Empirical Bayes estimates of the differences of several variants to one baseline.

    Variants are blocks over seeds: what a seed does to all of them, the baseline's part among it, cancels in the
    deviations from the mean over variants. With F the ratio of the mean square between variants to that of the
    residuals, the share kept is max(0, 1 - 1/F): method of moments for the variance between variants, with the
    positive part (Efron and Morris 1973, JASA 68, 117-130; Robbins 1956).

    Args:
        differences: Shape (variants, seeds), variant minus baseline; of folds the means, (variants, folds).
        share: n_test / n_train of folds, whose means vary by 1 + folds * share times what the residuals say
            (`resampled`).

    Returns:
        None below `FEWEST` variants or two seeds.
    """
    variants, seeds = differences.shape
    if variants < FEWEST or seeds < 2:
        return None
    means, mean = differences.mean(axis=1), differences.mean()
    residual = differences - means[:, None] - differences.mean(axis=0) + mean
    within = float((residual**2).sum()) / ((variants - 1) * (seeds - 1)) * (1 + seeds * share)
    between = seeds * float(((means - mean) ** 2).sum()) / (variants - 1)
    weight = max(0.0, 1 - within / between) if between > 0 else 0.0
    return Shrunken(tuple((mean + weight * (means - mean)).tolist()), weight)
