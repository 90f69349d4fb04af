"""What is known of a variant's difference to the baseline: the one word that table, sentences and figures share."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from statistics import fmean

LEARNED = 0.01  # mean accuracy from which networks have learned anything; below it no difference tells of the variant
NOTHING_LEARNED = "nothing learned"


class Verdict(StrEnum):
    """What the seeds so far say of a difference in accuracy."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"  # within the declared margin
    UNDECIDED = "undecided"
    OUT_OF_BUDGET = "out of budget"  # undecided, and no further seed may be run


def has_learned(variant: Sequence[float], baseline: Sequence[float]) -> bool:
    """Whether a variant or its baseline has learned anything: a mean accuracy of at least `LEARNED`.

    Args:
        variant: Accuracies, fractions, shape (n,).
        baseline: Those of its baseline, shape (n,).
    """
    return not (variant and baseline) or max(fmean(variant), fmean(baseline)) >= LEARNED
