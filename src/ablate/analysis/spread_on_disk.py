"""How much accuracies differ from seed to seed, from records that earlier commands left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt

from ablate.analysis.comparability import differences, disagreements
from ablate.analysis.variants import Variant
from ablate.records.factor_levels import is_stock
from ablate.records.trial_record import TrialRecord
from ablate.settings.metric import MAP50_95, Metric
from ablate.statistics.paired import paired_differences, standard_error
from ablate.statistics.pooled_spread import PooledSpread, pooled_spread


@dataclass(frozen=True)
class SpreadOnDisk:
    """The spread of paired differences of one comparison group.

    Attributes:
        spread: Of the differences, a fraction of the metric.
        variants: The variants that it is from, by name.
        is_paired: Whether they were paired with their baseline's; else it is the spread of single accuracies times the
            square root of two, which is that of differences without any likeness within a seed.
    """

    spread: PooledSpread
    variants: tuple[str, ...]
    is_paired: bool


def spread_on_disk(records: Sequence[TrialRecord], metric: Metric = MAP50_95) -> SpreadOnDisk | None:
    """Return the spread of the differences between variants and their baseline.

    Args:
        records: Of one comparison key, with the accuracies of one judge.
        metric: The accuracy that variants are compared by.

    Returns:
        None where they are too few (see `pooled_spread`).
    """
    variants = _variants(records, metric)
    stock = [variant for variant in variants if is_stock(variant.factors)]
    paired = {one.label: _differences(one, stock[0]) for one in variants if stock and one is not stock[0]}
    spread = pooled_spread(list(paired.values()))
    if spread is not None:
        return SpreadOnDisk(spread, _with_spread(paired), True)
    single = {one.label: list(one.accuracy().values()) for one in variants}
    spread = pooled_spread(list(single.values()), scale=sqrt(2))
    if spread is not None:
        return SpreadOnDisk(spread, _with_spread(single), False)
    return None


def _with_spread(samples: Mapping[str, Sequence[float]]) -> tuple[str, ...]:
    """Names of the samples that a spread is from."""
    return tuple(name for name, values in samples.items() if standard_error(values) is not None)


def _variants(records: Sequence[TrialRecord], metric: Metric) -> list[Variant]:
    """The variants whose replicates may be taken together."""
    by_key: dict[str, list[TrialRecord]] = {}
    for record in records:
        by_key.setdefault(record.variant_key, []).append(record)
    return [
        Variant(key, trials[0].variant, tuple(trials), trials[0].comparison_key, metric=metric)
        for key, trials in sorted(by_key.items())
        if not disagreements(trials)
    ]


def _differences(variant: Variant, baseline: Variant) -> list[float]:
    """Differences over the seeds that both have; none where they may not be compared."""
    if not variant.measured or not baseline.measured or differences(variant.measured, baseline.measured):
        return []
    return paired_differences(variant.accuracy(), baseline.accuracy())[1]
