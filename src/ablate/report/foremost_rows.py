"""Which rows a figure or table shows where there are more than a reader can look at."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ablate.analysis.variant_row import Row


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


def alike(rows: Sequence[Row]) -> list[Row]:
    """The rows that take part, of these the ones over the seeds, or seeds and folds, that most of them are over.

    The accuracies of only these compare.
    """
    fair = [row for row in rows if row.takes_part]
    measured = Counter(frozenset(row.variant.by_replicate) for row in fair if row.variant.by_replicate)
    usual = measured.most_common(1)[0][0] if measured else frozenset()
    return [row for row in fair if row.variant.by_replicate.keys() == usual]
