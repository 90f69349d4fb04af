"""What the test split says of the variants, and of what was chosen on the validation images, in words."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.number_format import points
from ablate.analysis.phrases import count, interval_text, limited, listed, points_text
from ablate.analysis.split_comparison import SplitRow, TestSplit
from ablate.analysis.variant_row import Difference
from ablate.findings.finding import Claim, Finding, Kind, Relation, direction, without_claims
from ablate.findings.normality import normality_doubt, sign_flip_text
from ablate.records.sweep_record import Sweep
from ablate.records.test_split import LedgerLine
from ablate.statistics.paired import ALPHA
from ablate.statistics.verdict import NOTHING_LEARNED, Verdict

MOST = 4  # variants whose numbers are said
MOST_GROUPS = 2  # comparison groups of which is said what led
OUTCOME = "accuracy on the test split"
SURE = (Verdict.BETTER, Verdict.WORSE, Verdict.EQUIVALENT)


def test_split_findings(comparison: Comparison) -> list[Finding]:
    """What holds on the test split, and what falls from the validation images to it; nothing where it is sealed."""
    split = comparison.on_test
    if split is None:
        return _without_result(comparison.sweep)
    compared = [one for one in split.rows if one.test.difference is not None and _may_be_compared(one)]
    findings = [_differences(split, compared)] if compared else []
    return findings + _falls(split)


test_split_findings.__test__ = False  # type: ignore[attr-defined]  # no test of pytest's


def _without_result(sweep: Sweep) -> list[Finding]:
    """That the test split was opened, where no result of it stands."""
    results = sweep.on_test
    if results is None or sweep.is_test:
        return []
    by_data: dict[str, list[LedgerLine]] = {}
    for line in results.openings_for(record.signature for record in sweep.trials):
        by_data.setdefault(line.data, []).append(line)
    why = "The opening was interrupted, or goes on now; the same command measures the checkpoints."
    if results.outdated:
        why = "The networks that were measured there have been trained anew since."
    texts = []
    for data, lines in by_data.items():
        by = f" ({lines[-1].command})" if lines[-1].command else ""
        times = _times(results.ledger.openings(data))
        name = lines[-1].data_name or "the data"
        texts.append(f"The test split of {name} was opened {times}{by}, and no result of it stands. {why}")
    return without_claims(Kind.TEST_SPLIT, texts)


def _may_be_compared(one: SplitRow) -> bool:
    return one.test.takes_part


def _differences(split: TestSplit, compared: Sequence[SplitRow]) -> Finding:
    """The differences on the test split with their verdicts, and where they disagree with the validation images."""
    ranked = sorted(compared, key=lambda one: (_verdict(one) not in SURE, -abs(one.test.estimate or 0.0)))
    text = f"On the test split ({_opened(split)}), compared with the baseline: "
    text += f"{limited([_difference(one) for one in ranked], MOST, 'variant')}."
    lost = [one.test.label for one in ranked if _is_lost(one)]
    if lost:
        those = "These differences are" if len(lost) > 1 else "This difference is"
        text += f" {those} significant on the validation images and not on the test split: {listed(lost, MOST)}."
    sure = [(one.test, one.test.difference) for one in ranked if one.test.difference and one.test.supported]
    text += normality_doubt(sure, split.comparison.tested)
    claims = [claim for one in ranked for claim in _claims(one)]
    return Finding(text, Kind.TEST_SPLIT, tuple(claims))


def _opened(split: TestSplit) -> str:
    """How many images there are, and how often and when they were first used."""
    texts = []
    for one in split.openings:
        data = f" of {one.data}" if len(split.openings) > 1 else ""
        texts.append(f"{count(one.images, 'image')}{data}{_when(one.lines)}")
    damage = f"; the ledger was tampered with: {split.damage}" if split.damage else ""
    return limited(texts, 2, "data set") + damage


def _when(openings: Sequence[LedgerLine]) -> str:
    return f", opened {_times(openings)}" if openings else ""


def _times(openings: Sequence[LedgerLine]) -> str:
    """How often a test split was opened, at least once, and the day of the first time."""
    day = openings[0].time[:10]
    return f"once, on {day}" if len(openings) == 1 else f"{len(openings)} times, first on {day}"


def _difference(one: SplitRow) -> str:
    """A variant's difference on the test split and on the validation images."""
    difference = one.test.difference
    assert difference is not None
    verdict = _verdict(one)
    interval = difference.over_seeds
    parts = [points_text(difference.estimate)]
    parts += [interval_text(interval.low, interval.high)] if interval else []
    if verdict is Verdict.EQUIVALENT and difference.p_equivalence is not None:
        parts.append(f"Holm-corrected p of equivalence {cell('p_equivalence', difference.p_equivalence)}")
    elif difference.p_holm is not None:
        corrected = "Holm-corrected p" if difference.looks is None else "corrected p"
        parts.append(f"{corrected} {cell('p_holm', difference.p_holm)}{_objection(difference)}")
        parts[-1] += sign_flip_text(difference) if one.test.supported else ""
    if one.validation is not None and one.validation.estimate is not None:
        parts.append(f"validation {points(one.validation.estimate)}")
    return f"{one.test.label} {verdict or 'not tested'} ({', '.join(parts)})"


def _objection(difference: Difference) -> str:
    """Why a difference with a small p is not significant all the same; empty where it is, or its p is large."""
    if difference.supported or difference.p_holm is None or difference.p_holm >= ALPHA:
        return ""
    if (difference.p_skewed or 0.0) >= ALPHA:
        return f", {cell('p_holm', difference.p_skewed)} by the tests that allow for skewed differences"
    if (difference.p_sequential or 0.0) >= ALPHA:
        return f", {cell('p_holm', difference.p_sequential)} at any number of looks"
    return "" if difference.has_learned else f", {NOTHING_LEARNED}"


def _verdict(one: SplitRow) -> Verdict | None:
    return one.test.difference.verdict if one.test.difference else None


def _is_lost(one: SplitRow) -> bool:
    return one.validation is not None and one.validation.supported and not one.test.supported


def _claims(one: SplitRow) -> list[Claim]:
    difference = one.test.difference
    if difference is None:
        return []
    claims = []
    if difference.supported:
        claims.append(Claim(one.test.label, direction(difference.estimate), one.test.baseline, OUTCOME))
    if difference.verdict is Verdict.EQUIVALENT:
        claims.append(Claim(one.test.label, Relation.EQUIVALENT, one.test.baseline, OUTCOME))
    return claims


def _falls(split: TestSplit) -> list[Finding]:
    """How much lower the same checkpoints are on the test split, of each data set; and what became of what led."""
    by_data: dict[str, list[SplitRow]] = {}
    for one in split.rows:
        if one.fall is not None and not one.test.is_control:
            by_data.setdefault(one.test.data, []).append(one)
    label = split.comparison.metric.label
    texts = [_fall(rows, label, data if len(by_data) > 1 else "") for data, rows in by_data.items()]
    if not texts:
        return []
    led = [text for group in split.groups if (text := _leader([one for one in group if _may_be_compared(one)]))]
    return [Finding(" ".join([*texts[:MOST], *led[:MOST_GROUPS]]), Kind.TEST_SPLIT)]


def _fall(rows: Sequence[SplitRow], label: str, data: str) -> str:
    """The mean fall over some variants, and which falls most and least."""
    falls = [(one.fall or 0.0, one.test.label) for one in rows]
    mean = fmean(fall for fall, _ in falls)
    text = (
        f"From the validation images to the test split{f' of {data}' if data else ''}, {label} of the same checkpoints "
    )
    text += f"{'falls' if mean >= 0 else 'rises'} by {points(abs(mean), signed=False)} points"
    if len(falls) > 1:
        (most, highest), (least, lowest) = max(falls), min(falls)
        text += f" on average over {count(len(falls), 'variant')}"
        if points(most) != points(least):
            text += f": most for {highest} ({points(-most)}), least for {lowest} ({points(-least)})"
    return f"{text}."


def _leader(compared: Sequence[SplitRow]) -> str:
    """What became of the variant that has the largest difference on the validation images; of several."""
    both = [
        (one.validation.estimate, one.test.estimate, one.test.label)
        for one in compared
        if one.validation is not None and one.validation.estimate is not None and one.test.estimate is not None
    ]
    if len(both) < 2:
        return ""
    before, after, label = max(both)
    rank = 1 + sum(other > after for _, other, _ in both)
    place = "highest too" if rank == 1 else f"number {rank}"
    return (
        f"Of {len(both)} variants {label} measured highest on the validation images ({points_text(before)} relative to "
        f"the baseline) and {place} on the test split ({points_text(after)})."
    )
