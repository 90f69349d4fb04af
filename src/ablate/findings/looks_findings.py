"""What is said of a sweep that was looked at more than once: its verdicts, or that p-values are too small."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.number_format import points
from ablate.analysis.phrases import count, joined, limited, points_text
from ablate.analysis.variant_row import Row
from ablate.findings.finding import Claim, Finding, Kind, Relation
from ablate.findings.late_declarations import is_margin_late
from ablate.findings.normality import few_units_doubt
from ablate.statistics.verdict import Verdict

MOST = 6  # variants that are named
CLAIMED = {
    Verdict.BETTER: Relation.HIGHER,
    Verdict.WORSE: Relation.LOWER,
    Verdict.EQUIVALENT: Relation.EQUIVALENT,
}


def looks_findings(comparison: Comparison) -> list[Finding]:
    """The verdicts of a sweep whose seeds were added; or a warning where a comparison was reported before."""
    plan = comparison.sweep.plan
    chosen = " (declared after the results)" if is_margin_late(comparison.sweep) else ""
    if plan.until is None:
        return _repeated(comparison)
    rows = [row for row in comparison.rows if row.difference is not None and row.difference.looks is not None]
    findings = []
    for verdict in Verdict:
        these = [row for row in rows if row.difference is not None and row.difference.verdict is verdict]
        if these:
            margin = (
                f" within ±{points(plan.delta or 0, signed=False)} points{chosen}"
                if verdict is Verdict.EQUIVALENT
                else ""
            )
            claims = [Claim(row.label, CLAIMED[verdict], row.baseline) for row in these if verdict in CLAIMED]
            text = f"{str(verdict).capitalize()}{margin}: {limited([_at_last_look(row) for row in these], MOST)}."
            if verdict in (Verdict.BETTER, Verdict.WORSE):
                text += few_units_doubt((len(row.difference.values) for row in these if row.difference), plan.tests)
            findings.append(Finding(text, Kind.ACCURACY, tuple(claims)))
    if findings:
        together = f" and for all {plan.tests} comparisons together" if plan.tests > 1 else ""
        text = (
            f"Seeds are added until a variant is decided or has {plan.max_seeds}. The intervals hold at all looks"
            f"{together} (95 %)."
        )
        if any(_has_ended_early(row, plan.max_seeds) for row in rows):
            text += " A difference that ended a variant early is, on average, further from zero than the true one."
        findings.append(Finding(text, Kind.CHECK))
    return findings


def verdicts_so_far(comparison: Comparison) -> list[str]:
    """The verdict on each variant of a sweep whose seeds are added, a line each."""
    rows = [row for row in comparison.rows if row.difference is not None and row.difference.looks is not None]
    return [f"{row.difference.verdict}: {_at_last_look(row)}" for row in rows if row.difference]


def _repeated(comparison: Comparison) -> list[Finding]:
    looks = comparison.sweep.manifest.looks
    if not looks:
        return []
    rows = [row for row in comparison.rows if row.difference is not None and row.difference.p_sequential is not None]
    values = [f"{row.label} {cell('p_sequential', row.difference.p_sequential)}" for row in rows if row.difference]
    text = (
        f"This comparison was reported before with {_listed(looks)} {'seed' if looks == (1,) else 'seeds'}. The "
        "p-values of a fixed number of seeds are too small for that; p_sequential holds however often one looks"
    )
    return [Finding(f"{text}: {limited(values, MOST)}." if values else f"{text}.", Kind.CHECK)]


def _has_ended_early(row: Row, most: int) -> bool:
    """Whether a variant was called better or worse before it had all the seeds that it might have."""
    difference = row.difference
    return (
        difference is not None
        and difference.verdict in (Verdict.BETTER, Verdict.WORSE)
        and len(difference.seeds) < most
    )


def _listed(looks: Sequence[int]) -> str:
    return joined([str(number) for number in looks])


def _at_last_look(row: Row) -> str:
    difference = row.difference
    assert difference is not None
    assert difference.looks is not None
    looks = difference.looks
    seeds = count(len(looks.differences), "seed")
    if looks.interval is None:
        alike = len(looks.differences) > 1 and len(set(looks.differences)) == 1
        words = f"{points_text(difference.estimate)} " + ("on every seed" if alike else f"with {seeds}, before a look")
    else:
        words = (
            f"{points_text(difference.estimate)}, {points(looks.interval.low)} to {points(looks.interval.high)} over "
            f"{seeds}"
        )
    return f"{row.label} ({words}{f'; {looks.reason}' if looks.reason else ''})"
