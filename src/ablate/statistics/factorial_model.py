"""Main effects and two-way interactions of the factors that vary, with intervals; or why there are none.

A linear model of mAP50-95, fitted by statsmodels: a mean, a block for each seed (so that what a seed does to all
variants alike is no noise, as in paired differences), an effect of each level of each factor, and of each pair of
levels of two factors; and, where more vary, of each combination of three and more, which is not reported but must not
pass for noise. Effects are coded to sum to zero, so that a main effect is how far a level's mean, over all
levels of the other factors, lies from the mean of all; and an interaction is what a pair of levels gives beyond the
sum of its main effects (Fisher 1935; Montgomery, Design and Analysis of Experiments). What is left over is the noise:
how differently one seed turns out from variant to variant, with (cells - 1) x (seeds - 1) degrees of freedom.

The baseline of grafts has no insertion, so it is no cell of the design. Where other factors, such as the loss, vary
without a module too, no module is a level like others. Only a balanced design is analysed, every cell with the
same seeds: in any other one a level's mean would depend on which cells happen to be there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations, product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, LEVEL, holm

if TYPE_CHECKING:
    import pandas as pd

FACTORS = ("module", "insertion", "optimizer", "box_loss", "cls_loss", "assigner", "head")
BASELINE = "none"
_BESIDE_MODULES = ("box_loss", "cls_loss", "assigner", "head")
NAMED = 3  # cells that a refusal names before it only counts them

Cell = tuple[str, ...]


class FactorEffect(NamedTuple):
    """What a level, or a pair of levels, adds to the mean, in fractions of mAP50-95.

    Attributes:
        term: "module", or "module x insertion".
        level: "hmha", or "hmha x head".
        interval: Against the mean over all levels, with its 95 % interval over seeds, of this effect alone.
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


@dataclass(frozen=True)
class FactorAnalysis:
    """The effects of the factors of one model on one data set.

    Attributes:
        model: Its name.
        data: Its name.
        effects: Main effects; empty where refused.
        interactions: Two-way interactions; empty where refused.
        refusal: Why there are no effects, in words; else empty.
        note: What a reader must know of the effects, in words, or empty.
        levels: Levels of each factor that takes part.
        seeds: Seeds of every cell.
        freedom: Residual degrees of freedom.
        std: Residual standard deviation of a trial, a fraction; None where refused.
    """

    model: str
    data: str
    effects: list[FactorEffect] = field(default_factory=list)
    interactions: list[FactorEffect] = field(default_factory=list)
    refusal: str = ""
    note: str = ""
    levels: dict[str, list[str]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=list)
    freedom: int = 0
    std: float | None = None


def factor_analysis(trials: pd.DataFrame) -> list[FactorAnalysis]:
    """Analyse the factors of finished trials.

    Args:
        trials: One row a trial, with a column for each of `FACTORS` that is of interest, and columns model, data, seed
            and map50_95 (a fraction; a trial without one counts as not there). Trials that may not be compared are for
            the caller to leave out: a refusal calls what is lacking comparable ones.

    Returns:
        One analysis for each model and data set, in order of appearance.
    """
    analyses = []
    for (model, data), group in trials.groupby(["model", "data"], sort=False):
        rows = _of_the_design(group[group["map50_95"].notna()])
        analyses.append(_analysed(str(model), str(data), rows))
    return analyses


def _of_the_design(rows: pd.DataFrame) -> pd.DataFrame:
    """Leave out trials without a module, unless they are cells: grafts are at one place, and other levels vary."""
    plain, grafted = rows[rows["module"] == BASELINE], rows[rows["module"] != BASELINE]
    varies = any(plain[name].nunique() > 1 for name in _BESIDE_MODULES if name in plain)
    return rows if varies and (grafted.empty or grafted["insertion"].nunique() == 1) else grafted


def _analysed(model: str, data: str, rows: pd.DataFrame) -> FactorAnalysis:
    """The analysis of one model and data set, from its finished trials."""
    levels = {name: list(dict.fromkeys(rows[name].astype(str))) for name in FACTORS if name in rows}
    levels["insertion"] = [level for level in levels["insertion"] if level != BASELINE]
    varying = [name for name in levels if len(levels[name]) >= 2]
    note = ""
    places = rows.groupby("module")["insertion"].nunique()
    if {"module", "insertion"} <= set(varying) and (places == 1).all():
        varying.remove("insertion")
        note = "each module is used at one insertion point only: the effects of the two cannot be separated"
    levels = {name: levels[name] for name in varying}
    refusal = _too_few_factors(varying, len(rows)) or _unbalanced(rows, levels)
    if refusal:
        return FactorAnalysis(model, data, refusal=refusal, note=note, levels=levels)
    seeds = sorted({int(seed) for seed in rows["seed"]})
    if len(seeds) < 2:
        refusal = (
            f"only one seed ({seeds[0]}): without replicates an effect cannot be separated from seed-to-seed variance"
        )
        return FactorAnalysis(model, data, refusal=refusal, note=note, levels=levels, seeds=seeds)
    return _fitted(FactorAnalysis(model, data, note=note, levels=levels, seeds=seeds), rows)


def _too_few_factors(varying: list[str], trials: int) -> str:
    """Why there is no design at all, or nothing."""
    if not trials:
        return "no finished, comparable trial has a module"
    if not varying:
        return "no factor varies: each has one level"
    if len(varying) == 1:
        return f"only one factor varies ({varying[0]}): the table compares its levels"
    return ""


def _unbalanced(rows: pd.DataFrame, levels: dict[str, list[str]]) -> str:
    """Which cells of the design lack what, or nothing."""
    seeds: dict[Cell, list[int]] = {cell: [] for cell in product(*levels.values())}
    for *cell, seed in rows[[*levels, "seed"]].itertuples(index=False):
        seeds[tuple(map(str, cell))].append(int(seed))
    module = str(rows["module"].iloc[0])
    for cell, owned in seeds.items():
        twice = [seed for seed, count in Counter(owned).items() if count > 1]
        if twice:
            return f"{_named(cell, levels, module)} has seed {twice[0]} more than once: incomparable trials are mixed"
    usual, _ = Counter(tuple(sorted(owned)) for owned in seeds.values() if owned).most_common(1)[0]
    missing = [cell for cell, owned in seeds.items() if not owned]
    other = [cell for cell, owned in seeds.items() if owned and tuple(sorted(owned)) != usual]
    problems = [f"{_named(cell, levels, module)} has {_seeds(seeds[cell])}" for cell in other[:NAMED]]
    if problems:
        problems[-1] += f", the others {_numbers(usual)}"
    problems += [f"{_named(cell, levels, module)} has no comparable trial" for cell in missing[:NAMED]]
    more = max(0, len(other) - NAMED) + max(0, len(missing) - NAMED)
    if more:
        problems.append(f"and {more} more such cells")
    if other and not set.intersection(*(set(owned) for owned in seeds.values() if owned)):
        problems.append("no seed is common to all")
    return "unbalanced: " + "; ".join(problems) if problems else ""


def _named(cell: Cell, levels: dict[str, list[str]], module: str) -> str:
    """A cell in words: "hmha at head with sgd"."""
    words = dict(zip(levels, cell, strict=True))
    parts = [words.get("module", module)]
    parts += [f"at {words['insertion']}"] if "insertion" in words else []
    parts += [f"with {words[name]}" for name in FACTORS[2:] if name in words]
    return " ".join(parts)


def _seeds(seeds: list[int]) -> str:
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {_numbers(sorted(seeds))}"


def _numbers(seeds: list[int] | tuple[int, ...]) -> str:
    return ", ".join(map(str, seeds))


def _fitted(analysis: FactorAnalysis, rows: pd.DataFrame) -> FactorAnalysis:
    """Fit the model to a balanced design and read its effects off."""
    from statsmodels.regression.linear_model import OLS

    accuracy = rows["map50_95"].to_numpy(dtype=float)
    coded = {name: _sum_coding(len(levels)) for name, levels in analysis.levels.items()}
    columns = {name: coded[name][_index(rows[name], levels)] for name, levels in analysis.levels.items()}
    blocks = _sum_coding(len(analysis.seeds))[_index(rows["seed"], analysis.seeds)]
    terms: list[tuple[str, ...]] = [term for size in range(len(coded)) for term in combinations(coded, size + 1)]
    parts = [np.ones((len(rows), 1)), blocks, *(_crossed([columns[name] for name in term]) for term in terms)]
    fit = OLS(accuracy, np.hstack(parts)).fit()
    std = float(np.sqrt(fit.mse_resid))
    if std <= 1e-12:
        refusal = "no residual variance is left to test an effect against"
        return FactorAnalysis(**{**vars(analysis), "refusal": refusal})
    ends = np.cumsum([part.shape[1] for part in parts])
    spans = {term: slice(ends[1 + i], ends[2 + i]) for i, term in enumerate(terms)}
    return FactorAnalysis(
        **{
            **vars(analysis),
            "effects": _effects(fit, analysis, coded, {t: s for t, s in spans.items() if len(t) == 1}),
            "interactions": _effects(fit, analysis, coded, {t: s for t, s in spans.items() if len(t) == 2}),
            "freedom": int(fit.df_resid),
            "std": std,
        }
    )


def _effects(
    fit: Any, analysis: FactorAnalysis, coded: dict[str, np.ndarray], spans: dict[tuple[str, ...], slice]
) -> list[FactorEffect]:
    """Effects of all levels, or pairs of levels, of these terms: one family of tests."""
    names, contrasts = [], []
    for term, span in spans.items():
        for choice, weights in _cells(term, analysis, coded):
            contrast = np.zeros(len(fit.params))
            contrast[span] = weights
            names.append((" x ".join(term), " x ".join(choice)))
            contrasts.append(contrast)
    tests = fit.t_test(np.array(contrasts))
    low, high = tests.conf_int(1 - LEVEL).T
    p_values = np.atleast_1d(tests.pvalue)
    distinct: dict[tuple[float, ...], int] = {}  # one test for each effect and its mirror image
    same = [distinct.setdefault(_unsigned(contrast), index) for index, contrast in enumerate(contrasts)]
    corrected = dict(zip(distinct.values(), holm([float(p_values[i]) for i in distinct.values()]), strict=True))
    return [
        FactorEffect(
            *name, Interval(float(tests.effect[i]), float(low[i]), float(high[i])), float(corrected[same[i]] or 0.0)
        )
        for i, name in enumerate(names)
    ]


def _cells(
    term: tuple[str, ...], analysis: FactorAnalysis, coded: dict[str, np.ndarray]
) -> Iterator[tuple[tuple[str, ...], np.ndarray]]:
    """Each level, or combination of levels, of a term with the weights of its columns."""
    for indices in product(*(range(len(analysis.levels[name])) for name in term)):
        choice = tuple(analysis.levels[name][i] for name, i in zip(term, indices, strict=True))
        yield choice, _crossed([coded[name][[i]] for name, i in zip(term, indices, strict=True)])[0]


def _unsigned(contrast: np.ndarray) -> tuple[float, ...]:
    """A contrast without its direction."""
    sign = np.sign(contrast[np.flatnonzero(contrast)[0]])
    return tuple(float(weight) for weight in sign * contrast)


def _sum_coding(levels: int) -> np.ndarray:
    """Rows that code L levels so that their effects sum to zero, (L, L - 1)."""
    return np.vstack([np.eye(levels - 1), -np.ones(levels - 1)])


def _crossed(parts: list[np.ndarray]) -> np.ndarray:
    """Products of the columns of one or two matrices, row by row: (n, a), (n, b) to (n, a * b)."""
    first, *others = parts
    for other in others:
        first = (first[:, :, None] * other[:, None, :]).reshape(len(first), -1)
    return first


def _index(values: pd.Series[Any], levels: list[Any]) -> np.ndarray:
    """Place of each value among the levels, (n,)."""
    place = {level: index for index, level in enumerate(levels)}
    return np.array([place[type(levels[0])(value)] for value in values])
