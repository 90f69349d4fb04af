"""Whether a difference depends on the epoch that is judged or on the size of the objects, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from statistics import fmean

from ablate.analysis.comparison import Comparison
from ablate.analysis.number_format import points
from ablate.analysis.pairing import differences_of
from ablate.analysis.phrases import interval_text, limited, points_text
from ablate.analysis.variants import Variant
from ablate.records.trial_record import TrialRecord
from ablate.statistics.interval import Interval
from ablate.statistics.paired import t_interval

SIZES: dict[str, Callable[[TrialRecord], float | None]] = {
    "small": lambda trial: trial.metrics.map50_95_small,
    "medium": lambda trial: trial.metrics.map50_95_medium,
    "large": lambda trial: trial.metrics.map50_95_large,
}
NOTICEABLE = 0.001  # mAP50-95: smaller differences of opposite sign are not worth a sentence
APART = 0.005  # mAP50-95: from here on best and last differ enough to be said where their signs agree
LARGE = 0.01  # mAP: from here on a difference on objects of one size is said
MOST = 3


def epoch_findings(comparison: Comparison) -> list[str]:
    """Variants for which best and last epoch do not agree, as far as the seeds tell the two apart."""
    texts = [text for variant, baseline in _comparable(comparison) for text in _epochs(variant, baseline)]
    if not texts:
        return []
    return [
        f"Best and last epoch disagree: {limited(texts, MOST)}. The conclusion depends on which epoch is evaluated."
    ]


def size_findings(comparison: Comparison) -> list[str]:
    """Large differences on small, medium or large objects, with intervals over seeds that exclude zero."""
    large = []
    for variant, baseline in _comparable(comparison):
        for size, read in SIZES.items():
            interval = t_interval(differences_of(variant, baseline, read)[1])
            if interval is not None and abs(interval.estimate) >= LARGE and interval.excludes_zero:
                large.append((abs(interval.estimate), f"{variant.label} on {size} objects {_with_interval(interval)}"))
    if not large:
        return []
    texts = [text for _, text in sorted(large, reverse=True)]
    sizes = limited(texts, MOST)
    return [f"By object size (COCO areas, CIs not corrected for multiple comparisons): {sizes}."]


def _epochs(variant: Variant, baseline: Variant) -> Iterator[str]:
    seeds, last = differences_of(variant, baseline, lambda trial: trial.metrics_last.map50_95)
    best = [variant.accuracy()[seed] - baseline.accuracy()[seed] for seed in seeds]
    if not seeds:
        return
    means = fmean(best), fmean(last)
    # One interval with zero inside and one without do not differ for that: their paired difference is what is tested.
    between = t_interval([a - b for a, b in zip(best, last, strict=True)])
    opposite = means[0] * means[1] < 0 and max(map(abs, means)) >= NOTICEABLE
    differs = between is None or between.excludes_zero
    if differs and (opposite or (between is not None and abs(between.estimate) >= APART)):
        texts = [
            _with_interval(interval) if interval else points_text(mean)
            for interval, mean in zip((t_interval(best), t_interval(last)), means, strict=True)
        ]
        yield f"{variant.label} {texts[0]} at the best epoch, {texts[1]} at the last"


def _with_interval(interval: Interval) -> str:
    return f"{points(interval.estimate)} points ({interval_text(interval.low, interval.high)})"


def _comparable(comparison: Comparison) -> Iterator[tuple[Variant, Variant]]:
    """Each variant that may be compared, with its baseline; no controls."""
    for group in comparison.groups:
        for row in group.compared:
            if group.baseline is not None:
                yield row.variant, group.baseline
