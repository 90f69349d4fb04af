"""Which differences are smaller than the declared margin, in words."""

from __future__ import annotations

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.number_format import points
from ablate.analysis.phrases import interval_text, limited, listed, points_text
from ablate.analysis.variant_row import Row
from ablate.findings.finding import Claim, Finding, Kind, Relation
from ablate.findings.late_declarations import is_margin_late
from ablate.statistics.verdict import Verdict

MOST = 4  # variants whose interval is said


def equivalence_findings(comparison: Comparison) -> list[Finding]:
    """What is equivalent to the baseline within the margin, what is better or worse by less, and what is open."""
    margin = comparison.sweep.plan.delta
    if margin is None or comparison.sweep.manifest.analysis.until is not None:  # told by looks_findings
        return []
    rows = [row for group in comparison.groups for row in group.compared]
    size = f"{points(margin, signed=False)} points"
    alike = [row for row in rows if _verdict(row) is Verdict.EQUIVALENT]
    small = [
        row
        for row in rows
        if row.difference is not None and row.difference.supported and row.difference.is_within_margin
    ]
    undecided = [row for row in rows if _verdict(row) is Verdict.UNDECIDED]
    texts, claims = [], []
    if alike:
        texts.append(f"{limited([_tested_margin(row) for row in alike], MOST)}: equivalent to the baseline.")
        claims += [_claim(row) for row in alike]
    for verdict in (Verdict.BETTER, Verdict.WORSE):
        these = [row for row in small if _verdict(row) is verdict]
        if these:
            texts.append(
                f"{limited([_tested_margin(row) for row in these], MOST)}: {verdict}, but by less than {size}."
            )
            claims += [_claim(row) for row in these]
    if undecided:
        texts.append(
            f"Neither a difference nor equivalence is shown for {listed((row.label for row in undecided), 6)}."
        )
    if not texts:
        return []
    lead = f"Equivalence within ±{size}{' (declared after the results)' if is_margin_late(comparison.sweep) else ''}"
    units = {row.difference.samples.unit for row in rows if row.difference is not None}
    over = " and ".join(f"{unit}s" for unit in sorted(units, reverse=True))
    return [Finding(f"{lead}, over {over} (two one-sided t-tests): {' '.join(texts)}", Kind.EQUIVALENCE, tuple(claims))]


def _verdict(row: Row) -> Verdict | None:
    return None if row.difference is None else row.difference.verdict


def _claim(row: Row) -> Claim:
    return Claim(row.label, Relation.EQUIVALENT, row.baseline)


def _tested_margin(row: Row) -> str:
    """Name, difference, the 90 % interval that the two one-sided tests compare with the margin, corrected p-value."""
    difference = row.difference
    assert difference is not None
    interval = difference.samples.interval(0.9)
    if interval is None:
        return f"{row.label} ({points_text(difference.estimate)} on every {difference.samples.unit})"
    return (
        f"{row.label} ({points_text(difference.estimate)}, {interval_text(interval.low, interval.high, 0.9)}, "
        f"Holm-corrected p {cell('p_equivalence', difference.p_equivalence)})"
    )
