"""The effects of a sweep's factors, from the trials that may be compared."""

from __future__ import annotations

import pandas as pd

from ablate.analysis.comparison import Comparison
from ablate.analysis.variant_row import Row
from ablate.records.factor_levels import ALL_FACTORS
from ablate.statistics.factorial_model import FactorAnalysis, factor_analysis


def analyses_of(comparison: Comparison) -> list[FactorAnalysis]:
    """The analyses of a sweep's factors, one for each model and data set in which two factors or more vary.

    A design of components has effects of its own (`component_effects`), and none of these.
    """
    if comparison.sweep.design is not None:
        return []
    trials = [
        {**row.variant.factors, "seed": seed, "accuracy": accuracy}
        for row in analysed_rows(comparison)
        for seed, accuracy in row.variant.accuracy().items()
    ]
    frame = pd.DataFrame(trials, columns=[*ALL_FACTORS, "seed", "accuracy"])
    return [analysis for analysis in factor_analysis(frame) if len(analysis.levels) > 1]


def analysed_rows(comparison: Comparison) -> list[Row]:
    """The rows whose trials take part: those that may be compared, in the order of the sweep; no controls."""
    order = {(v.key, v.comparison_key): index for index, v in enumerate(comparison.variants)}
    rows = [row for row in comparison.rows if row.is_comparable and not row.is_control]
    return sorted(rows, key=lambda row: order[row.key, row.variant.comparison_key])
