"""What the differences to the baseline support and what they do not, comparison group by comparison group, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ablate.analysis.columns import accuracy_text, cell
from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.number_format import points
from ablate.analysis.phrases import count, interval_text, limited, listed, number_of, points_text, span
from ablate.analysis.variant_row import TO_FIND, Difference, Row
from ablate.findings.finding import Claim, Finding, Kind, Relation, direction, without_claims
from ablate.findings.normality import normality_doubt, sign_flip_text
from ablate.statistics.equivalence import equivalence_p
from ablate.statistics.paired import ALPHA, seeds_needed, smallest_detectable
from ablate.statistics.verdict import LEARNED

MOST_REASONS = 6  # for which variants were left out
MOST_NAMED = 4  # variants whose interval is said

Compared = tuple[Row, Difference]


def group_findings(comparison: Comparison, group: Group) -> list[Finding]:
    """The findings within one comparison group, most important first."""
    variants = [row for row in group.rows if not row.is_control]
    compared = [(row, row.difference) for row in variants if row.difference is not None]
    if not compared:
        trained = [row.label for row in variants if row.accuracy.primary is not None]
        if all(row.accuracy.primary is None for row in group.rows):
            text = f"No accuracy was measured for {listed(row.label for row in group.rows)}."
            return [Finding(text, Kind.MISSING)]
        if trained and not any(row.is_baseline for row in group.rows):
            what = "none of the components" if comparison.components else "module=none"
            text = f"There is no baseline ({what}) for {listed(trained)}, so there are no differences."
            return [Finding(text, Kind.MISSING)]
        return []
    baseline = compared[0][0].baseline
    fair = [(row, difference) for row, difference in compared if difference.is_comparable]
    tested = [one for one in fair if one[1].is_tested]
    untested = [one for one in fair if not one[1].is_tested]
    findings = [
        *_tested(tested, comparison),
        *([_untested(untested)] if untested else []),
    ]
    numbers = [_baseline_number(group, baseline, comparison.metric.label), *[""] * len(findings)]
    return [
        replace(finding, text=f"Compared with {baseline}{number}, {finding.text}")
        for finding, number in zip(findings, numbers, strict=False)
    ]


def unfair_findings(comparison: Comparison) -> list[Finding]:
    """Which differences may have other causes than the variant, and what was left out for it."""
    sentences = []
    unfair = [
        f"{row.label} ({points_text(row.difference.estimate)})"
        for row in comparison.rows
        if row.difference is not None and not row.is_comparable and row.control != "identity"
    ]
    if unfair:
        these = "These differences" if len(unfair) > 1 else "This difference"
        sentences.append(
            f"Training differed from that of the baseline for {listed(unfair)}. {these} may have other causes than the "
            "variant; see the notes."
        )
    left_out = comparison.left_out
    if left_out:
        sentences.append(f"strict=true leaves out {count(len(left_out), 'variant')}: {_reasons(left_out)}.")
    return without_claims(Kind.CHECK, sentences)


def _baseline_number(group: Group, label: str, accuracy: str) -> str:
    """The baseline's accuracy, in brackets; empty where it is not in the table."""
    row = next((row for row in group.rows if row.label == label), None)
    if row is None:
        return ""
    return f" ({accuracy} {accuracy_text(row.accuracy.primary)}, {number_of(row.variant.by_replicate)})"


def _tested(compared: Sequence[Compared], comparison: Comparison) -> list[Finding]:
    """Findings on differences with an interval; each text continues 'Compared with <baseline>, ...'."""
    tests, accuracy = comparison.tests, comparison.metric.label
    better = [(row, d) for row, d in compared if d.supported and d.estimate > 0]
    worse = [(row, d) for row, d in compared if d.supported and d.estimate < 0]
    blank = [(row, d) for row, d in compared if not d.has_learned]
    unsupported = [(row, d) for row, d in compared if d.has_learned and not d.supported]
    suggested = [(row, d) for row, d in unsupported if d.over_seeds is not None and d.over_seeds.excludes_zero]
    unclear = [(row, d) for row, d in unsupported if d.over_seeds is None or not d.over_seeds.excludes_zero]
    findings = []
    for word, these in (("higher", better), ("lower", worse)):
        if these:
            doubt = normality_doubt(these, comparison.tested)
            text = f"{accuracy} is significantly {word} for {_with_intervals(these, tests)}.{doubt}"
            findings.append(Finding(text, Kind.ACCURACY, _claims(these, tests)))
    for why, these in _by_reason(suggested).items():
        names = listed((_tested_difference(row, difference) for row, difference in these), MOST_NAMED)
        text = f"the 95% CI excludes zero but the difference is not significant {why} for {names}."
        findings.append(Finding(text, Kind.ACCURACY))
    if blank:
        names = listed((f"{row.label} ({points_text(d.estimate)})" for row, d in blank), MOST_NAMED)
        text = (
            f"nothing can be concluded for {names}: neither these networks nor the baseline have learned anything "
            f"(mean accuracies below {LEARNED:g})."
        )
        findings.append(Finding(text, Kind.ACCURACY))
    if unclear:
        text = (
            f"no significant difference was detected for {listed((row.label for row, _ in unclear), 6)}"
            f"{_undetectable([difference for _, difference in unclear], tests)}"
        )
        findings.append(Finding(text, Kind.ACCURACY))
    return findings


def _by_reason(compared: Sequence[Compared]) -> dict[str, list[Compared]]:
    """Differences that are not significant, by the test that decides it."""
    reasons: dict[str, list[Compared]] = {}
    for row, difference in compared:
        if difference.p_holm is None or difference.p_holm >= ALPHA:
            why = "after Holm correction"
        elif difference.p_sequential is not None and difference.p_sequential >= ALPHA:
            why = "at any number of looks, as the comparison was reported before (column p_sequential),"
        else:
            why = "by the tests that allow for skewed differences"
        reasons.setdefault(why, []).append((row, difference))
    return reasons


def _claims(compared: Sequence[Compared], tests: int) -> tuple[Claim, ...]:
    """That each is what the sign of its difference says, and small; also of those that are counted and not named."""
    claims = [Claim(row.label, direction(difference.estimate), row.baseline) for row, difference in compared]
    claims += [Claim(row.label, Relation.SMALL, row.baseline) for row, d in compared if _is_surely_small(d, tests)]
    return tuple(claims)


def _is_surely_small(difference: Difference, tests: int) -> bool:
    """Whether two one-sided tests, corrected for so many variants, show less than half a point either way.

    Not asked where a margin is declared: that margin then says what is small.
    """
    samples = difference.samples
    p_value = None if difference.margin is not None else equivalence_p(samples.values, TO_FIND, samples.share)
    return p_value is not None and p_value < ALPHA / max(1, tests)


def _smallness(difference: Difference, tests: int) -> str:
    """What is to be said of a significant difference that is small; empty of a larger one."""
    if difference.margin is not None or abs(difference.estimate) >= TO_FIND:
        return ""
    if _is_surely_small(difference, tests):
        return "; significant, but smaller than half a point"
    return "; measured smaller than half a point"


def _undetectable(differences: Sequence[Difference], tests: int) -> str:
    """How large a difference may be there all the same, and how many seeds would show a small one.

    By the test that `p_holm` makes, at its strictest step; the columns of the table are of a single test.
    """
    level = 1 - ALPHA / max(1, tests)
    units = differences[0].samples.unit
    with_spread = [
        (d.smallest_detectable, len(d.samples.values)) for d in differences if d.smallest_detectable is not None
    ]
    seeds = [n for _, n in with_spread]
    spreads = [_spread(size, n) for size, n in with_spread]
    sizes = [smallest_detectable(std, n, level) for std, n in zip(spreads, seeds, strict=True)]
    if all(len(d.samples.values) == 2 for d in differences):
        return f". From two {units}s no detectable difference can be given."
    if not sizes or None in sizes:
        return "."
    least = span(points(size, signed=False) for size in sorted(size for size in sizes if size is not None))
    with_seeds = f"{span(str(n) for n in sorted(seeds))} {units}s"
    how = "80% power" if tests < 2 else f"80% power, Holm-corrected for {tests} tests"
    bound = f"an 80% upper bound of the {units}-to-{units} variance"
    text = f". With {with_seeds}, the detectable difference is {least} points ({how}, by {bound})."
    if differences[0].samples.is_of_folds:
        return f"{text} No number of seeds is given: more seeds narrow only what seeds add, not what the images add."
    needed = [n for n in (seeds_needed(std, TO_FIND, level) for std in spreads) if n is not None]
    if len(needed) == len(spreads):
        text += f" By the same bound, detecting 0.5 points takes {span(str(n) for n in sorted(needed))} seeds."
    return text


def _spread(detectable: float, seeds: int) -> float | None:
    """Standard deviation of the paired differences for which this is the smallest detectable difference."""
    of_one = smallest_detectable(1.0, seeds)
    return None if of_one is None else detectable / of_one


def _untested(compared: Sequence[Compared]) -> Finding:
    """The finding on differences without an interval over seeds."""
    ranked = sorted(compared, key=lambda one: -one[1].estimate)
    ends = ranked if len(ranked) < 3 else [ranked[0], ranked[-1]]
    texts = [f"{points_text(difference.estimate)} for {row.label}" for row, difference in ends]
    if len(ranked) == 1:
        lead = f"the measured difference is {texts[0]}"
    else:
        between = " to " if len(ranked) > 2 else " and "
        lead = f"the measured differences {'range from' if len(ranked) > 2 else 'are'} {between.join(texts)}"
    return Finding(f"{lead}. {_why_untested(ranked)}", Kind.ACCURACY)


def _why_untested(compared: Sequence[Compared]) -> str:
    """Why there is no interval over seeds, or over folds, and what would give one."""
    unit = compared[0][1].samples.unit
    lack = f"so there is no CI over {unit}s, and an effect cannot be separated from {unit}-to-{unit} variance."
    numbers = [len(difference.samples.values) for _, difference in compared]
    fewest, most = min(numbers), max(numbers)
    if most == 1:
        shared = "shared " if any(row.replicates > 1 for row, _ in compared) else ""
        run = "Run more seeds, such as seed=range(0,3)" if unit == "seed" else "Run the folds that are missing"
        return f"There is one {shared}{unit}, {lack} {run}."
    units = f"{most} shared {unit}s" if fewest == most else f"{fewest} to {most} shared {unit}s"
    if fewest == 1:
        return (
            f"With one shared {unit} there is no variance, with more {unit}s the difference is the same on each, {lack}"
        )
    return f"The difference is the same on each of {units}, {lack}"


def _with_intervals(compared: Sequence[Compared], tests: int) -> str:
    """Names of significant differences with interval, corrected p-value, and whether they are small."""
    texts = [_tested_difference(row, difference, _smallness(difference, tests)) for row, difference in compared]
    return listed(texts, MOST_NAMED)


def _tested_difference(row: Row, difference: Difference, remark: str = "") -> str:
    interval = difference.over_seeds
    bounds = interval_text(interval.low, interval.high) if interval else "no CI"
    p_value = cell("p_holm", difference.p_holm)
    p_values = f"Holm-corrected p {p_value}{sign_flip_text(difference)}"
    return f"{row.label} ({points_text(difference.estimate)}, {bounds}, {p_values}{remark})"


def _reasons(left_out: dict[str, str]) -> str:
    """Variants with their reasons; those with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for variant, reason in left_out.items():
        by_reason.setdefault(reason or "reason unknown", []).append(variant)
    texts = [f"{listed(variants, 4)} ({reason})" for reason, variants in by_reason.items()]
    return limited(texts, MOST_REASONS, "reason")
