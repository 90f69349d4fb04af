"""The difference that each component of a study makes, and whether it depends on the other components."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from itertools import combinations

from ablate.analysis.comparability import differences
from ablate.analysis.comparison import Comparison
from ablate.analysis.pairing import samples_of, trial_pairs
from ablate.analysis.variants import Variant, studies_of
from ablate.records.replicate import Replicate
from ablate.statistics.component_contrasts import gains, two_components
from ablate.statistics.interval import Interval
from ablate.statistics.paired import holm, is_significant, main_effect, paired_differences
from ablate.statistics.resampled import Samples

Marks = tuple[bool, ...]
VariantsByMarks = dict[Marks, Variant]  # the variants that differ in components alone, by the components that they have


@dataclass(frozen=True)
class ComponentEffect:
    """The difference that one component makes: with it minus without it.

    Attributes:
        component: Its name.
        replicates: Seeds, and folds where there are some, that it rests on.
        mean: Mean difference in accuracy, None where it cannot be given.
        interval: 95 % interval over the seeds, or the folds; None where they are too few.
        p_holm: Of the paired t-test, corrected over the components of the study.
        pairs: Pairs of variants that it is the mean over.
        reason: Why it cannot be given.
    """

    component: str
    replicates: tuple[Replicate, ...] = ()
    mean: float | None = None
    interval: Interval | None = None
    p_holm: float | None = None
    pairs: int = 0
    reason: str = ""

    @property
    def supported(self) -> bool:
        """Whether the corrected p-value is below ALPHA."""
        return is_significant(self.p_holm)


@dataclass(frozen=True)
class MeanOverSeeds:
    """A mean difference in accuracy with its 95 % interval over seeds or folds; None where they are too few."""

    mean: float
    interval: Interval | None


@dataclass(frozen=True)
class GivenOther:
    """What a component adds without another one, and with it."""

    component: str
    other: str
    alone: MeanOverSeeds
    together: MeanOverSeeds


@dataclass(frozen=True)
class ComponentInteraction:
    """What two components together give beyond the sum of what each adds alone.

    Attributes:
        components: Their names.
        replicates: Seeds, and folds where there are some, that it rests on.
        value: The interaction, the mean over the settings of the other components.
        p_holm: Of the paired t-test, corrected over the interactions of the study.
        simple: What each of the two adds without the other and with it.
    """

    components: tuple[str, str]
    replicates: tuple[Replicate, ...]
    value: MeanOverSeeds
    p_holm: float | None
    simple: tuple[GivenOther, GivenOther]

    @property
    def supported(self) -> bool:
        """Whether the corrected p-value is below ALPHA."""
        return is_significant(self.p_holm)


@dataclass(frozen=True)
class StudyEffects:
    """The effects of a study's components; `title` tells it from the other studies of a sweep, empty for a single one.

    `is_removal`: each is all components against all but this one. Else it is a main effect, the mean over the settings
    of the other components. Both are paired by seed. Interactions are of a factorial only.
    """

    title: str
    effects: tuple[ComponentEffect, ...]
    is_removal: bool
    interactions: tuple[ComponentInteraction, ...] = ()

    @property
    def dependent(self) -> list[GivenOther]:
        """The components whose main effect does not hold with and without another one, by their largest interaction.

        That interaction is supported, or the main effect is and the interaction is as large: then what the component
        adds without the other and with it differ by more than what it adds on average.
        """
        dependent = []
        for effect in self.effects:
            crossed = [one for one in self.interactions if effect.component in one.components]
            deciding = [
                one
                for one in crossed
                if one.supported or (effect.supported and abs(one.value.mean) >= abs(effect.mean or 0.0))
            ]
            if deciding:
                largest = max(deciding, key=lambda one: (one.supported, abs(one.value.mean)))
                dependent += [each for each in largest.simple if each.component == effect.component]
        return dependent


@dataclass(frozen=True)
class SumOfGains:
    """All components together against the sum of what each adds alone, from a study that adds one at a time.

    Attributes:
        title: As of `StudyEffects`.
        replicates: Seeds, and folds where there are some, that it rests on.
        together: Gain of all together.
        summed: Sum of the gains of each alone.
        difference: The first minus the second: more than zero where they support each other.
        p_value: Of the paired t-test of the difference.
    """

    title: str
    replicates: tuple[Replicate, ...]
    together: MeanOverSeeds
    summed: MeanOverSeeds
    difference: MeanOverSeeds
    p_value: float | None


def effects_of(comparison: Comparison) -> list[StudyEffects]:
    """The effects for each study of a sweep; empty where its design has none."""
    design = comparison.sweep.design
    if design is None or design.name not in ("leave_one_out", "factorial"):
        return []
    is_removal = design.name == "leave_one_out"
    effect = _removal if is_removal else _main
    studies = []
    for members, title in studies_of(comparison.variants, design):
        study = {variant.marks: variant for variant in members if variant.marks}
        effects = [effect(name, i, study) for i, name in enumerate(design.components)]
        crossed = () if is_removal else _interactions(design.components, study)
        studies.append(StudyEffects(title, _corrected(effects), is_removal, crossed))
    return studies


def sums_of(comparison: Comparison) -> list[SumOfGains]:
    """Whether single gains add up, for each study of a sweep that adds one component at a time and all together."""
    design = comparison.sweep.design
    if design is None or design.name != "add_one_in" or len(design.components) < 2:
        return []
    sums = []
    for members, title in studies_of(comparison.variants, design):
        study = {variant.marks: variant for variant in members if variant.marks}
        none = next((variant for marks, variant in study.items() if not any(marks)), None)
        if none is None or any(_reasons_against(variant, none) for variant in study.values()):
            continue
        study_gains = gains({marks: variant.accuracy() for marks, variant in study.items()})
        if study_gains.seeds:
            beyond = [a - b for a, b in zip(study_gains.together, study_gains.summed, strict=True)]
            together, summed, difference = (
                samples_of(study_gains.seeds, values, none.fold_share)
                for values in (study_gains.together, study_gains.summed, beyond)
            )
            sums.append(
                SumOfGains(
                    title,
                    tuple(study_gains.seeds),
                    _mean(together),
                    _mean(summed),
                    _mean(difference),
                    difference.p_value,
                )
            )
    return sums


def _removal(component: str, index: int, study: VariantsByMarks) -> ComponentEffect:
    full = (True,) * len(next(iter(study)))
    without = (*full[:index], False, *full[index + 1 :])
    for marks, words in ((full, "the variant with all components"), (without, "the variant without it")):
        if marks not in study or not study[marks].measured:
            return ComponentEffect(component, reason=f"{words} has no result")
    problem = _reasons_against(study[full], study[without])
    if problem:
        return ComponentEffect(component, reason=f"{study[without].label} was trained differently ({problem})")
    replicates, values = paired_differences(study[full].accuracy(), study[without].accuracy())
    return _effect(component, replicates, samples_of(replicates, values, study[full].fold_share), 1)


def _main(component: str, index: int, study: VariantsByMarks) -> ComponentEffect:
    measured = {marks: variant.accuracy() for marks, variant in study.items() if variant.measured}
    effect = main_effect(measured, index, fair=lambda a, b: not _reasons_against(study[a], study[b]))
    if not effect.pairs:
        return ComponentEffect(component, reason="no two comparable variants differ in it alone")
    return _effect(component, effect.seeds, samples_of(effect.seeds, effect.effects, _share(study)), effect.pairs)


def _interactions(components: Sequence[str], study: VariantsByMarks) -> tuple[ComponentInteraction, ...]:
    """The interactions of each two components that four comparable variants tell, corrected over all of them."""
    measured = {marks: variant.accuracy() for marks, variant in study.items() if variant.measured}
    effects = []

    @cache  # most pairs of variants are asked for by several pairs of components
    def is_fair(one: Marks, other: Marks) -> bool:
        return not _reasons_against(study[one], study[other])

    for first, second in combinations(range(len(components)), 2):
        two = two_components(measured, first, second, fair=is_fair)
        if two.seeds:
            names = components[first], components[second]
            sides = (two.first_alone, two.first_with, two.second_alone, two.second_with)
            first_alone, first_with, second_alone, second_with = (
                _mean(samples_of(two.seeds, side, _share(study))) for side in sides
            )
            simple = GivenOther(*names, first_alone, first_with), GivenOther(*names[::-1], second_alone, second_with)
            value = samples_of(two.seeds, two.interaction, _share(study))
            effects.append(ComponentInteraction(names, tuple(two.seeds), _mean(value), value.p_value, simple))
    corrected = holm([one.p_holm for one in effects])
    return tuple(replace(one, p_holm=p) for one, p in zip(effects, corrected, strict=True))


def _mean(samples: Samples) -> MeanOverSeeds:
    return MeanOverSeeds(samples.mean, samples.interval())


def _share(study: VariantsByMarks) -> float | None:
    """`Variant.fold_share` of the variants of a study."""
    return next((variant.fold_share for variant in study.values() if variant.measured), None)


def _reasons_against(variant: Variant, without: Variant) -> str:
    """Why two variants may not be compared; empty where they may, and where they share no seed."""
    pairs = trial_pairs(variant, without)
    if not pairs:
        return ""
    trials, others = zip(*pairs, strict=True)
    return "; ".join(differences(trials, others, by_design=True))


def _effect(component: str, replicates: Sequence[Replicate], samples: Samples, pairs: int) -> ComponentEffect:
    if not replicates:
        return ComponentEffect(component, pairs=pairs, reason="the variants have no seed in common")
    return ComponentEffect(component, tuple(replicates), samples.mean, samples.interval(), samples.p_value, pairs)


def _corrected(effects: Sequence[ComponentEffect]) -> tuple[ComponentEffect, ...]:
    corrected = holm([effect.p_holm for effect in effects])
    return tuple(replace(effect, p_holm=p) for effect, p in zip(effects, corrected, strict=True))
