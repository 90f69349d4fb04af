"""Is a difference too small to matter? Two one-sided t-tests against a margin that was declared beforehand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import special

from ablate.statistics.paired import standard_error


def equivalence_p(differences: Sequence[float], margin: float, share: float = 0.0) -> float | None:
    """P-value of the claim that the true mean difference lies within +-margin.

    The larger of two one-sided p-values (TOST: Schuirmann 1987, Journal of Pharmacokinetics and Biopharmaceutics 15;
    intersection-union, so that it needs no correction for the two sides). Below 0.05 exactly where the 90 % t interval
    lies within the margin.

    Args:
        differences: Paired by seed, shape (n,).
        margin: Above 0, in their unit.
        share: n_test / n_train of folds, as in `standard_error`.

    Returns:
        None below two differences, and where all are equal up to rounding (`standard_error`).
    """
    error = standard_error(differences, share)
    if error is None:
        return None
    return float(special.stdtr(len(differences) - 1, (abs(float(np.mean(differences))) - margin) / error))
