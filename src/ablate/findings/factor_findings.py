"""Main effects and interactions of module, insertion and optimizer in words, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.factor_effects import analyses_of
from ablate.analysis.number_format import points
from ablate.analysis.phrases import interval_text, joined, listed
from ablate.statistics.factorial_model import FactorAnalysis, FactorEffect

MOST = 4  # effects of one kind that are said


def factor_findings(comparison: Comparison) -> list[str]:
    """The effects that the trials support, or why there are none, for each model and data set."""
    analyses = analyses_of(comparison)
    sentences = []
    for analysis in analyses:
        where = f"On {analysis.data} with {analysis.model}, the" if len(analyses) > 1 else "The"
        sentences.append(f"{where} {_refused(analysis) if analysis.refusal else _supported(analysis)}")
    return sentences


def _refused(analysis: FactorAnalysis) -> str:
    refusal = analysis.refusal if len(analysis.refusal) < 300 else f"{analysis.refusal[:297]}..."
    return f"effects of {joined(analysis.levels)} cannot be estimated: {refusal}."


def _supported(analysis: FactorAnalysis) -> str:
    main = [effect for effect in analysis.effects if effect.supported]
    interactions = [effect for effect in analysis.interactions if effect.supported]
    text = f"effects of {joined(analysis.levels)} ({len(analysis.seeds)} seeds, relative to the overall mean): "
    text += f"significant for {_largest(main)}" if main else "none is significant"
    if interactions:
        text += f"; significant interactions: {_largest(interactions)}"
    else:
        text += "; no interaction is significant"
    return f"{text}.{f' {analysis.note.capitalize()}.' if analysis.note else ''}"


def _largest(effects: Sequence[FactorEffect]) -> str:
    ranked = sorted(effects, key=lambda effect: -abs(effect.interval.estimate))
    return listed((_effect(effect) for effect in ranked), MOST)


def _effect(effect: FactorEffect) -> str:
    interval = effect.interval
    test = f"{interval_text(interval.low, interval.high)}, Holm-corrected p {cell('p_holm', effect.p_value)}"
    return f"{effect.level} {points(interval.estimate)} points ({test})"
