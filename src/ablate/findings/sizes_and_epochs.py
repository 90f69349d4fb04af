"""Whether a difference depends on the epoch that is judged or on the size of the objects, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from ablate.analysis.number_format import points
from ablate.analysis.pairing import Group, differences_of
from ablate.analysis.phrases import interval, limited
from ablate.analysis.variants import Variant
from ablate.statistics.paired import Interval, t_interval

SIZES = ("small", "medium", "large")
NOTICEABLE = 0.001  # mAP50-95: smaller differences of opposite sign are not worth a sentence
APART = 0.005  # mAP50-95: from here on best and last differ enough to be said where their signs agree
LARGE = 0.01  # mAP: from here on a difference on objects of one size is said
MOST = 3


def epoch_findings(groups: Sequence[Group]) -> list[str]:
    """Variants for which best and last epoch do not say the same, as far as the seeds tell the two apart."""
    found = [text for variant, baseline in _fair(groups) for text in _epochs(variant, baseline)]
    if not found:
        return []
    return [f"Best and last epoch disagree: {limited(found, MOST)}. Which epoch is judged then decides what is found."]


def size_findings(groups: Sequence[Group]) -> list[str]:
    """Large differences on small, medium or large objects, with intervals over seeds that exclude zero."""
    found = []
    for variant, baseline in _fair(groups):
        for size in SIZES:
            _, differences = differences_of(variant, baseline, "metrics", f"map50_95_{size}")
            known = t_interval(differences)
            if known is not None and abs(known.estimate) >= LARGE and not known.low <= 0 <= known.high:
                found.append((abs(known.estimate), f"{variant.label} on {size} objects {_words(known)}"))
    if not found:
        return []
    listed = [text for _, text in sorted(found, reverse=True)]
    return [
        f"By size of object (COCO's areas, intervals not corrected for how many there are): {limited(listed, MOST)}."
    ]


def _epochs(variant: Variant, baseline: Variant) -> Iterator[str]:
    seeds, last = differences_of(variant, baseline, "metrics_last", "map50_95")
    best = [variant.accuracy()[seed] - baseline.accuracy()[seed] for seed in seeds]
    if not seeds:
        return
    means = fmean(best), fmean(last)
    # One interval with zero inside and one without do not differ for that: their paired difference is what is tested.
    between = t_interval([a - b for a, b in zip(best, last, strict=True)])
    opposite = means[0] * means[1] < 0 and max(map(abs, means)) >= NOTICEABLE
    if between is None:
        disagree = opposite
    else:
        apart = abs(between.estimate) >= APART
        disagree = not between.low <= 0 <= between.high and (opposite or apart)
    if disagree:
        known = [
            _words(found) if found else f"{points(mean)} points"
            for found, mean in zip((t_interval(best), t_interval(last)), means, strict=True)
        ]
        yield f"{variant.label} {known[0]} at the best, {known[1]} at the last"


def _words(found: Interval) -> str:
    return f"{points(found.estimate)} points ({interval(found.low, found.high)})"


def _fair(groups: Sequence[Group]) -> Iterator[tuple[Variant, Variant]]:
    """Each variant that may be compared, with its baseline; no controls."""
    for group in groups:
        for variant in group.compared:
            if group.baseline is not None and variant.control is None and variant.row.get("comparable") == "yes":
                yield variant, group.baseline
