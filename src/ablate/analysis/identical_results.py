"""Variants whose results equal the baseline's to the last digit: what they change did not act.

Two trainings of one seed on one machine agree in every digit only where they compute the same. A loss that is never
called, or an option that nothing reads, shows in this way and in no other.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence

from ablate.analysis.pairing import trial_pairs
from ablate.analysis.variants import Variant
from ablate.records.factor_levels import STOCK
from ablate.records.metrics import EpochRow
from ablate.records.trial_record import TrialRecord

IDENTITIES = ("identity", "stock")  # names of modules, losses and heads that change nothing: controls
_IDENTITY = re.compile(rf"({'|'.join(IDENTITIES)})($|\[|-)")  # stock-yolo26n: the ancestor of an imported network
_RESULTS = ("map50_95", "map50", "precision", "recall", "fitness")


def is_identical(variant: Variant, baseline: Variant) -> bool:
    """Tell whether metrics and training history of a variant are the baseline's, digit by digit, on every seed."""
    pairs = trial_pairs(variant, baseline)
    return bool(pairs) and all(has_same_results(one, other) for one, other in pairs)


def is_identity(variant: Variant) -> bool:
    """Tell whether a variant is an identity control, joined or by name: all that it changes is an identity."""
    if variant.control is not None:
        return variant.control.kind == "identity"
    return changes_nothing(variant.factors)


def changes_nothing(levels: Mapping[str, str]) -> bool:
    """Tell whether all that these levels of the factors change is an identity; False where they change nothing."""
    modules = [] if levels["module"] == "none" else levels["module"].split("+")
    changed = [*modules, *(levels[name] for name, level in STOCK.items() if levels[name] != level)]
    return bool(changed) and all(_IDENTITY.match(level) for level in changed)


def twins(variants: Sequence[Variant]) -> list[list[Variant]]:
    """Return variants of one comparison group whose results are the same digit by digit, though they should differ.

    Variants that differ in identities alone should not.
    """
    alike: dict[Hashable, list[Variant]] = {}  # by the final accuracies alone, which hardly any two share
    for variant in variants:
        trials = sorted(variant.by_replicate.items())
        alike.setdefault(tuple((one, *_final(trial)) for one, trial in trials), []).append(variant)
    groups: dict[str, list[Variant]] = {}
    for variant in (variant for few in alike.values() if len(few) > 1 for variant in few):
        results = {str(one): _all_results(trial) for one, trial in sorted(variant.by_replicate.items())}
        if results and all(has_losses for has_losses, _ in results.values()):
            groups.setdefault(repr(results), []).append(variant)
    return [same for same in groups.values() if len({_effective(variant) for variant in same}) > 1]


def _effective(variant: Variant) -> str:
    """Return what a variant changes, without identities."""
    text, _, optimizer = variant.trials[0].variant.rpartition(" ")
    parts = [part for part in text.split("+") if part.partition("@")[0].partition("[")[0] not in IDENTITIES]
    return f"{'+'.join(parts) or 'baseline'} {optimizer}"


def _final(trial: TrialRecord) -> tuple[float | None, float | None]:
    return trial.metrics.map50_95, trial.metrics_last.map50_95


def _all_results(trial: TrialRecord) -> tuple[bool, object]:
    """Return whether a trial has losses, and all that it gave."""
    rows = [_results(row) for row in trial.history]
    has_losses = any(name.startswith("train/") for row in rows for name in row)
    return has_losses, (trial.metrics, trial.metrics_last, trial.per_class, rows)


def has_same_results(one: TrialRecord, other: TrialRecord) -> bool:
    """Tell whether two trials gave the same; one epoch of losses is needed, for a coarse metric may agree by chance."""
    if _final(one) != _final(other):
        return False
    results = _all_results(one)
    return results[0] and results == _all_results(other)


def _results(row: EpochRow) -> dict[str, object]:
    """Return what an epoch computed, without times and memory."""
    return {
        name: value for name, value in row.content.items() if name in _RESULTS or name.startswith(("train/", "val/"))
    }
