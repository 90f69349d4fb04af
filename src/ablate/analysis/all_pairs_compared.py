"""The variants of a comparison group with one another: which are told apart, and what remains of the best of many."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.pairing import samples_of
from ablate.analysis.variant_row import Row
from ablate.records.replicate import Replicate
from ablate.statistics.all_pairs import Pair, all_pairs, letters
from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, holm
from ablate.statistics.shrinkage import shrunken

MOST_VARIANTS = 40  # of a group: 780 pairs, of which hardly any would be told apart


@dataclass(frozen=True)
class PairCompared:
    """Two variants beside the baseline; the interval is of the first minus the second, `p_holm` over all pairs."""

    first: Row
    second: Row
    interval: Interval
    p_holm: float

    @property
    def is_apart(self) -> bool:
        """Whether the two are told apart: significant, and at least one of them differs from the baseline.

        If two variants differ, one of them differs from the baseline; by asking for it, a report in which nothing
        differs says nothing of pairs either, but where the test against the baseline erred already.
        """
        differs = any(row.difference is not None and row.difference.supported for row in (self.first, self.second))
        return differs and self.p_holm < ALPHA


@dataclass(frozen=True)
class GroupOfPairs:
    """One comparison group: its rows by falling accuracy with their letters, and its pairs beside the baseline.

    Two rows share a letter if and only if they are not told apart.
    """

    rows: tuple[Row, ...]
    letters: tuple[str, ...]
    pairs: tuple[PairCompared, ...]


@dataclass(frozen=True)
class BestOfMany:
    """The variant with the largest difference among several, and that difference shrunken; fractions.

    Both are over `replicates`, which all of the variants share with the baseline.
    """

    row: Row
    of: int
    measured: float
    shrunken: float
    replicates: tuple[Replicate, ...]


def groups_of_pairs(comparison: Comparison) -> list[GroupOfPairs]:
    """The comparison groups with two variants or more beside the baseline; Holm's correction is over all pairs."""
    is_skewed = comparison.skewness is not None and comparison.skewness.is_notable
    learned = [group for group in comparison.groups if group.baseline is not None and group.has_learned]
    groups = [group for group in learned if 2 <= len(group.compared) <= MOST_VARIANTS]
    tested = [_pairs(group, is_skewed) for group in groups]
    corrected = iter(holm([pair.p_value for pairs in tested for pair in pairs]))
    compared = []
    for group, pairs in zip(groups, tested, strict=True):
        rows = group.compared
        made = [
            PairCompared(rows[pair.first], rows[pair.second], pair.interval, p_holm)
            for pair, p_holm in zip(pairs, corrected, strict=False)
            if p_holm is not None
        ]
        compared.append(_with_letters(group, tuple(made)))
    return [one for one in compared if one.pairs]


def best_of_many(group: Group) -> BestOfMany | None:
    """The best of a group's variants with its shrunken difference; None below three variants or two shared seeds.

    None too where nothing was learned. Over folds it is of the means of two folds or more.
    """
    compared = [(row, row.difference) for row in group.compared if row.difference is not None]
    by_replicate = [dict(zip(d.replicates, d.values, strict=True)) for _, d in compared]
    shared = sorted(set.intersection(*map(set, by_replicate))) if by_replicate else []
    share = compared[0][1].fold_share if compared else None
    samples = [samples_of(shared, [values[one] for one in shared], share).values for values in by_replicate]
    table = np.array(samples)
    estimate = shrunken(table, share or 0.0) if table.ndim == 2 and group.has_learned else None
    if estimate is None:
        return None
    means = table.mean(axis=1)
    best = int(np.argmax(means))
    return BestOfMany(compared[best][0], len(compared), float(means[best]), estimate.differences[best], tuple(shared))


def _pairs(group: Group, is_skewed: bool) -> list[Pair]:
    """The tested pairs of a group; over folds there is no sign-flip test that could be asked where they look skewed."""
    variants = [row.variant for row in group.compared]
    share = variants[0].fold_share
    accuracies = [variant.accuracy() for variant in variants]
    if share is None:
        return all_pairs(accuracies, is_skewed=is_skewed)
    return all_pairs(accuracies, samples=lambda shared, values: samples_of(shared, values, share))


def _with_letters(group: Group, pairs: tuple[PairCompared, ...]) -> GroupOfPairs:
    baseline = [row for row in group.rows if row.variant is group.baseline and row.is_comparable]
    rows = sorted([*baseline, *group.compared], key=lambda row: -(row.accuracy.primary or 0.0))
    place = {id(row): index for index, row in enumerate(rows)}
    apart = [(place[id(pair.first)], place[id(pair.second)]) for pair in pairs if pair.is_apart]
    apart += [(place[id(row)], place[id(of)]) for of in baseline for row in group.compared if _is_supported(row)]
    return GroupOfPairs(tuple(rows), tuple(letters(len(rows), apart)), pairs)


def _is_supported(row: Row) -> bool:
    return row.difference is not None and row.difference.supported
