"""Main effects and interactions of module, insertion and optimizer in words, or why there are none."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from ablate.analysis.columns import rows_of
from ablate.analysis.number_format import cell, points
from ablate.analysis.phrases import interval, names, together
from ablate.analysis.variants import variants_of
from ablate.records.records import Sweep
from ablate.statistics.factorial_model import FactorAnalysis, FactorEffect, factor_analysis
from ablate.statistics.paired import ALPHA

FACTORS = ("module", "insertion", "optimizer", "model", "data")
MOST = 4  # effects of one kind that are said


def analyses_of(sweep: Sweep, table: pd.DataFrame) -> list[FactorAnalysis]:
    """The analyses of a sweep's factors, one for each model and data set in which two factors or more vary.

    Only variants that may be compared take part, and no controls. A design of components has effects of its own
    (`ablate.analysis.component_effects`), and none of these.
    """
    if sweep.design is not None:
        return []
    fair = {
        row["variant_key"]: row for row in rows_of(table[(table["comparable"] == "yes") & (table["control"] == "")])
    }
    trials = [
        {**{name: fair[variant.key][name] for name in FACTORS}, "seed": seed, "map50_95": accuracy}
        for variant in variants_of(sweep)
        if variant.control is None and variant.key in fair
        for seed, accuracy in variant.accuracy().items()
    ]
    frame = pd.DataFrame(trials, columns=[*FACTORS, "seed", "map50_95"])
    return [found for found in factor_analysis(frame) if len(found.levels) > 1]


def factor_findings(sweep: Sweep, table: pd.DataFrame) -> list[str]:
    """The effects that the trials support, or why there are none, for each model and data set."""
    analyses = analyses_of(sweep, table)
    said = []
    for found in analyses:
        where = f"On {found.data} with {found.model}, the" if len(analyses) > 1 else "The"
        told = _refused(found) if found.refusal else _told(found)
        said.append(f"{where} {told}")
    return said


def _refused(found: FactorAnalysis) -> str:
    refusal = found.refusal if len(found.refusal) < 300 else f"{found.refusal[:297]}..."
    return f"effects of {together(found.levels)} are not told apart: {refusal}."


def _told(found: FactorAnalysis) -> str:
    real = [effect for effect in found.effects if effect.p_value < ALPHA]
    crossed = [effect for effect in found.interactions if effect.p_value < ALPHA]
    text = f"effects of {together(found.levels)} ({len(found.seeds)} seeds, against the mean of all): "
    text += f"supported for {_listed(real)}" if real else "none is supported"
    text += (
        f"; together, more or less than their sum: {_listed(crossed)}" if crossed else "; no interaction is supported"
    )
    return f"{text}.{f' But {found.note}.' if found.note else ''}"


def _listed(effects: Sequence[FactorEffect]) -> str:
    largest = sorted(effects, key=lambda effect: -abs(effect.estimate))
    return names((_effect(effect) for effect in largest), MOST)


def _effect(effect: FactorEffect) -> str:
    corrected = cell("p_holm", effect.p_value)
    bounds = interval(effect.low, effect.high)
    return f"{effect.level} {points(effect.estimate)} points ({bounds}, corrected p {corrected})"
