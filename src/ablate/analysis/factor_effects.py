"""The effects of a sweep's factors, from the trials that may be compared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from statistics import fmean

import pandas as pd

from ablate.analysis.comparison import Comparison
from ablate.analysis.variant_row import Row
from ablate.records.factor_levels import ALL_FACTORS
from ablate.records.replicate import Replicate
from ablate.statistics.factorial_model import FactorAnalysis, factor_analysis


def analyses_of(comparison: Comparison) -> list[FactorAnalysis]:
    """The analyses of a sweep's factors, one for each model and data set in which two factors or more vary.

    A design of components has effects of its own (`component_effects`), and none of these.
    """
    if comparison.sweep.design is not None:
        return []
    rows = analysed_rows(comparison)
    share = next((share for row in rows if (share := row.variant.fold_share) is not None), None)
    accuracies = [(row, row.variant.accuracy()) for row in rows]
    everywhere = {one for _, by_replicate in accuracies for one in by_replicate}
    trials = [
        {**row.variant.factors, "seed": unit, "accuracy": accuracy}
        for row, by_replicate in accuracies
        for unit, accuracy in (_by_seed(by_replicate) if share is None else _by_fold(by_replicate, everywhere))
    ]
    frame = pd.DataFrame(trials, columns=[*ALL_FACTORS, "seed", "accuracy"])
    return [analysis for analysis in factor_analysis(frame, share=share or 0.0) if len(analysis.levels) > 1]


def _by_seed(accuracies: Mapping[Replicate, float]) -> Iterator[tuple[int, float]]:
    return ((replicate.seed, accuracy) for replicate, accuracy in accuracies.items())


def _by_fold(accuracies: Mapping[Replicate, float], everywhere: Set[Replicate]) -> Iterator[tuple[int, float]]:
    """Index and mean accuracy of each fold that has all seeds which that fold has anywhere: others are not balanced."""
    for fold in sorted({replicate.fold for replicate in accuracies if replicate.fold is not None}):
        seeds = [replicate for replicate in everywhere if replicate.fold == fold]
        if accuracies.keys() >= set(seeds):
            yield fold, fmean(accuracies[replicate] for replicate in seeds)


def analysed_rows(comparison: Comparison) -> list[Row]:
    """The rows whose trials take part: those that may be compared, in the order of the sweep; no controls."""
    order = {(v.key, v.comparison_key): index for index, v in enumerate(comparison.variants)}
    rows = [row for row in comparison.rows if row.takes_part]
    return sorted(rows, key=lambda row: order[row.key, row.variant.comparison_key])
