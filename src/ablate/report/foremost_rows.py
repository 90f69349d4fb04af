"""Which rows a figure or table shows where there are more than a reader can look at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ablate.analysis.variant_row import Row
from ablate.records.replicate import Replicate


def foremost(rows: Sequence[Row], most: int) -> list[Row]:
    """At most so many rows of a comparison group, in their order: the baseline and the largest differences to it."""
    if len(rows) <= most:
        return list(rows)
    chosen = {id(row) for row in sorted(rows, key=_size, reverse=True)[:most]}
    return [row for row in rows if id(row) in chosen]


def limit_text(shown: int, total: int, what: str, how: str = "by size of the difference") -> str:
    """Words for a limit, such as ' The first 30 of 100 variants by size of the difference are shown.'."""
    return f" The first {shown} of {total} {what} {how} are shown." if shown < total else ""


def _size(row: Row) -> float:
    if row.is_baseline:
        return math.inf
    return -1.0 if row.difference is None else abs(row.difference.estimate)


def usual_replicates(rows: Sequence[Row]) -> frozenset[Replicate]:
    """The seeds, or seeds and folds, that most measured rows are over; the accuracies of only these compare."""
    measured = Counter(frozenset(row.variant.by_replicate) for row in rows if row.variant.by_replicate)
    return measured.most_common(1)[0][0] if measured else frozenset()
