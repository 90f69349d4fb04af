"""What each component of a study is worth, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.component_effects import (
    ComponentEffect,
    ComponentInteraction,
    GivenOther,
    StudyEffects,
    effects_of,
    sums_of,
)
from ablate.analysis.number_format import points
from ablate.analysis.phrases import (
    estimate_text,
    interval_text,
    joined,
    limited,
    number_of,
    points_text,
    unit_of,
    units_of,
)
from ablate.findings.finding import Claim, Finding, Kind, direction, without_claims
from ablate.findings.normality import few_seeds_doubt
from ablate.statistics.paired import ALPHA

MOST = 4  # interactions that are said


def component_findings(comparison: Comparison) -> list[Finding]:
    """The effects of the components, study by study; interactions before the main effects."""
    findings: list[Finding] = []
    accuracy = comparison.metric.label
    for study in effects_of(comparison):
        of_study = _removals(study.effects, accuracy) if study.is_removal else _factorial(study, accuracy)
        findings += [replace(one, text=_of_study(study.title, one.text)) for one in of_study]
    return findings


def sum_findings(comparison: Comparison) -> list[Finding]:
    """Whether the gains of single components add up to the gain of all, study by study."""
    findings = []
    for total in sums_of(comparison):
        claims: tuple[Claim, ...] = ()
        text = (
            f"Each alone, the components measured {points_text(total.summed.mean)} in sum, all together "
            f"{points_text(total.together.mean)}. "
        )
        beyond = points_text(total.difference.mean)
        if total.difference.interval is None or total.p_value is None:
            unit = unit_of(total.replicates)
            few = f"one {unit}" if units_of(total.replicates) == 1 else f"these {unit}s"
            text += f"The difference of {beyond} cannot be separated from {unit}-to-{unit} variance with {few}."
        else:
            beyond = estimate_text(
                total.difference.mean, total.difference.interval, f"p {cell('p_value', total.p_value)}"
            )
            if total.p_value >= ALPHA:
                text += f"The difference, {beyond}, is not significant: the gains may add up."
            else:
                word = "more" if total.difference.mean > 0 else "less"
                text += f"Together they give {word} than the sum: {beyond}.{few_seeds_doubt([total.replicates])}"
                claims = (Claim("all components", direction(total.difference.mean), "the sum of their gains", "gain"),)
        findings.append(Finding(_of_study(total.title, text), Kind.COMPONENTS, claims))
    return findings


def _of_study(title: str, text: str) -> str:
    return f"With {title}, {text[0].lower()}{text[1:]}" if title else text


def _factorial(study: StudyEffects, accuracy: str) -> list[Finding]:
    """Interactions, the components that depend on one another, and the main effects of the others."""
    dependent = study.dependent
    names = {each.component for each in dependent}
    independent = [effect for effect in study.effects if effect.component not in names]
    findings = _interactions(study.interactions)
    findings += without_claims(Kind.COMPONENTS, [f"{_given(each, accuracy)}." for each in dependent])
    return findings + (_main_effects(independent, study.effects) if independent else [])


def _interactions(interactions: Sequence[ComponentInteraction]) -> list[Finding]:
    """The supported interactions, or the largest one."""
    tested = [one for one in interactions if one.p_holm is not None]
    if not tested:
        return []
    ranked = sorted(tested, key=lambda one: -abs(one.value.mean))
    supported = [one for one in ranked if one.supported]
    if supported:
        texts = [_interaction(one) for one in supported]
        text = "Significant interactions (together, beyond the sum of what each adds alone): "
        claims = [
            Claim(" with ".join(one.components), direction(one.value.mean), "the sum of both alone", "gain")
            for one in supported
        ]
        text += f"{limited(texts, MOST)}.{few_seeds_doubt((one.replicates for one in supported), len(tested))}"
        return [Finding(text, Kind.COMPONENTS, tuple(claims))]
    largest = f"{'the largest is ' if len(ranked) > 1 else ''}{_interaction(ranked[0])}"
    return [Finding(f"No interaction of two components is significant: {largest}.", Kind.COMPONENTS)]


def _interaction(one: ComponentInteraction) -> str:
    p_value = f"Holm-corrected p {cell('p_holm', one.p_holm)}"
    return f"{' with '.join(one.components)} {estimate_text(one.value.mean, one.value.interval, p_value)}"


def _given(each: GivenOther, accuracy: str) -> str:
    """What a component adds without another one and with it."""
    alone, together = (estimate_text(value.mean, value.interval) for value in (each.alone, each.together))
    return f"For {each.component}, {accuracy} changed by {alone} without {each.other} and by {together} with it"


def _removals(effects: Sequence[ComponentEffect], accuracy: str) -> list[Finding]:
    numbers = [effect for effect in effects if effect.mean is not None]
    most = max((effect.replicates for effect in numbers), key=len, default=())
    words = [f"without {effect.component} {points_text(-_mean(effect))}{_test(effect, sign=-1)}" for effect in numbers]
    lead = f"Compared with all components together ({number_of(most)}), differences in {accuracy}:"
    claims = [
        Claim("all components", direction(_mean(one)), f"all but {one.component}") for one in numbers if one.supported
    ]
    text = f"{lead} {'; '.join(words)}.{_of_few_seeds(numbers, effects)}{_doubts(numbers)}"
    findings = [Finding(text, Kind.COMPONENTS, tuple(claims))] if numbers else []
    return findings + without_claims(Kind.COMPONENTS, _refusals(effects))


def _main_effects(effects: Sequence[ComponentEffect], family: Sequence[ComponentEffect]) -> list[Finding]:
    numbers = [effect for effect in effects if effect.mean is not None]
    pairs = max((effect.pairs for effect in numbers), default=0)
    lead = "Main effects, averaged over the settings of the other components" if pairs > 1 else "Effects of adding each"
    words = [f"{effect.component} {points(_mean(effect))} points{_test(effect)}" for effect in numbers]
    claims = [
        Claim(one.component, direction(_mean(one)), f"without {one.component}") for one in numbers if one.supported
    ]
    text = f"{lead}: {'; '.join(words)}.{_of_few_seeds(numbers, family)}{_doubts(numbers)}"
    findings = [Finding(text, Kind.COMPONENTS, tuple(claims))] if numbers else []
    rest = []
    fewer = [f"{effect.component} ({effect.pairs} of {pairs})" for effect in numbers if effect.pairs < pairs]
    if fewer:
        rest.append(f"Pairs of variants are missing, so the average covers fewer of them for {joined(fewer)}.")
    return findings + without_claims(Kind.COMPONENTS, [*rest, *_refusals(effects)])


def _doubts(effects: Sequence[ComponentEffect]) -> str:
    """What the numbers do not support, in words that follow them."""
    text = ""
    unclear = [e.component for e in effects if e.interval is not None and not e.supported]
    if unclear:
        effect = "effect of {} is" if len(unclear) == 1 else "effects of {} are"
        text += f" The {effect.format(joined(unclear))} not significant after Holm correction; an effect within the CI "
        text += "cannot be ruled out."
    if any(effect.interval is None for effect in effects):
        most = max((effect.replicates for effect in effects), key=len)
        unit = unit_of(most)
        few = f"There is one {unit}" if units_of(most) == 1 else f"There are too few {unit}s, or they do not differ"
        text += f" {few}, so there is no CI, and an effect cannot be separated from {unit}-to-{unit} variance."
    return text


def _of_few_seeds(effects: Sequence[ComponentEffect], family: Sequence[ComponentEffect]) -> str:
    tests = sum(effect.p_holm is not None for effect in family)
    return few_seeds_doubt((effect.replicates for effect in effects if effect.supported), tests)


def _refusals(effects: Sequence[ComponentEffect]) -> list[str]:
    return [
        f"The effect of {effect.component} cannot be estimated: {effect.reason}." for effect in effects if effect.reason
    ]


def _test(effect: ComponentEffect, sign: int = 1) -> str:
    """The interval of `sign` times an effect, and the p-value; empty where there is none."""
    if effect.interval is None or effect.p_holm is None:
        return ""
    low, high = sorted((sign * effect.interval.low, sign * effect.interval.high))
    return f" ({interval_text(low, high)}, Holm-corrected p {cell('p_holm', effect.p_holm)})"


def _mean(effect: ComponentEffect) -> float:
    return effect.mean or 0.0
