"""The tests of a comparison that are corrected together, and the verdicts that follow."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ablate.analysis.variant_row import Difference, Row
from ablate.analysis.verdicts import with_verdicts
from ablate.records.sweep_record import AnalysisPlan
from ablate.statistics.paired import holm
from ablate.statistics.sequential import anytime_p, spent_p
from ablate.statistics.skewness import PooledSkewness, pooled_skewness, skewed_p


def corrected_rows(rows: Sequence[Row], plan: AnalysisPlan, earlier_looks: int) -> list[Row]:
    """Rows with verdicts, after Holm's correction over all differences that are comparable and no control's.

    Args:
        rows: Of all comparison groups.
        plan: What was declared of the analysis.
        earlier_looks: How often the same comparison was reported before.
    """
    family = _family(rows)
    skewness = family_skewness(rows)
    p_holm = holm([difference.p_value for difference in family])
    p_holm = [p if one.looks is None else one.looks.p_value for one, p in zip(family, p_holm, strict=True)]
    sequential = [difference.p_sequential for difference in family]
    if earlier_looks:
        sequential = holm([_p_of_looks(difference, earlier_looks + 1) for difference in family])
    p_skewed: list[float | None] = [None] * len(family)
    if skewness is not None and skewness.is_notable:
        p_skewed = holm([_largest_p(difference, skewness.population) for difference in family])
    corrected = {
        id(difference): replace(difference, p_holm=p, p_skewed=of_skewed, p_sequential=of_looks)
        for difference, p, of_skewed, of_looks in zip(family, p_holm, p_skewed, sequential, strict=True)
    }
    return with_verdicts([replace(r, difference=corrected.get(id(r.difference), r.difference)) for r in rows], plan)


def family_skewness(rows: Iterable[Row]) -> PooledSkewness | None:
    """Of the differences that are corrected together; None where none has three seeds, or three folds."""
    return pooled_skewness([difference.samples.values for difference in _family(rows)])


def _family(rows: Iterable[Row]) -> list[Difference]:
    """The differences that are corrected together."""
    return [row.difference for row in rows if row.difference and row.takes_part]


def _p_of_looks(difference: Difference, looks: int) -> float | None:
    """The p-value that is valid after so many looks: seeds come one by one, folds are the same ones at each look."""
    if difference.samples.is_of_folds:
        return None if difference.p_value is None else spent_p(difference.p_value, looks)
    return anytime_p(difference.values)


def _largest_p(difference: Difference, skewness: float) -> float | None:
    """The p-value on which three tests agree, of which two do not need the normal distribution; none over folds."""
    p_values = (difference.p_value, difference.p_sign_flip, skewed_p(difference.values, skewness))
    return None if None in p_values else max(p for p in p_values if p is not None)
