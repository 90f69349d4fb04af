"""A variant over several data sets: its difference on each, their mean, the next data set, and mean ranks.

Variants are matched over data sets by their levels of all other factors, their components, and their recorded label;
where several of one data set agree in these, by the settings of their configuration as well.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import fmean

from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.variant_names import display_labels, settings_of
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import Variant
from ablate.statistics.paired import holm, is_significant, standard_error
from ablate.statistics.random_effects import Pooled, pooled
from ablate.statistics.ranks import Ranks, ranks

_NOT_OF_A_VARIANT = ("data", "tracking", "latency")  # groups of a configuration


@dataclass(frozen=True)
class OnDataSet:
    """A variant's difference to the baseline on one data set; `error` is its standard error over seeds, or folds."""

    data: str
    row: Row
    estimate: float
    error: float | None


@dataclass(frozen=True)
class AcrossDataSets:
    """One variant on all data sets on which it may be compared with its baseline.

    Attributes:
        label: Its name, without the data set.
        on: Its differences, in the order of the data sets.
        pooled: The mean over data sets, and the next one.
        p_holm: That the mean is zero, corrected over the variants of the sweep; None where it is not tested.
        mean_rank: Among the variants that were measured on all data sets; None for others.
    """

    label: str
    on: tuple[OnDataSet, ...]
    pooled: Pooled
    p_holm: float | None = None
    mean_rank: float | None = None

    @property
    def higher(self) -> int:
        """On how many data sets it is more accurate than the baseline."""
        return sum(one.estimate > 0 for one in self.on)

    @property
    def supported(self) -> bool:
        """Whether the corrected p-value is below ALPHA."""
        return is_significant(self.p_holm)


@dataclass(frozen=True)
class DataSetStudy:
    """Variants that share a baseline on each of several data sets.

    Attributes:
        title: What tells it from the other studies of a sweep; empty for a single one.
        data: The data sets, in the order of the sweep.
        variants: By falling mean difference.
        baseline: Name of the baseline, without the data set.
        ranks: Of baseline and variants that were measured on all data sets; None where they are fewer than three.
        ranked: Their names, in the order of `ranks.means`.
    """

    title: str
    data: tuple[str, ...]
    variants: tuple[AcrossDataSets, ...]
    baseline: str
    ranks: Ranks | None
    ranked: tuple[str, ...]

    @cached_property
    def rank_of(self) -> dict[str, float]:
        """Mean rank by name."""
        return dict(zip(self.ranked, self.ranks.means, strict=True)) if self.ranks else {}


def data_set_studies(comparison: Comparison) -> list[DataSetStudy]:
    """The studies over data sets of a sweep; empty where no baseline was trained on two."""
    families: dict[Hashable, dict[str, Group]] = {}
    matched = _matches([v for group in comparison.groups if (v := group.baseline) is not None])
    for group in comparison.groups:
        if group.baseline is not None and group.baseline.accuracy():
            family = families.setdefault(matched[id(group.baseline)], {})
            family.setdefault(group.baseline.factors["data"], group)
    several = [groups for groups in families.values() if len(groups) > 1]
    studies = [_study(groups) for groups in several]
    titles = [next(iter(groups.values())).title.removesuffix(next(iter(groups))).rstrip(", ") for groups in several]
    studies = [
        replace(study, title=title if len(several) > 1 else "")
        for study, title in zip(studies, titles, strict=True)
        if study.variants
    ]
    return _corrected(studies)


def _study(groups: dict[str, Group]) -> DataSetStudy:
    """The variants of some comparison groups, one for each data set."""
    baselines = [group.baseline for group in groups.values() if group.baseline is not None]
    rows = [row for group in groups.values() for row in group.compared]
    matched = _matches([*baselines, *(row.variant for row in rows)])
    labels = _labels([*baselines, *(row.variant for row in rows)], matched)
    by_variant: dict[Hashable, dict[str, Row]] = {}
    for row in rows:
        by_variant.setdefault(matched[id(row.variant)], {}).setdefault(row.data, row)
    variants = [_across(labels[key], groups, on) for key, on in by_variant.items() if len(on) > 1]
    accuracies = {labels[matched[id(baselines[0])]]: [_accuracy(baseline) for baseline in baselines]}
    baseline = next(iter(accuracies))
    for variant in variants:
        if len(variant.on) == len(groups):
            gains = zip(accuracies[baseline], variant.on, strict=True)  # paired: folds and seeds may lack a trial
            accuracies[variant.label] = [accuracy + one.estimate for accuracy, one in gains]
    ranked = ranks(list(zip(*accuracies.values(), strict=True)))
    means = dict(zip(accuracies, ranked.means, strict=True)) if ranked else {}
    variants = [replace(variant, mean_rank=means.get(variant.label)) for variant in variants]
    ordered = sorted(variants, key=lambda variant: -variant.pooled.mean)
    return DataSetStudy("", tuple(groups), tuple(ordered), baseline, ranked, tuple(accuracies))


def _across(label: str, groups: dict[str, Group], rows: dict[str, Row]) -> AcrossDataSets:
    on = []
    for data, group in groups.items():
        row = rows.get(data)
        if row is not None and group.baseline is not None:
            difference = row.difference
            assert difference is not None  # of `Group.compared`
            error = standard_error(difference.samples.values, difference.samples.share)
            on.append(OnDataSet(data, row, difference.estimate, error))
    return AcrossDataSets(label, tuple(on), pooled([one.estimate for one in on], [one.error for one in on]))


def _accuracy(variant: Variant) -> float:
    """Mean accuracy over the seeds, and over the folds where there are some."""
    return fmean(variant.accuracy().values())


def _matches(variants: Sequence[Variant]) -> dict[int, Hashable]:
    """By a variant's `id`: what it shares with the same variant on other data sets."""
    keys: dict[int, Hashable] = {id(variant): _key(variant) for variant in variants}
    counts = Counter((keys[id(variant)], variant.factors["data"]) for variant in variants)
    twins = {key for (key, _), count in counts.items() if count > 1}
    return {
        id(variant): (key, _settings(variant)) if (key := keys[id(variant)]) in twins else key for variant in variants
    }


def _key(variant: Variant) -> Hashable:
    levels = tuple((name, level) for name, level in variant.factors.items() if name != "data")
    return variant.trials[0].variant, variant.marks, levels


def _settings(variant: Variant) -> Hashable:
    """What of its configuration can tell a variant from another one of the same data set."""
    settings = settings_of(variant.trials)
    groups = {name.partition(".")[0] for name in settings if "." in name or name == "grafts"} - {*_NOT_OF_A_VARIANT}
    return tuple((name, repr(setting)) for name, setting in settings.items() if name.partition(".")[0] in groups)


def _labels(variants: Sequence[Variant], matched: dict[int, Hashable]) -> dict[Hashable, str]:
    """A name for each variant that does not say the data set."""
    first: dict[Hashable, Variant] = {}
    for variant in variants:
        first.setdefault(matched[id(variant)], variant)
    labels = display_labels({variant.key: variant.trials for variant in first.values()})
    return {key: _without_data(variant, labels[variant.key]) for key, variant in first.items()}


def _without_data(variant: Variant, label: str) -> str:
    """The name of a variant of a design is that of its components, less the title of its study."""
    return label if variant.marks is None else variant.label.partition(" [")[0]


def _corrected(studies: Sequence[DataSetStudy]) -> list[DataSetStudy]:
    """With Holm's correction over all variants of all studies."""
    corrected = iter(holm([variant.pooled.p_value for study in studies for variant in study.variants]))
    return [
        replace(study, variants=tuple(replace(variant, p_holm=next(corrected)) for variant in study.variants))
        for study in studies
    ]
