"""The difference that each component of a study makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from ablate.analysis.comparability import differences
from ablate.analysis.comparison import Comparison
from ablate.analysis.pairing import trial_pairs
from ablate.analysis.variants import Variant, studies_of
from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, holm, main_effect, paired_differences, paired_t, t_interval

Marks = tuple[bool, ...]
VariantsByMarks = dict[Marks, Variant]  # the variants that differ in components alone, by the components that they have


@dataclass(frozen=True)
class ComponentEffect:
    """The difference that one component makes: with it minus without it.

    Attributes:
        component: Its name.
        seeds: Seeds that it rests on.
        mean: Mean difference in mAP50-95, None where it cannot be given.
        interval: 95 % interval over the seeds, None where they are too few.
        p_holm: Of the paired t-test, corrected over the components of the study.
        pairs: Pairs of variants that it is the mean over.
        reason: Why it cannot be given.
    """

    component: str
    seeds: tuple[int, ...] = ()
    mean: float | None = None
    interval: Interval | None = None
    p_holm: float | None = None
    pairs: int = 0
    reason: str = ""

    @property
    def supported(self) -> bool:
        """Whether the corrected p-value is below ALPHA."""
        return self.p_holm is not None and self.p_holm < ALPHA


@dataclass(frozen=True)
class StudyEffects:
    """The effects of a study's components; `title` tells it from the other studies of a sweep, empty for a single one.

    `is_removal`: each is all components against all but this one. Else it is a main effect, the mean over the settings
    of the other components. Both are paired by seed.
    """

    title: str
    effects: tuple[ComponentEffect, ...]
    is_removal: bool


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
        studies.append(StudyEffects(title, _corrected(effects), is_removal))
    return studies


def _removal(component: str, index: int, study: VariantsByMarks) -> ComponentEffect:
    full = (True,) * len(next(iter(study)))
    without = (*full[:index], False, *full[index + 1 :])
    for marks, words in ((full, "the variant with all components"), (without, "the variant without it")):
        if marks not in study or not study[marks].by_seed:
            return ComponentEffect(component, reason=f"{words} has no result")
    problem = _reasons_against(study[full], study[without])
    if problem:
        return ComponentEffect(component, reason=f"{study[without].label} was trained differently ({problem})")
    seeds, values = paired_differences(study[full].accuracy(), study[without].accuracy())
    return _effect(component, seeds, values, 1)


def _main(component: str, index: int, study: VariantsByMarks) -> ComponentEffect:
    measured = {marks: variant.accuracy() for marks, variant in study.items() if variant.by_seed}
    effect = main_effect(measured, index, fair=lambda a, b: not _reasons_against(study[a], study[b]))
    if not effect.pairs:
        return ComponentEffect(component, reason="no two comparable variants differ in it alone")
    return _effect(component, effect.seeds, effect.effects, effect.pairs)


def _reasons_against(variant: Variant, without: Variant) -> str:
    """Why two variants may not be compared; empty where they may, and where they share no seed."""
    pairs = trial_pairs(variant, without)
    if not pairs:
        return ""
    trials, others = zip(*pairs, strict=True)
    return "; ".join(differences(trials, others, by_design=True))


def _effect(component: str, seeds: Sequence[int], values: Sequence[float], pairs: int) -> ComponentEffect:
    if not seeds:
        return ComponentEffect(component, pairs=pairs, reason="the variants have no seed in common")
    return ComponentEffect(component, tuple(seeds), fmean(values), t_interval(values), paired_t(values), pairs)


def _corrected(effects: Sequence[ComponentEffect]) -> tuple[ComponentEffect, ...]:
    corrected = holm([effect.p_holm for effect in effects])
    return tuple(replace(effect, p_holm=p) for effect, p in zip(effects, corrected, strict=True))
