"""Variants whose results equal the baseline's to the last digit: what they change did not act.

Two trainings of one seed on one machine agree in every digit only where they compute the same. A loss that is never
called, or an option that nothing reads, shows in this way and in no other.
"""

from __future__ import annotations

from ablate.analysis.pairing import trial_pairs
from ablate.analysis.variants import Variant
from ablate.records.factor_levels import STOCK
from ablate.records.metrics import EpochRow
from ablate.records.trial_record import TrialRecord

IDENTITIES = ("identity", "stock")  # names of modules, losses and heads that change nothing: controls
_RESULTS = ("map50_95", "map50", "precision", "recall", "fitness")


def is_identical(variant: Variant, baseline: Variant) -> bool:
    """Tell whether metrics and training history of a variant are the baseline's, digit by digit, on every seed."""
    pairs = trial_pairs(variant, baseline)
    return bool(pairs) and all(_same(one, other) for one, other in pairs)


def is_identity(variant: Variant) -> bool:
    """Tell whether a variant is an identity control, joined or by name: all that it changes is an identity."""
    if variant.control is not None:
        return variant.control.kind == "identity"
    levels = variant.factors
    modules = [] if levels["module"] == "none" else levels["module"].split("+")
    changed = [*modules, *(levels[name] for name, level in STOCK.items() if levels[name] != level)]
    return bool(changed) and all(level.partition("[")[0] in IDENTITIES for level in changed)


def _same(one: TrialRecord, other: TrialRecord) -> bool:
    """Tell whether two trials gave the same; one epoch of losses is needed, for a coarse metric may agree by chance."""
    histories = [[_results(row) for row in trial.history] for trial in (one, other)]
    has_losses = any(name.startswith("train/") for row in histories[0] for name in row)
    same = (one.metrics, one.metrics_last, one.per_class) == (other.metrics, other.metrics_last, other.per_class)
    return has_losses and same and histories[0] == histories[1]


def _results(row: EpochRow) -> dict[str, object]:
    """Return what an epoch computed, without times and memory."""
    return {
        name: value for name, value in row.content.items() if name in _RESULTS or name.startswith(("train/", "val/"))
    }
