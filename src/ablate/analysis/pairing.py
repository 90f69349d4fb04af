"""Which variants are compared with which, and the differences seed by seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ablate.analysis.variants import Variant, fraction, variants_of
from ablate.records.records import Record, Sweep
from ablate.statistics.paired import paired_differences


@dataclass(frozen=True)
class Group:
    """Variants that are compared with each other, and the one that the others are compared with (None: there is none).

    `known` is False for variants of which it is not recorded what they belong to.
    """

    members: list[Variant]
    baseline: Variant | None
    known: bool = True

    @property
    def compared(self) -> list[Variant]:
        """The variants with trials that have a seed in common with trials of the baseline."""
        if self.baseline is None:
            return []
        return [v for v in self.members if v is not self.baseline and shared(v, self.baseline)]


def comparison_groups(sweep: Sweep) -> list[Group]:
    """The comparison groups of a sweep, in its order; what belongs to none comes last, one by one."""
    found: dict[str, list[Variant]] = {}
    for variant in variants_of(sweep):
        found.setdefault(variant.group or variant.key, []).append(variant)
    groups = [Group(members, _baseline(members), bool(members[0].group)) for members in found.values()]
    return sorted(groups, key=lambda group: not group.known)


def shared(variant: Variant, baseline: Variant) -> list[int]:
    """Seeds that both were measured with, ascending."""
    return sorted(variant.by_seed.keys() & baseline.by_seed.keys())


def trial_pairs(variant: Variant, baseline: Variant) -> list[tuple[Record, Record]]:
    """The trials of the shared seeds, in the order of `shared`."""
    return [(variant.by_seed[seed], baseline.by_seed[seed]) for seed in shared(variant, baseline)]


def differences_of(variant: Variant, baseline: Variant, *path: str) -> tuple[list[int], list[float]]:
    """Differences of a recorded accuracy over the seeds at which both have it; as `paired_differences`.

    Args:
        variant: One variant.
        baseline: What it is compared with.
        *path: Keys of the accuracy in a record, such as "metrics", "map50_95_small".
    """
    values = [
        {seed: found for seed, record in v.by_seed.items() if (found := fraction(record, *path)) is not None}
        for v in (variant, baseline)
    ]
    return paired_differences(*values)


def _baseline(members: Sequence[Variant]) -> Variant | None:
    """The baseline of a comparison group: the one with most measured trials if there are several."""
    found = [variant for variant in members if variant.is_baseline]
    return max(found, key=lambda variant: len(variant.measured)) if found else None
