"""Interactions and main effects of module, insertion and optimizer in words, or why there are none.

Interactions come first: where one is supported, or as large as a main effect, that main effect is an average that does
not hold at each level of the other factor, and the effect at each of these levels is told in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.factor_effects import analyses_of
from ablate.analysis.number_format import points
from ablate.analysis.phrases import count, estimate_text, interval_text, joined, limited, listed
from ablate.findings.finding import Claim, Finding, Kind, direction
from ablate.findings.normality import few_units_doubt
from ablate.statistics.factorial_model import DependentEffect, FactorAnalysis, FactorEffect

MOST = 4  # effects of one kind that are said


def factor_findings(comparison: Comparison) -> list[Finding]:
    """The effects that the trials support, or why there are none, for each model and data set."""
    analyses = analyses_of(comparison)
    findings: list[Finding] = []
    for analysis in analyses:
        where = f"On {analysis.data} with {analysis.model}, the" if len(analyses) > 1 else "The"
        if analysis.refusal:
            findings.append(Finding(f"{where} {_refused(analysis)}", Kind.FACTORS))
        else:
            findings += [replace(one, text=f"{where} {one.text}") for one in _supported(analysis)]
    return findings


def _refused(analysis: FactorAnalysis) -> str:
    refusal = analysis.refusal if len(analysis.refusal) < 300 else f"{analysis.refusal[:297]}..."
    return f"effects of {joined(analysis.levels)} cannot be estimated: {refusal}."


def _supported(analysis: FactorAnalysis) -> list[Finding]:
    """What is supported, interactions first; each text continues 'The ...'."""
    interactions = [effect for effect in analysis.interactions if effect.supported]
    units = count(len(analysis.seeds), analysis.unit)
    text = f"effects of {joined(analysis.levels)} ({units}, relative to the overall mean): "
    text += f"significant interactions: {_largest(interactions)}." if interactions else _none(analysis.interactions)
    sure, unsure = _told_apart(analysis.dependent, list(analysis.levels))
    apart = {(each.main.term, each.main.level) for each in analysis.dependent}
    main = [e for e in analysis.effects if e.supported and (e.term, e.level) not in apart]
    alike = "other main effects" if sure or unsure else "main effects"
    rest = [e for e in analysis.effects if (e.term, e.level) not in apart]
    means = (
        f"{alike}: significant for {_largest(main)}" if main else f"{alike}: none is significant{_the_largest(rest)}"
    )
    claimed = len(analysis.seeds) if analysis.unit == "seed" else 0
    doubt = few_units_doubt([claimed] if claimed and (interactions or main) else [])
    note = f" {analysis.note[0].upper()}{analysis.note[1:]}." if analysis.note else ""
    of_pairs = tuple(Claim(e.level, direction(e.interval.estimate), "its main effects", e.term) for e in interactions)
    of_levels = tuple(Claim(e.level, direction(e.interval.estimate), "the overall mean", e.term) for e in main)
    if not (sure or unsure):
        return [Finding(f"{text} {means[0].upper()}{means[1:]}.{doubt}{note}", Kind.FACTORS, (*of_pairs, *of_levels))]
    return [
        Finding(text, Kind.FACTORS, of_pairs),
        *(
            Finding(f"effect of one factor {verb} on the other for {limited(texts, MOST)}.", Kind.FACTORS)
            for verb, texts in (("depends", sure), ("may depend", unsure))
            if texts
        ),
        Finding(f"{means}.{doubt}{note}", Kind.FACTORS, of_levels),
    ]


def _none(interactions: Sequence[FactorEffect]) -> str:
    return f"no interaction is significant{_the_largest(interactions)}."


def _the_largest(effects: Sequence[FactorEffect]) -> str:
    """The largest of effects that are not significant, in brackets."""
    largest = max(effects, key=lambda effect: abs(effect.interval.estimate), default=None)
    return "" if largest is None else f"; the largest is {_effect(largest)}"


def _told_apart(dependent: Sequence[DependentEffect], factors: Sequence[str]) -> tuple[list[str], list[str]]:
    """Each level that depends on another factor, with its effects there; two factors are told from the first's side.

    First those of which an interaction is significant, then those of which it is only as large as the main effect.
    """
    sides: dict[frozenset[str], str] = {}
    sure: list[str] = []
    unsure: list[str] = []
    for each in sorted(dependent, key=lambda one: (factors.index(one.main.term), -abs(one.main.interval.estimate))):
        if sides.setdefault(frozenset({each.main.term, each.other}), each.main.term) == each.main.term:
            at = [
                f"{points(s.interval.estimate)} points with {s.at} ({interval_text(s.interval.low, s.interval.high)})"
                for s in each.simple
            ]
            reason = "" if each.is_supported else "; the interaction is not significant but as large as the main effect"
            text = f"{each.main.level} ({each.main.term}), {listed(at, MOST)}{reason}"
            (sure if each.is_supported else unsure).append(text)
    return sure, unsure


def _largest(effects: Sequence[FactorEffect]) -> str:
    ranked = sorted(effects, key=lambda effect: -abs(effect.interval.estimate))
    return listed((_effect(effect) for effect in ranked), MOST)


def _effect(effect: FactorEffect) -> str:
    p_value = f"Holm-corrected p {cell('p_holm', effect.p_value)}"
    return f"{effect.level} {estimate_text(effect.interval.estimate, effect.interval, p_value)}"
