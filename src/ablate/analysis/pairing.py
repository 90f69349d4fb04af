"""Which variants are compared with which, and the differences seed by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ablate.analysis.variants import Variant
from ablate.records.replicate import Replicate
from ablate.records.trial_record import TrialRecord
from ablate.statistics.paired import paired_differences
from ablate.statistics.resampled import Samples, fold_means


@dataclass(frozen=True)
class VariantGroup:
    """Variants that are compared with each other, and the one that the others are compared with (None: there is none).

    `is_recorded` is False for a variant of which it is not recorded what it is compared with.
    """

    members: tuple[Variant, ...]
    baseline: Variant | None
    is_recorded: bool = True

    @property
    def compared(self) -> list[Variant]:
        """The variants with trials that have a seed (and fold) in common with trials of the baseline."""
        if self.baseline is None:
            return []
        return [v for v in self.members if v is not self.baseline and shared_replicates(v, self.baseline)]


def comparison_groups(variants: Sequence[Variant]) -> list[VariantGroup]:
    """The comparison groups of a sweep's variants, in its order; what belongs to none comes last, one by one."""
    by_group: dict[str, list[Variant]] = {}
    for variant in variants:
        by_group.setdefault(variant.comparison_key or variant.key, []).append(variant)
    groups = [VariantGroup(tuple(m), _baseline(m), bool(m[0].comparison_key)) for m in by_group.values()]
    return sorted(groups, key=lambda group: not group.is_recorded)


def shared_replicates(variant: Variant, baseline: Variant) -> list[Replicate]:
    """Seeds, and folds where there are some, that both were measured with; ascending."""
    return sorted(variant.by_replicate.keys() & baseline.by_replicate.keys())


def trial_pairs(variant: Variant, baseline: Variant) -> list[tuple[TrialRecord, TrialRecord]]:
    """The trials of the shared replicates, in the order of `shared_replicates`."""
    shared = shared_replicates(variant, baseline)
    return [(variant.by_replicate[one], baseline.by_replicate[one]) for one in shared]


def differences_of(
    variant: Variant, baseline: Variant, read: Callable[[TrialRecord], float | None]
) -> tuple[list[Replicate], list[float]]:
    """Differences of a recorded accuracy over the replicates of which both have it; as `paired_differences`.

    Args:
        variant: One variant.
        baseline: What it is compared with.
        read: Reads the accuracy from a trial.
    """
    return paired_differences(variant.accuracy(read), baseline.accuracy(read))


def samples_of(replicates: Sequence[Replicate], values: Sequence[float], share: float | None) -> Samples:
    """What is tested of a contrast that has a value for each replicate: the values, or with folds the mean of each.

    Args:
        replicates: Shape (n,).
        values: Of the contrast, shape (n,).
        share: `Variant.fold_share` of the variants.
    """
    if share is None:
        return Samples(tuple(values))
    folds = [-1 if replicate.fold is None else replicate.fold for replicate in replicates]
    return Samples(tuple(fold_means(folds, values)), share)


def _baseline(members: Sequence[Variant]) -> Variant | None:
    """The baseline of a comparison group: the one with most measured trials if there are several."""
    baselines = [variant for variant in members if variant.is_baseline]
    return max(baselines, key=lambda variant: len(variant.measured)) if baselines else None
