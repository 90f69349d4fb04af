"""The spread of paired differences from several variants that share a baseline, and an upper bound of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from ablate.statistics.paired import PLANNED, standard_error

SHARED = 0.25  # squared correlation of the differences of two variants whose noise and that of the baseline are alike


class PooledSpread(NamedTuple):
    """Standard deviation of paired differences.

    Attributes:
        std: Pooled over the variants.
        upper: Its upper bound, which holds in 80 % of all studies (as `upper_std`).
        differences: How many it is known from.
        variants: Of how many variants.
    """

    std: float
    upper: float
    differences: int
    variants: int


def pooled_spread(variants: Sequence[Sequence[float]], scale: float = 1.0) -> PooledSpread | None:
    """Return the spread that several samples share, as if all had the same.

    Variances are averaged by their degrees of freedom. Samples of k variants with one baseline are correlated by 1/2,
    so that their variances are by 1/4, and the average of variances with f degrees in all is known as from
    f / (1 + (k - 1) / 4) degrees (its variance, by Satterthwaite 1946, Biometrics Bulletin 2).

    Args:
        variants: Differences of each variant, shape (n,) each; those of one value and of no spread are left out.
        scale: By which the spread is multiplied: the square root of two, where the samples are accuracies and their
            differences would not be paired.

    Returns:
        None below two degrees of freedom, from which nothing can be planned (`upper_std`).
    """
    samples = [np.asarray(one, float) for one in variants if standard_error(one) is not None]
    degrees = np.array([len(one) - 1 for one in samples])
    total = degrees.sum()
    freedom = total / (1 + SHARED * (len(samples) - 1))
    if total < 2 or freedom < 2 - 1e-9:
        return None
    variance = float(sum(f * one.var(ddof=1) for f, one in zip(degrees, samples, strict=True)) / total)
    std = scale * float(np.sqrt(variance))
    upper = std * float(np.sqrt(freedom / special.chdtri(freedom, PLANNED)))
    return PooledSpread(std, upper, int(degrees.sum() + len(samples)), len(samples))
