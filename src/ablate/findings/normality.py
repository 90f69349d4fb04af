"""What a significant difference rests on beyond its t-test, in words: whether the exact test could agree, and does.

Student's test of few skewed differences is wrong more often than it says (docs/statistics.md, skew and collapse), and
few seeds do not show skew. The sentence that makes a claim therefore has the answer of the test that needs no normal
distribution.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace

from ablate.analysis.columns import cell
from ablate.analysis.phrases import listed, span, unit_of
from ablate.analysis.variant_row import Difference, Row
from ablate.findings.finding import Finding
from ablate.records.replicate import Replicate
from ablate.statistics.paired import ALPHA, holm, is_significant
from ablate.statistics.sign_flip import least_p

MOST = 4  # variants that are named
WHY = ", which does not assume normal differences as t-tests do,"


def sign_flip_text(difference: Difference) -> str:
    """The exact test's p-value behind a corrected one; empty where there is none, as over folds."""
    p_value = difference.p_sign_flip
    return "" if p_value is None else f", uncorrected sign-flip p {cell('p_sign_flip', p_value)}"


def normality_doubt(compared: Sequence[tuple[Row, Difference]], tested: Sequence[Difference]) -> str:
    """What the exact test says of differences that are called significant; empty where it agrees, and over folds.

    Args:
        compared: Rows with their differences to the baseline.
        tested: `Comparison.tested`, these differences among them: Holm's correction is over all of them.
    """
    p_values = [1.0 if one.p_sign_flip is None else one.p_sign_flip for one in tested]
    confirmed = [one for one, p in zip(tested, holm(p_values), strict=True) if is_significant(p)]
    doubted = [
        (row.label, len(one.values))
        for row, one in compared
        if one.p_sign_flip is not None and not any(one is other for other in confirmed)
    ]
    few = {number for _, number in doubted if least_p(number) * len(tested) >= ALPHA}
    text = _too_few(few, len(tested))
    against = [label for label, number in doubted if number not in few]
    return f"{text} The exact sign-flip test{WHY} does not confirm {listed(against, MOST)}." if against else text


def few_seeds_doubt(claimed: Iterable[Collection[Replicate]], tests: int = 1) -> str:
    """The same of other contrasts that are called significant, where seeds are so few that it can never agree.

    Args:
        claimed: The seeds that each rests on; folds, which have no exact test, are left out.
        tests: That p-values are corrected for.
    """
    return few_units_doubt((len(seeds) for seeds in claimed if unit_of(seeds) == "seed"), tests)


def few_units_doubt(numbers: Iterable[int], tests: int = 1, unit: str = "seed") -> str:
    """The same of contrasts over so many seeds, or other units, each."""
    return _too_few({number for number in numbers if least_p(number) * tests >= ALPHA}, tests, unit)


def _too_few(numbers: Collection[int], tests: int, unit: str = "seed") -> str:
    if not numbers:
        return ""
    few = sorted(numbers)
    before = f" before correction for {tests} tests" if tests > 1 else ""
    return (
        f" With {span(map(str, few))} {unit}s the exact sign-flip test{WHY} cannot be significant: its p is at least "
        f"{least_p(few[-1]):g}{before}."
    )


def explained_once(findings: Iterable[Finding]) -> list[Finding]:
    """Findings of which only the first that names the exact test says why it is named."""
    shown, is_explained = [], False
    for finding in findings:
        shown.append(replace(finding, text=finding.text.replace(WHY, "")) if is_explained else finding)
        is_explained = is_explained or WHY in finding.text
    return shown
