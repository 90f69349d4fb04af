"""The exact test of paired differences that assumes no distribution: all choices of signs are equally likely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import stats

EXACT = 12  # seeds up to which all flips are counted; beyond it as many are drawn as these have
SEED = 0  # of the draws


def sign_flip(differences: Sequence[float]) -> float | None:
    """Two-sided p-value of the sign-flip test of a mean difference of zero, from differences of shape (n,).

    If variant and baseline are exchangeable within each seed, a difference is as likely as its negative. The p-value is
    the share of all 2^n choices of signs whose mean is at least as far from zero (Fisher 1935, The Design of
    Experiments, section 21). It holds for any distribution that is symmetric about zero, and can be no smaller than
    `least_p(n)`. More than `EXACT` differences are flipped at random.

    None below two values and where all are zero.
    """
    if len(differences) < 2 or not np.any(differences):
        return None
    answer = stats.permutation_test(
        (np.asarray(differences, dtype=float),),
        np.mean,
        permutation_type="samples",
        vectorized=True,
        n_resamples=2**EXACT,
        rng=np.random.default_rng(SEED),
    )
    return float(min(1.0, answer.pvalue))


def least_p(n: int) -> float:
    """The smallest p-value that the sign-flip test of n differences can have: 0.25 for three, 0.0625 for five."""
    return float(2.0 ** (1 - min(n, EXACT)))


def seeds_to_reach(level: float) -> int:
    """Fewest differences with which the sign-flip test can have a p-value below `level`."""
    return next(n for n in range(2, 200) if 2.0 ** (1 - n) < level)
