"""Main effects and two-way interactions of the factors that vary, with intervals; or why there are none.

Effects sum to zero over the levels of a factor: a main effect is how far a level's mean, over all levels of the other
factors, lies from the mean of all; an interaction is what a pair of levels gives beyond the sum of its main effects
(Fisher 1935; Montgomery, Design and Analysis of Experiments). Each effect is computed for every seed apart, and its
interval is Student's over these values; over the folds of a cross-validation it is computed for every fold apart, with
the variance that folds need (`resampled`). So each effect has the error of its own: what seeds do to all variants alike
cancels in it, and what they do to one level enters the effects of that level. A single error for all effects, as the
residuals of a linear model give it, is too small wherever seeds do not act on all levels alike, and the factor's own
(that of a mixed model with a variance of seeds within each factor) where they act on one of its levels.

A main effect is an average, and says little where the effect depends on another factor. `FactorAnalysis.dependent`
names these, with the effect at each level of the other factor.

The baseline of grafts has no insertion, so it is no cell of the design. Where other factors, such as the loss, vary
without a module too, no module is a level like others. Only a balanced design is analysed, every cell with the
same seeds: in any other one a level's mean would depend on which cells happen to be there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, holm, paired_t, t_interval

if TYPE_CHECKING:
    import pandas as pd

FACTORS = ("module", "insertion", "optimizer", "box_loss", "cls_loss", "assigner", "head")
BASELINE = "none"
_BESIDE_MODULES = ("box_loss", "cls_loss", "assigner", "head")
NAMED = 3  # cells that a refusal names before it only counts them

Cell = tuple[str, ...]


class FactorEffect(NamedTuple):
    """What a level, or a pair of levels, adds to the mean, in fractions.

    Attributes:
        term: "module", or "module x insertion".
        level: "hmha", or "hmha x head".
        interval: Against the mean over all levels, with its 95 % interval over seeds or folds, of this effect alone.
        p_value: That it is zero, after Holm's correction over the main effects, or over the interactions, of this
            analysis. Effects that are one another's mirror image, as those of two levels are, count as one test.
    """

    term: str
    level: str
    interval: Interval
    p_value: float

    @property
    def supported(self) -> bool:
        """Whether the corrected p-value is below ALPHA."""
        return self.p_value < ALPHA


class SimpleEffect(NamedTuple):
    """The effect of a level at one level of another factor, in fractions, with its own interval over seeds or folds.

    `at` is the other factor's level. The effect is against the mean over all levels of the first factor there.
    """

    at: str
    interval: Interval


@dataclass(frozen=True)
class DependentEffect:
    """A level whose effect depends on another factor: the interaction is supported, or as large as the main effect.

    Attributes:
        main: Its main effect, an average that does not hold at each level of the other factor.
        other: Name of the other factor.
        simple: The effect at each level of the other factor.
        is_supported: Whether an interaction of this level with the other factor is supported.
    """

    main: FactorEffect
    other: str
    simple: tuple[SimpleEffect, ...]
    is_supported: bool


@dataclass(frozen=True)
class FactorAnalysis:
    """The effects of the factors of one model on one data set.

    Attributes:
        model: Its name.
        data: Its name.
        effects: Main effects; empty where refused.
        interactions: Two-way interactions; empty where refused.
        dependent: Levels whose effect depends on another factor, with the effect at each of its levels. Of levels
            without a supported interaction, only those whose main effect is supported.
        refusal: Why there are no effects, in words; else empty.
        note: What a reader must know of the effects, in words, or empty.
        levels: Levels of each factor that takes part.
        seeds: Seeds of every cell; with folds these, by their index.
        unit: "seed" or "fold": what the effects are computed for apart.
        share: n_test / n_train of folds; 0 of seeds.
        freedom: Degrees of freedom of each interval and test: seeds, or folds, - 1.
        std: Residual standard deviation of a trial, over all cells, a fraction; None where refused. No test uses it.
    """

    model: str
    data: str
    effects: list[FactorEffect] = field(default_factory=list)
    interactions: list[FactorEffect] = field(default_factory=list)
    dependent: list[DependentEffect] = field(default_factory=list)
    refusal: str = ""
    note: str = ""
    levels: dict[str, list[str]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    unit: str = "seed"
    share: float = 0.0
    freedom: int = 0
    std: float | None = None


def factor_analysis(trials: pd.DataFrame, *, share: float = 0.0) -> list[FactorAnalysis]:
    """Analyse the factors of finished trials.

    Args:
        trials: One row a trial, with a column for each of `FACTORS` that is of interest, and columns model, data, seed
            and accuracy (a fraction; a trial without one counts as not there). Trials that may not be compared are for
            the caller to leave out: a refusal calls what is lacking comparable ones. Over folds a row is a fold, its
            accuracy the mean over its seeds, and its index stands in the place of the seed.
        share: n_test / n_train of folds; 0 of seeds.

    Returns:
        One analysis for each model and data set, in order of appearance.
    """
    analyses = []
    for (model, data), group in trials.groupby(["model", "data"], sort=False):
        rows = _of_the_design(group[group["accuracy"].notna()])
        analyses.append(
            _analysed(FactorAnalysis(str(model), str(data), unit="fold" if share else "seed", share=share), rows)
        )
    return analyses


def _of_the_design(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out trials without a module, unless they are cells: grafts are at one place, and other levels vary."""
    plain, grafted = rows[rows["module"] == BASELINE], rows[rows["module"] != BASELINE]
    varies = any(plain[name].nunique() > 1 for name in _BESIDE_MODULES if name in plain)
    return rows if varies and (grafted.empty or grafted["insertion"].nunique() == 1) else grafted


def _analysed(analysis: FactorAnalysis, rows: pd.DataFrame) -> FactorAnalysis:
    """The analysis of one model and data set, from its finished trials."""
    levels = {name: list(dict.fromkeys(rows[name].astype(str))) for name in FACTORS if name in rows}
    levels["insertion"] = [level for level in levels["insertion"] if level != BASELINE]
    varying = [name for name in levels if len(levels[name]) >= 2]
    note = ""
    places = rows.groupby("module")["insertion"].nunique()
    if {"module", "insertion"} <= set(varying) and (places == 1).all():
        varying.remove("insertion")
        note = "each module is used at one insertion point only: the effects of the two cannot be separated"
    levels, unit = {name: levels[name] for name in varying}, analysis.unit
    analysis = replace(analysis, note=note, levels=levels)
    if refusal := _too_few_factors(varying, len(rows)) or _unbalanced(rows, levels, unit):
        return replace(analysis, refusal=refusal)
    seeds = sorted({int(seed) for seed in rows["seed"]})
    if len(seeds) < 2:
        refusal = (
            f"only one {unit} ({seeds[0]}): without replicates an effect cannot be separated from {unit}-to-{unit} "
            "variance"
        )
        return replace(analysis, refusal=refusal, seeds=seeds)
    return _estimated(replace(analysis, seeds=seeds), rows)


def _too_few_factors(varying: list[str], trials: int) -> str:
    """Why there is no design at all, or nothing."""
    if not trials:
        return "no finished, comparable trial has a module"
    if not varying:
        return "no factor varies: each has one level"
    if len(varying) == 1:
        return f"only one factor varies ({varying[0]}): the table compares its levels"
    return ""


def _unbalanced(rows: pd.DataFrame, levels: dict[str, list[str]], unit: str) -> str:
    """Which cells of the design lack what, or nothing."""
    seeds: dict[Cell, list[int]] = {cell: [] for cell in product(*levels.values())}
    for *cell, seed in rows[[*levels, "seed"]].itertuples(index=False):
        seeds[tuple(map(str, cell))].append(int(seed))
    module = str(rows["module"].iloc[0])
    for cell, owned in seeds.items():
        twice = [seed for seed, count in Counter(owned).items() if count > 1]
        if twice:
            return f"{_named(cell, levels, module)} has {unit} {twice[0]} more than once: incomparable trials are mixed"
    usual, _ = Counter(tuple(sorted(owned)) for owned in seeds.values() if owned).most_common(1)[0]
    missing = [cell for cell, owned in seeds.items() if not owned]
    other = [cell for cell, owned in seeds.items() if owned and tuple(sorted(owned)) != usual]
    problems = [f"{_named(cell, levels, module)} has {_seeds(seeds[cell], unit)}" for cell in other[:NAMED]]
    if problems:
        problems[-1] += f", the others {_numbers(usual)}"
    problems += [f"{_named(cell, levels, module)} has no comparable trial" for cell in missing[:NAMED]]
    more = max(0, len(other) - NAMED) + max(0, len(missing) - NAMED)
    if more:
        problems.append(f"and {more} more such cells")
    if other and not set.intersection(*(set(owned) for owned in seeds.values() if owned)):
        problems.append(f"no {unit} is common to all")
    return "unbalanced: " + "; ".join(problems) if problems else ""


def _named(cell: Cell, levels: dict[str, list[str]], module: str) -> str:
    """A cell in words: "hmha at head with sgd"."""
    words = dict(zip(levels, cell, strict=True))
    parts = [words.get("module", module)]
    parts += [f"at {words['insertion']}"] if "insertion" in words else []
    parts += [f"with {words[name]}" for name in FACTORS[2:] if name in words]
    return " ".join(parts)


def _seeds(seeds: list[int], unit: str) -> str:
    return f"{unit}{'s' * (len(seeds) != 1)} {_numbers(sorted(seeds))}"


def _numbers(seeds: list[int] | tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))


def _estimated(analysis: FactorAnalysis, rows: pd.DataFrame) -> FactorAnalysis:
    """Estimate the effects of a balanced design."""
    accuracy = _by_seed(analysis, rows)
    seeds, unit = len(analysis.seeds), analysis.unit
    cells = accuracy.size // seeds
    residuals = accuracy.reshape(cells, seeds)
    residuals = residuals - residuals.mean(axis=1, keepdims=True) - residuals.mean(axis=0) + residuals.mean()
    std = float(np.sqrt((residuals**2).sum() / ((cells - 1) * (seeds - 1))))
    if std <= 1e-12:
        return replace(analysis, refusal="no residual variance is left to test an effect against")
    names = list(analysis.levels)
    parts = {
        term: _effects_by_seed(accuracy, term) for size in (1, 2) for term in combinations(range(len(names)), size)
    }
    main, constant = _tested(analysis, {term: part for term, part in parts.items() if len(term) == 1})
    crossed, constant_pairs = _tested(analysis, {term: part for term, part in parts.items() if len(term) == 2})
    constant += constant_pairs
    note = [analysis.note] if analysis.note else []
    if seeds == 2:
        note.append(
            f"with two {unit}s the intervals hold, but only effects many times the {unit}-to-{unit} variance can be "
            "detected"
        )
    if constant:
        note.append(f"not tested, as the {unit}s do not differ in it at all: {', '.join(constant)}")
    return replace(
        analysis,
        effects=main,
        interactions=crossed,
        dependent=_dependent(analysis, main, crossed, parts),
        note="; ".join(note),
        freedom=seeds - 1,
        std=std,
    )


def _by_seed(analysis: FactorAnalysis, rows: pd.DataFrame) -> np.ndarray:
    """Accuracy of each cell and seed, (levels of the first factor, ..., of the last, seeds)."""
    sizes = [len(levels) for levels in analysis.levels.values()]
    accuracy = np.full((*sizes, len(analysis.seeds)), np.nan)
    places = [_index(rows[name], levels) for name, levels in analysis.levels.items()]
    accuracy[(*places, _index(rows["seed"], analysis.seeds))] = rows["accuracy"].to_numpy(dtype=float)
    return accuracy


def _effects_by_seed(accuracy: np.ndarray, term: tuple[int, ...]) -> np.ndarray:
    """Effects of the levels of one factor, or of the pairs of levels of two, (levels ..., seeds).

    Args:
        accuracy: As `_by_seed` returns it.
        term: Positions of the factors.
    """
    others = tuple(axis for axis in range(accuracy.ndim - 1) if axis not in term)
    effects: np.ndarray = accuracy.mean(axis=others)
    for axis in range(len(term)):
        effects = effects - effects.mean(axis=axis, keepdims=True)
    return effects


def _tested(analysis: FactorAnalysis, parts: dict[tuple[int, ...], np.ndarray]) -> tuple[list[FactorEffect], list[str]]:
    """Effects of all levels, or pairs of levels, of these terms: one family of tests; and what cannot be tested."""
    effects: list[FactorEffect] = []
    constant: list[str] = []
    tests: list[tuple[object, ...]] = []  # for each effect its test: those of two levels are one another's mirror image
    p_values: dict[tuple[object, ...], float | None] = {}
    sizes = [len(levels) for levels in analysis.levels.values()]
    for term, part in parts.items():
        for choice, level in _levels_of(analysis, term):
            by_seed = part[choice].tolist()
            interval = t_interval(by_seed, share=analysis.share)
            if interval is None:
                constant.append(level)
                continue
            tests.append((term, *(0 if sizes[i] == 2 else place for i, place in zip(term, choice, strict=True))))
            p_values.setdefault(tests[-1], paired_t(by_seed, analysis.share))
            effects.append(FactorEffect(" x ".join(list(analysis.levels)[i] for i in term), level, interval, 1.0))
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [
        effect._replace(p_value=float(corrected[test] or 0.0)) for effect, test in zip(effects, tests, strict=True)
    ], constant


def _levels_of(analysis: FactorAnalysis, term: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], str]]:
    """Each level, or pair of levels, of a term: its place, and its name."""
    levels = [list(analysis.levels.values())[i] for i in term]
    for choice in product(*(range(len(each)) for each in levels)):
        yield choice, " x ".join(each[i] for each, i in zip(levels, choice, strict=True))


def _dependent(
    analysis: FactorAnalysis,
    main: list[FactorEffect],
    crossed: list[FactorEffect],
    parts: dict[tuple[int, ...], np.ndarray],
) -> list[DependentEffect]:
    """The levels whose effect depends on another factor, the best supported first."""
    names, levels = list(analysis.levels), list(analysis.levels.values())
    supported = {(effect.term, effect.level) for effect in crossed if effect.supported}
    dependent = []
    for effect in main:
        one = names.index(effect.term)
        place = levels[one].index(effect.level)
        for other in range(len(names)):
            if other == one:
                continue
            term = (min(one, other), max(one, other))
            pairs = parts[term][place] if one < other else parts[term][:, place]  # (levels of the other, seeds)
            name = " x ".join(names[i] for i in term)
            found = any(
                (name, " x ".join((effect.level, level) if one < other else (level, effect.level))) in supported
                for level in levels[other]
            )
            is_large = np.ptp(pairs.mean(axis=1)) >= abs(effect.interval.estimate)
            if found or (effect.supported and is_large):
                simple = _simple_effects(parts[one,][place] + pairs, levels[other], analysis.share)
                dependent.append(DependentEffect(effect, names[other], simple, found))
    return sorted(dependent, key=lambda each: not each.is_supported)


def _simple_effects(values: np.ndarray, levels: list[str], share: float) -> tuple[SimpleEffect, ...]:
    """Effects of one level at each level of another factor, from their values by seed, (levels, seeds)."""
    effects = []
    for level, by_seed in zip(levels, values.tolist(), strict=True):
        mean = float(np.mean(by_seed))
        effects.append(SimpleEffect(level, t_interval(by_seed, share=share) or Interval(mean, mean, mean)))
    return tuple(effects)


def _index(values: pd.Series[Any], levels: list[Any]) -> np.ndarray:
    """Place of each value among the levels, (n,)."""
    place = {level: index for index, level in enumerate(levels)}
    return np.array([place[type(levels[0])(value)] for value in values])
