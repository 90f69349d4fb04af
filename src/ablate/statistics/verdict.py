"""What is known of a variant's difference to the baseline: the one word that table, sentences and figures share."""

from __future__ import annotations

from enum import StrEnum


class Verdict(StrEnum):
    """What the seeds so far say of a difference in mAP50-95."""

    BETTER = "better"
    WORSE = "worse"
    EQUIVALENT = "equivalent"  # within the declared margin
    UNDECIDED = "undecided"
    OUT_OF_BUDGET = "out of budget"  # undecided, and no further seed may be run
