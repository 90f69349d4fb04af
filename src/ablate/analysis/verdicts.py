"""What is known of each difference, in one word: made here, and read by tables, sentences and figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ablate.analysis.identical_results import is_identity
from ablate.analysis.variant_row import Difference, Row
from ablate.records.sweep_record import AnalysisPlan
from ablate.statistics.equivalence import equivalence_p
from ablate.statistics.paired import holm
from ablate.statistics.verdict import Verdict

IDENTITY = "identity"


def with_verdicts(rows: Sequence[Row], plan: AnalysisPlan) -> list[Row]:
    """Rows whose p-values are corrected, with their tests of equivalence and their verdicts.

    The tests of equivalence are a family of their own, corrected by Holm over the variants that may be compared. An
    identity control answers another question, whether the comparison is sound, and is tested alone.
    """
    raw = [_equivalence_p(row, plan) for row in rows]
    in_family = [row.takes_part for row in rows]
    corrected = holm([p if member else None for p, member in zip(raw, in_family, strict=True)])
    answers = []
    for row, alone, holms, member in zip(rows, raw, corrected, in_family, strict=True):
        if row.difference is None:
            answers.append(row)
            continue
        p_equivalence = holms if member else alone if row.control == IDENTITY and row.is_comparable else None
        tested = replace(row.difference, p_equivalence=p_equivalence, margin=plan.delta)
        is_judged = row.is_comparable and (member or row.control == IDENTITY or tested.looks is not None)
        verdict = verdict_of(tested, plan, of_identity=is_identity(row.variant)) if is_judged else None
        answers.append(replace(row, difference=replace(tested, verdict=verdict)))
    return answers


def verdict_of(difference: Difference, plan: AnalysisPlan, *, of_identity: bool = False) -> Verdict | None:
    """What a fixed number of seeds, or the looks at a growing one, say of a difference; None where nothing was tested.

    A difference may be better and within the margin at once: it is then BETTER, and `is_within_margin` holds too.
    Where neither has learned anything it is UNDECIDED. Otherwise differences that are all exactly zero make an identity
    equivalent: the two trainings computed the same. For any other variant they are no evidence: its change did not act.
    """
    if difference.looks is not None:
        return difference.looks.verdict
    if not difference.has_learned:
        return Verdict.UNDECIDED
    if difference.supported:
        return Verdict.BETTER if difference.estimate > 0 else Verdict.WORSE
    if difference.is_within_margin or (plan.delta is not None and of_identity and difference.is_always_zero):
        return Verdict.EQUIVALENT
    was_tested = difference.p_holm is not None or difference.p_equivalence is not None
    return Verdict.UNDECIDED if was_tested else None


def _equivalence_p(row: Row, plan: AnalysisPlan) -> float | None:
    if row.difference is None or row.difference.looks is not None or plan.delta is None:
        return None
    if row.difference.p_sequential is not None:  # reported before: the test is for a number of seeds fixed beforehand
        return None
    samples = row.difference.samples
    return equivalence_p(samples.values, plan.delta, samples.share)
