"""What each component of a study is worth, in numbers and in plain words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from ablate.analysis.comparability import differences
from ablate.analysis.number_format import cell, points
from ablate.analysis.phrases import interval, together
from ablate.analysis.variants import Variant, studies_of, variants_of
from ablate.records.records import Sweep
from ablate.statistics.paired import ALPHA, Interval, holm, main_effect, paired_differences, paired_t, t_interval

Marks = tuple[bool, ...]
Study = dict[Marks, Variant]  # the variants that differ in components alone, by the components that they have


@dataclass(frozen=True)
class Effect:
    """The difference that one component makes: with it minus without it.

    Attributes:
        component: Its name.
        seeds: Seeds that it rests on.
        mean: Mean difference in mAP50-95, None where it cannot be given.
        interval: 95 % interval over the seeds, None where they are too few.
        p_value: Of the paired t-test, corrected over the components of the study.
        pairs: Pairs of variants that it is the mean over.
        reason: Why it cannot be given.
    """

    component: str
    seeds: tuple[int, ...] = ()
    mean: float | None = None
    interval: Interval | None = None
    p_value: float | None = None
    pairs: int = 0
    reason: str = ""


def effects_of(sweep: Sweep) -> list[list[Effect]]:
    """The effect of each component, for each study of a sweep; empty where its design tells of none.

    leave_one_out: all components against all but this one. factorial: the main effect, the mean over the settings of
    the others. Both are paired by seed.
    """
    design = sweep.design
    if design is None or design.name not in ("leave_one_out", "factorial"):
        return []
    effect = _removal if design.name == "leave_one_out" else _main
    studies = [{v.marks: v for v in members if v.marks} for members, _ in studies_of(variants_of(sweep), design)]
    found = [[effect(name, i, study) for i, name in enumerate(design.components)] for study in studies]
    return [_corrected(effects) for effects in found]


def effect_sentences(sweep: Sweep) -> list[str]:
    """The effects in words, study by study."""
    said: list[str] = []
    if sweep.design is None:
        return said
    told = _removals if sweep.design.name == "leave_one_out" else _mains
    titles = [title for _, title in studies_of(variants_of(sweep), sweep.design)]
    for effects, title in zip(effects_of(sweep), titles, strict=False):
        said += [f"With {title}, {text[0].lower()}{text[1:]}" if title else text for text in told(effects)]
    return said


def _removal(component: str, index: int, study: Study) -> Effect:
    full = (True,) * len(next(iter(study)))
    lacking = (*full[:index], False, *full[index + 1 :])
    for marks, words in ((full, "the variant with all components"), (lacking, "the variant without it")):
        if marks not in study or not study[marks].by_seed:
            return Effect(component, reason=f"{words} gave no number")
    unfair = _unfair(study[full], study[lacking])
    if unfair:
        return Effect(component, reason=f"{study[lacking].label} was trained in another way ({unfair})")
    seeds, values = paired_differences(study[full].accuracy(), study[lacking].accuracy())
    return _effect(component, seeds, values, 1)


def _main(component: str, index: int, study: Study) -> Effect:
    measured = {marks: variant.accuracy() for marks, variant in study.items() if variant.by_seed}
    found = main_effect(measured, index, fair=lambda a, b: not _unfair(study[a], study[b]))
    if not found.pairs:
        return Effect(component, reason="no two variants that differ in it alone may be compared")
    return _effect(component, found.seeds, found.effects, found.pairs)


def _unfair(having: Variant, lacking: Variant) -> str:
    """Why two variants may not be compared; nothing where they may."""
    seeds = sorted(having.by_seed.keys() & lacking.by_seed.keys())
    if not seeds:
        return ""  # said elsewhere: no seed in common
    mine, theirs = ([variant.by_seed[seed] for seed in seeds] for variant in (having, lacking))
    return "; ".join(differences(mine, theirs, by_design=True))


def _effect(component: str, seeds: Sequence[int], values: Sequence[float], pairs: int) -> Effect:
    if not seeds:
        return Effect(component, pairs=pairs, reason="no seed is common to the variants that tell")
    return Effect(component, tuple(seeds), fmean(values), t_interval(values), paired_t(values), pairs)


def _corrected(effects: Sequence[Effect]) -> list[Effect]:
    corrected = holm([effect.p_value for effect in effects])
    return [replace(effect, p_value=p) for effect, p in zip(effects, corrected, strict=True)]


def _removals(effects: Sequence[Effect]) -> list[str]:
    known = [effect for effect in effects if effect.mean is not None]
    seeds = max((len(effect.seeds) for effect in known), default=0)
    words = [f"leaving out {effect.component} {_removed(effect)}" for effect in known]
    lead = f"Against all components together ({seeds} seed{'' if seeds == 1 else 's'}),"
    said = [f"{lead} {'; '.join(words)}.{_doubts(known)}"] if known else []
    return said + _unknown(effects)


def _removed(effect: Effect) -> str:
    """What happens without a component; costs and gains are both told as positive numbers, with their interval."""
    gains = _mean(effect) < 0
    size = points(abs(_mean(effect)), signed=False)
    what = "changes nothing" if float(size) == 0 else f"{'gains' if gains else 'costs'} {size} points"
    return what + _sureness(effect, sign=-1 if gains else 1)


def _mains(effects: Sequence[Effect]) -> list[str]:
    known = [effect for effect in effects if effect.mean is not None]
    pairs = max((effect.pairs for effect in known), default=0)
    lead = "Averaged over the settings of the other components, each one adds" if pairs > 1 else "Each component adds"
    words = [f"{effect.component} {points(_mean(effect))} points{_sureness(effect)}" for effect in known]
    said = [f"{lead}: {'; '.join(words)}.{_doubts(known)}"] if known else []
    fewer = [f"{effect.component} ({effect.pairs} of {pairs})" for effect in known if effect.pairs < pairs]
    if fewer:
        said.append(f"Pairs of variants are missing: the average is over fewer for {together(fewer)}.")
    return said + _unknown(effects)


def _doubts(known: Sequence[Effect]) -> str:
    """What the numbers do not support, in words that follow them."""
    said = ""
    unclear = [e.component for e in known if e.interval is not None and not (e.p_value or 0.0) < ALPHA]
    if unclear:
        said += f" No effect was detected for {together(unclear)}: one within the interval may be there unseen."
    if any(effect.interval is None for effect in known):
        these = "These numbers rest" if len(known) > 1 else "This number rests"
        few = "one seed" if max(len(effect.seeds) for effect in known) == 1 else "too few seeds, or seeds that agree"
        said += f" {these} on {few}: no interval can be given, and an effect cannot be told from chance."
    return said


def _unknown(effects: Sequence[Effect]) -> list[str]:
    return [f"What {effect.component} is worth cannot be said: {effect.reason}." for effect in effects if effect.reason]


def _sureness(effect: Effect, sign: int = 1) -> str:
    """The interval of `sign` times an effect, and the p-value; nothing where there is none."""
    if effect.interval is None or effect.p_value is None:
        return ""
    low, high = sorted((sign * effect.interval.low, sign * effect.interval.high))
    return f" ({interval(low, high)}, corrected p {cell('p_holm', effect.p_value)})"


def _mean(effect: Effect) -> float:
    return effect.mean or 0.0
