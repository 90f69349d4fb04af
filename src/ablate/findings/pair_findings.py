"""Variants with one another, and what remains of the best of many, in words."""

from __future__ import annotations

from ablate.analysis.all_pairs_compared import GroupOfPairs, PairCompared, best_of_many, groups_of_pairs
from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.pairing import shared_replicates
from ablate.analysis.phrases import estimate_text, interval_text, limited, points_text, trials_of
from ablate.findings.finding import Claim, Finding, Kind, direction
from ablate.findings.normality import few_seeds_doubt
from ablate.records.replicate import Replicate
from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, is_significant

MOST = 4  # pairs that are said
MOST_LETTERS = 16  # variants whose letters are said


def pair_findings(comparison: Comparison) -> list[Finding]:
    """Which variants are told apart from one another, group by group."""
    groups = groups_of_pairs(comparison)
    pairs = sum(len(group.pairs) for group in groups)
    is_skewed = comparison.skewness is not None and comparison.skewness.is_notable
    return [_pairs(group, pairs, is_skewed) for group in groups]


def best_findings(comparison: Comparison) -> list[Finding]:
    """What the largest of several differences would probably be in other trainings, group by group.

    Not of a design of components: its variants are no draws from a crowd, as each shares components with others.
    """
    groups = [] if comparison.components else comparison.groups
    return [finding for group in groups for finding in _best(group)]


def _pairs(group: GroupOfPairs, pairs: int, is_skewed: bool) -> Finding:
    apart = sorted((p for p in group.pairs if p.is_apart), key=lambda pair: -abs(pair.interval.estimate))
    if any(row.folds for row in group.rows):
        test = "corrected resampled t-test"
    else:  # the differences look skewed: the larger p-value is taken
        test = "paired t-test and sign-flip test" if is_skewed else "paired t-test"
    how = f"{test}, Holm-corrected for {pairs} pairs" if pairs > 1 else test
    if not apart:
        which = "The two variants cannot" if len(group.rows) == 3 else "No two variants can"
        why = ""
        if any(is_significant(pair.p_holm) for pair in group.pairs):
            why = f": where p is below {ALPHA:g}, neither of the pair differs significantly from the baseline"
        largest = max(group.pairs, key=lambda pair: abs(pair.interval.estimate))
        text = f"{which} be told apart from one another ({how}){why}. {_measured(largest, len(group.pairs))}."
        return Finding(text, Kind.PAIRS)
    claims = tuple(Claim(p.first.label, direction(p.interval.estimate), p.second.label) for p in apart)
    text = f"Variants with one another ({how}): {limited([_pair(pair) for pair in apart], MOST, 'pair')}."
    text += few_seeds_doubt((_shared(pair) for pair in apart), pairs)
    if all(group.letters) and len(group.rows) <= MOST_LETTERS:
        lettered = zip(group.rows, group.letters, strict=True)
        shown = ", ".join(f"{row.label} ({letters})" for row, letters in lettered)
        text += f" Those that share a letter cannot be told apart: {shown}."
    return Finding(text, Kind.PAIRS, claims)


def _shared(pair: PairCompared) -> list[Replicate]:
    """The seeds, and folds where there are some, that both of a pair were measured with."""
    return shared_replicates(pair.first.variant, pair.second.variant)


def _measured(pair: PairCompared, pairs: int) -> str:
    """The difference of a pair that is not told apart, as it was measured."""
    which = "Measured:" if pairs == 1 else "The largest measured difference:"
    first, second, interval = _better_first(pair)
    p_value = f"p {cell('p_holm', pair.p_holm)}"
    return f"{which} {first} minus {second} {estimate_text(interval.estimate, interval, p_value)}"


def _pair(pair: PairCompared) -> str:
    """A pair with the better one first."""
    first, second, interval = _better_first(pair)
    test = f"{interval_text(interval.low, interval.high)}, p {cell('p_holm', pair.p_holm)}"
    return f"{first} is {points_text(interval.estimate).lstrip('+')} higher than {second} ({test})"


def _better_first(pair: PairCompared) -> tuple[str, str, Interval]:
    interval, first, second = pair.interval, pair.first.label, pair.second.label
    if interval.estimate >= 0:
        return first, second, interval
    return second, first, Interval(-interval.estimate, -interval.high, -interval.low)


def _best(group: Group) -> list[Finding]:
    best = best_of_many(group)
    if best is None:
        return []
    difference = best.row.difference
    over = ""
    if difference is not None and best.replicates != difference.replicates:
        over = f" over the {trials_of(best.replicates)} that all of them have"
    text = (
        f"The best of {best.of} variants, {best.row.label}, measured {points_text(best.measured)}{over}. The best of "
        f"many is partly luck: allowing for that, {points_text(best.shrunken)} is expected of it in other trainings "
        "(empirical Bayes, shrunken towards the mean of the variants)."
    )
    return [Finding(text, Kind.ACCURACY)]
