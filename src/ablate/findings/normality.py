"""What a significant difference rests on beyond its t-test, in words: whether the exact test could agree, and does."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.analysis.columns import cell
from ablate.analysis.phrases import listed, span
from ablate.analysis.variant_row import Difference, Row
from ablate.statistics.paired import ALPHA
from ablate.statistics.sign_flip import least_p

MOST = 4  # variants that are named


def sign_flip_text(difference: Difference) -> str:
    """The exact test's p-value behind another one; empty where there is none, as over folds."""
    return "" if difference.p_sign_flip is None else f", sign-flip p {cell('p_sign_flip', difference.p_sign_flip)}"


def normality_doubt(compared: Sequence[tuple[Row, Difference]], tests: int) -> str:
    """What the exact test, which needs no normal distribution, says of differences that are called significant.

    Student's test of few skewed differences is wrong more often than it says (docs/statistics.md, skew and collapse),
    and few seeds do not show skew. Empty where the exact test agrees, and over folds, which have none.

    Args:
        compared: Rows whose difference is called significant.
        tests: That p-values are corrected for.
    """
    exact = [(row, difference) for row, difference in compared if difference.p_sign_flip is not None]
    few = sorted({len(d.values) for _, d in exact if least_p(len(d.values)) * max(1, tests) >= ALPHA})
    text = ""
    if few:
        lowest = span(f"{least_p(n):g}" for n in reversed(few))
        text += (
            f" With {span(map(str, few))} seeds that assumes normal differences: by the exact sign-flip test, which "
            f"does not, no difference could be significant (its p is at least {lowest}"
            f"{f' before correction for {tests} tests' if tests > 1 else ''})."
        )
    against = [
        row.label
        for row, d in exact
        if len(d.values) not in few and d.p_sign_flip is not None and d.p_sign_flip >= ALPHA
    ]
    if against:
        text += (
            f" The exact sign-flip test, which does not assume normal differences, does not confirm "
            f"{listed(against, MOST)}."
        )
    return text
