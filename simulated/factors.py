"""Factorial sweeps whose truth is known, in which seeds act on single levels: are effects and interactions true?

Used by `benchmarks/coverage_factors.py` (at length) and tests/statistics/test_factor_coverage.py (in short). What is
judged comes as an argument, so that wrong formulas can be tried too: an error pooled over all effects, an error for
each factor, statsmodels' mixed model.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import special

from ablate.statistics.component_contrasts import two_components
from ablate.statistics.factorial_model import FactorAnalysis, FactorEffect, factor_analysis
from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, LEVEL, holm, main_effect, paired_t, t_interval

SEED_SPREAD = 0.012  # what a seed does to all cells alike, standard deviation in mAP
NOISE = 0.006  # of a trial
ON_LEVEL = 0.012  # what a seed does to a level
LEVELS = {"module": ("hmha", "acmix", "sta"), "insertion": ("c3k2", "head"), "optimizer": ("sgd", "musgd")}

Analyse = Callable[[pd.DataFrame], FactorAnalysis]


def null_sweep(random: np.random.Generator, seeds: int, kind: str) -> pd.DataFrame:
    """Trials of 3 x 2 x 2 cells without any effect; `kind`: seeds act "alike", on "one level" or on "each module"."""
    accuracy = 0.4 + random.normal(0, SEED_SPREAD, seeds) + random.normal(0, NOISE, (3, 2, 2, seeds))
    if kind == "one level":
        accuracy[0] += random.normal(0, ON_LEVEL, seeds)
    elif kind == "each module":
        accuracy += random.normal(0, ON_LEVEL, (3, 1, 1, seeds))
    rows = [(*cell, "yolo26n", "shapes", seed) for cell in product(*LEVELS.values()) for seed in range(seeds)]
    table = pd.DataFrame(rows, columns=[*LEVELS, "model", "data", "seed"])
    return table.assign(accuracy=accuracy.ravel())


def by_seed(trials: pd.DataFrame) -> FactorAnalysis:
    """The analysis of the report."""
    (found,) = factor_analysis(trials)
    return found


def pooled_error(trials: pd.DataFrame) -> FactorAnalysis:
    """Wrong where seeds act on a level: one error for all main effects, from the residuals of a linear model."""
    found = by_seed(trials)
    cells = int(np.prod([len(levels) for levels in found.levels.values()]))
    freedom, seeds = (cells - 1) * (len(found.seeds) - 1), len(found.seeds)
    assert found.std is not None

    def error(effect: FactorEffect) -> float:
        return float(found.std * np.sqrt((len(found.levels[effect.term]) - 1) / (cells * seeds)))

    return _with_errors(found, error, lambda effect: freedom)


def error_of_factor(trials: pd.DataFrame) -> FactorAnalysis:
    """Wrong where seeds act on one level: an error for each factor, as a balanced mixed model has it."""
    found = by_seed(trials)
    seeds = len(found.seeds)
    quantile = float(special.stdtrit(seeds - 1, 0.5 + LEVEL / 2))
    own = {e.level: ((e.interval.high - e.interval.low) / 2 / quantile) ** 2 for e in found.effects}

    def error(effect: FactorEffect) -> float:
        return float(np.sqrt(np.mean([own[level] for level in found.levels[effect.term]])))

    return _with_errors(found, error, lambda effect: (len(found.levels[effect.term]) - 1) * (seeds - 1))


def mixed_model(trials: pd.DataFrame) -> FactorAnalysis:
    """Statsmodels' mixed model: seeds as groups, a variance of seeds within each factor; its own normal intervals."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    found = by_seed(trials)
    parts = {f"{name} of a seed": f"0 + C({name})" for name in LEVELS}
    formula = " + ".join(f"C({name}, Sum)" for name in LEVELS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of convergence: with three seeds in a third of fits
        fit = MixedLM.from_formula(f"accuracy ~ {formula}", trials, groups="seed", vc_formula=parts).fit(reml=True)

    def error(effect: FactorEffect) -> float:
        others = sorted(found.levels[effect.term])
        names = [f"C({effect.term}, Sum)[S.{level}]" for level in others[:-1]]
        weights = [float(level == effect.level) if effect.level != others[-1] else -1.0 for level in others[:-1]]
        return float(np.sqrt(weights @ fit.cov_params().loc[names, names].to_numpy() @ weights))

    return _with_errors(found, error, lambda effect: 10**6)


def _with_errors(
    found: FactorAnalysis, error: Callable[[FactorEffect], float], freedom: Callable[[FactorEffect], int]
) -> FactorAnalysis:
    """The same estimates of main effects with other standard errors and degrees of freedom."""
    effects, p_values = [], []
    for effect in found.effects:
        mean = effect.interval.estimate
        reach = float(special.stdtrit(freedom(effect), 0.5 + LEVEL / 2)) * error(effect)
        effects.append(effect._replace(interval=Interval(mean, mean - reach, mean + reach)))
        p_values.append(float(2 * special.stdtr(freedom(effect), -abs(mean) / error(effect))))
    tests = {name: range(len(levels) if len(levels) > 2 else 1) for name, levels in found.levels.items()}
    family = [i for i, e in enumerate(effects) if found.levels[e.term].index(e.level) in tests[e.term]]
    corrected = dict(zip(family, holm([p_values[i] for i in family]), strict=True))
    return replace(found, effects=[e._replace(p_value=corrected.get(i) or 1.0) for i, e in enumerate(effects)])


def main_effects(
    random: np.random.Generator, count: int, seeds: int, kind: str, analyse: Analyse = by_seed
) -> dict[str, float]:
    """Null sweeps: how often the intervals of main effects hold zero, and how many sweeps have a false main effect.

    Returns:
        "covered", "false" (sweeps with a supported main effect) and "false interactions".
    """
    covered, false, crossed = [], 0, 0
    for _ in range(count):
        found = analyse(null_sweep(random, seeds, kind))
        covered += [effect.interval.low <= 0 <= effect.interval.high for effect in found.effects]
        false += any(effect.supported for effect in found.effects)
        crossed += any(effect.supported for effect in found.interactions)
    return {"covered": float(np.mean(covered)), "false": false / count, "false interactions": crossed / count}


def components(random: np.random.Generator, count: int, seeds: int, interaction: float = 0.0) -> dict[str, float]:
    """Factorials of three components: 0.01 each, and what the first two give together beyond the sum.

    Returns:
        "covered" and "covered without", "covered with": how often the intervals of the first interaction, and of the
        first component without and with the second, hold the truth; "found" and "false": how often that interaction,
        and any other one, is supported; "main effect misleads": how often the interval of the first main effect misses
        what the component adds without the second.
    """
    held = dict.fromkeys(("covered", "covered without", "covered with", "found", "false", "main effect misleads"), 0)
    subsets = list(product((False, True), repeat=3))
    for _ in range(count):
        luck = random.normal(0, SEED_SPREAD, seeds)
        accuracy = {}
        for subset in subsets:
            level = 0.4 + 0.01 * sum(subset) + interaction * (subset[0] and subset[1])
            accuracy[subset] = dict(enumerate((level + luck + random.normal(0, NOISE, seeds)).tolist()))
        pairs = [two_components(accuracy, first, second) for first, second in combinations(range(3), 2)]
        corrected = [p is not None and p < ALPHA for p in holm([paired_t(pair.interaction) for pair in pairs])]
        held["covered"] += _holds(pairs[0].interaction, interaction)
        held["covered without"] += _holds(pairs[0].first_alone, 0.01)
        held["covered with"] += _holds(pairs[0].first_with, 0.01 + interaction)
        held["found"] += corrected[0]
        held["false"] += any(corrected[1:]) or (corrected[0] and interaction == 0)
        held["main effect misleads"] += not _holds(main_effect(accuracy, 0).effects, 0.01)
    return {name: times / count for name, times in held.items()}


def _holds(values: list[float], truth: float) -> bool:
    interval = t_interval(values)
    return interval is not None and interval.low <= truth <= interval.high
