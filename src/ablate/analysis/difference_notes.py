"""What a reader must know of a difference to the baseline: what it rests on, and why it may not be made."""

from __future__ import annotations

from ablate.analysis.comparability import differences
from ablate.analysis.identical_results import is_identical, is_identity
from ablate.analysis.pairing import trial_pairs
from ablate.analysis.phrases import count, joined, named
from ablate.analysis.variant_row import Difference
from ablate.analysis.variants import Variant
from ablate.settings.metric import MAP50_95
from ablate.statistics.verdict import LEARNED, NOTHING_LEARNED


def thin_notes(variant: Variant, baseline: Variant, difference: Difference | None) -> list[str]:
    """What makes a difference rest on less than it could."""
    if difference is None:
        return []
    if difference.looks is not None:
        return [difference.looks.reason, *_unshared_notes(variant, baseline, difference)]
    notes = []
    if not difference.has_learned:
        labels = dict.fromkeys([variant.metric.label, MAP50_95.label])
        notes.append(f"{NOTHING_LEARNED}: {' or '.join(labels)} of both below {LEARNED:g}")
    samples = difference.samples
    if samples.is_of_folds:
        how = ": interval and p by the corrected resampled t-test" if difference.over_seeds else ""
        notes.append(f"over {len(samples.values)} of {variant.folds} folds{how}")
    if difference.over_seeds is None and len(samples.values) > 1:
        notes.append(f"the same difference on every {samples.unit}: no variance to test against")
    notes += _unshared_notes(variant, baseline, difference)
    return notes


def _unshared_notes(variant: Variant, baseline: Variant, difference: Difference) -> list[str]:
    """Both accuracies over the shared replicates, where those of the table are over others; and which a side lacks."""
    means = difference.on_shared
    if means is None or means.is_all:
        return []
    shared = difference.replicates
    what = f"shared {named(shared)}" if variant.folds is None else f"{count(len(shared), 'shared trial')}"
    text = (
        f"difference over {what} only: {variant.metric.label} {means.variant:.4f}, of the baseline {means.baseline:.4f}"
    )
    if difference.looks is not None:  # trials beyond a decision are none that a side lacks
        return [text]
    of_variant, of_baseline = variant.by_replicate.keys(), baseline.by_replicate.keys()
    missing = {"this variant": sorted(of_baseline - of_variant), "the baseline": sorted(of_variant - of_baseline)}
    return [f"{text} ({joined(f'{side} lacks {named(lost)}' for side, lost in missing.items() if lost)})"]


def identical_notes(variant: Variant, baseline: Variant) -> list[str]:
    """What is to be said of results that are the baseline's; of a control that joined, the findings say it."""
    if variant.control is not None or not is_identical(variant, baseline):
        return []
    if is_identity(variant):
        return ["identical to the baseline in every digit, as an identity should be"]
    return ["identical to the baseline in every digit: what it changes did not act"]


def reasons_against(variant: Variant, baseline: Variant) -> list[str]:
    """Why a variant may not be compared with its baseline."""
    pairs = trial_pairs(variant, baseline)
    if not pairs:
        seeds = [" ".join(map(str, sorted(v.by_replicate))) or "none" for v in (variant, baseline)]
        what = "seed" if variant.folds is None else "seed and fold"
        return [f"no {what} in common with the baseline ({what}s {seeds[0]} against {seeds[1]})"]
    # A control of scale or of latency is another network than the baseline, and so has other starting weights; one of
    # resolution has larger images.
    by_design = variant.marks is not None or (variant.control is not None and variant.control.differs_by_design)
    trials, baseline_trials = zip(*pairs, strict=True)
    return differences(trials, baseline_trials, by_design=by_design)
