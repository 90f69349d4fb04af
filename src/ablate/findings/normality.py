"""What a significant difference rests on beyond its t-test, in words: whether the exact test could agree, and does.

Student's test of few skewed differences is wrong more often than it says (docs/statistics.md, skew and collapse), and
few seeds do not show skew. The sentence that makes a claim therefore has the answer of the test that needs no normal
distribution.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from ablate.analysis.columns import cell
from ablate.analysis.phrases import listed, span, unit_of
from ablate.analysis.variant_row import Difference, Row
from ablate.records.replicate import Replicate
from ablate.statistics.paired import ALPHA, holm
from ablate.statistics.sign_flip import least_p

MOST = 4  # variants that are named


def sign_flip_text(difference: Difference) -> str:
    """The exact test's p-value behind a corrected one; empty where there is none, as over folds."""
    p_value = difference.p_sign_flip
    return "" if p_value is None else f", uncorrected sign-flip p {cell('p_sign_flip', p_value)}"


def normality_doubt(compared: Sequence[tuple[Row, Difference]], tests: int) -> str:
    """What the exact test says of differences that are called significant; empty where it agrees, and over folds.

    Args:
        compared: Rows with their differences to the baseline.
        tests: That p-values are corrected for.
    """
    exact = [(row.label, d.p_sign_flip, len(d.values)) for row, d in compared if d.p_sign_flip is not None]
    few = {number for *_, number in exact if least_p(number) * max(1, tests) >= ALPHA}
    others = [1.0] * (tests - len(exact))  # not significant by t: their exact p-values are taken to be the larger ones
    corrected = holm([*(p_value for _, p_value, _ in exact), *others])
    against = [
        label
        for (label, _, number), p_value in zip(exact, corrected, strict=False)
        if number not in few and p_value is not None and p_value >= ALPHA
    ]
    text = _too_few(few, tests)
    if against:
        text += (
            " The exact sign-flip test, which does not assume normal differences, does not confirm "
            f"{listed(against, MOST)}."
        )
    return text


def few_seeds_doubt(claimed: Iterable[Collection[Replicate]]) -> str:
    """The same of other contrasts that are called significant, where seeds are so few that it can never agree.

    Args:
        claimed: The seeds that each rests on; folds, which have no exact test, are left out.
    """
    return few_units_doubt(len(seeds) for seeds in claimed if unit_of(seeds) == "seed")


def few_units_doubt(numbers: Iterable[int], unit: str = "seed") -> str:
    """The same of contrasts over so many seeds, or other units, each."""
    return _too_few({number for number in numbers if least_p(number) >= ALPHA}, 1, unit)


def _too_few(numbers: Collection[int], tests: int, unit: str = "seed") -> str:
    if not numbers:
        return ""
    few = sorted(numbers)
    lowest = span(f"{least_p(number):g}" for number in reversed(few))
    before = f" before correction for {tests} tests" if tests > 1 else ""
    return (
        f" With {span(map(str, few))} {unit}s the exact sign-flip test, which does not assume normal differences as "
        f"t-tests do, cannot confirm this (its p is at least {lowest}{before})."
    )
