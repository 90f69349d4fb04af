"""Effects agree with statsmodels' formulas and with plain means; designs that cannot tell are refused in words."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from statsmodels.formula.api import ols

from ablate.statistics.factorial_model import FactorAnalysis, factor_analysis
from ablate.statistics.paired import holm

MODULES = {"hmha": 0.01, "acmix": 0.0, "sta": -0.004}
INSERTIONS = {"c3k2": 0.0, "head": 0.006}
OPTIMIZERS = {"sgd": 0.0, "musgd": 0.02}


def design(
    modules: tuple[str, ...] = ("hmha", "acmix", "sta"),
    insertions: tuple[str, ...] = ("c3k2", "head"),
    optimizers: tuple[str, ...] = ("sgd", "musgd"),
    seeds: tuple[int, ...] = (0, 1, 2),
    noise: float = 0.001,
    model: str = "yolo26n",
) -> pd.DataFrame:
    """A full factorial: additive effects, hmha at head gains 0.008 more, and a seed moves all trials alike."""
    random = np.random.default_rng(7)
    luck = {seed: random.normal(0, 0.03) for seed in seeds}
    rows = [
        {
            "module": m, "insertion": i, "optimizer": o, "model": model, "data": "shapes", "seed": s,
            "map50_95": 0.3 + MODULES[m] + INSERTIONS[i] + OPTIMIZERS[o] + 0.008 * (m == "hmha" and i == "head")
            + luck[s] + random.normal(0, noise),
        }
        for m, i, o, s in product(modules, insertions, optimizers, seeds)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def only(trials: pd.DataFrame) -> FactorAnalysis:
    (found,) = factor_analysis(trials)
    return found


def without(trials: pd.DataFrame, **levels: object) -> pd.DataFrame:
    chosen = np.logical_and.reduce([trials[name] == level for name, level in levels.items()])
    return trials[~chosen]


def test_main_effects_are_means_over_the_other_factors_and_interactions_what_they_leave() -> None:
    trials = design()
    found = only(trials)
    assert (found.refusal, found.note) == ("", "")
    grand = trials["map50_95"].mean()
    for effect in found.effects:
        expected = trials.groupby(effect.term)["map50_95"].mean()[effect.level] - grand
        assert effect.interval.estimate == pytest.approx(expected, abs=1e-12)
    for effect in found.interactions:
        terms, levels = effect.term.split(" x "), effect.level.split(" x ")
        cell = trials.groupby(terms)["map50_95"].mean()[tuple(levels)] - grand
        main = sum(trials.groupby(t)["map50_95"].mean()[v] - grand for t, v in zip(terms, levels, strict=True))
        assert effect.interval.estimate == pytest.approx(cell - main, abs=1e-12)
    assert [(e.term, e.level) for e in found.effects] == [
        ("module", "hmha"), ("module", "acmix"), ("module", "sta"), ("insertion", "c3k2"), ("insertion", "head"),
        ("optimizer", "sgd"), ("optimizer", "musgd"),
    ]  # fmt: skip
    assert len(found.interactions) == 6 + 6 + 4
    assert found.seeds == [0, 1, 2]


def test_intervals_and_p_values_agree_with_a_formula() -> None:
    trials = design()
    found = only(trials)
    sum_coded = "map50_95 ~ C(seed) + (C(module, Sum) + C(insertion, Sum) + C(optimizer, Sum)) ** 3"
    fit = ols(sum_coded, trials).fit()
    assert found.freedom == int(fit.df_resid) == (3 * 2 * 2 - 1) * (3 - 1)
    assert found.std == pytest.approx(np.sqrt(fit.mse_resid))
    intervals = fit.conf_int(0.05)
    term = "C(module, Sum)[S.hmha]"
    effect = next(e for e in found.effects if e.level == "hmha")
    assert (effect.interval.estimate, effect.interval.low, effect.interval.high) == pytest.approx(
        (fit.params[term], *intervals.loc[term])
    )
    cross = "C(module, Sum)[S.hmha]:C(insertion, Sum)[S.c3k2]"
    effect = next(e for e in found.interactions if e.level == "hmha x c3k2")
    assert (effect.interval.estimate, effect.interval.low, effect.interval.high) == pytest.approx(
        (fit.params[cross], *intervals.loc[cross])
    )
    # Tests of the family: three modules, one for the two insertions, one for the two optimizers.
    third = fit.t_test("-`C(module, Sum)[S.acmix]` - `C(module, Sum)[S.hmha]`".replace("`", "")).pvalue.item()
    raw = [fit.pvalues[f"C(module, Sum)[S.{name}]"] for name in ("hmha", "acmix")]
    raw += [third, fit.pvalues["C(insertion, Sum)[S.c3k2]"], fit.pvalues["C(optimizer, Sum)[S.musgd]"]]
    corrected = dict(zip(["hmha", "acmix", "sta", "c3k2", "sgd"], holm([float(p) for p in raw]), strict=True))
    corrected |= {"head": corrected["c3k2"], "musgd": corrected["sgd"]}
    for effect in found.effects:
        assert effect.p_value == pytest.approx(corrected[effect.level], rel=1e-6)


def test_what_is_there_is_found_and_a_seed_that_moves_all_alike_is_no_noise() -> None:
    found = only(design(seeds=(0, 1, 2, 3)))
    hit = {e.level: e for e in found.effects + found.interactions}
    assert hit["musgd"].interval.low < 0.01 < hit["musgd"].interval.high
    assert hit["musgd"].interval.high - hit["musgd"].interval.low < 0.002  # the seeds' spread is 0.03
    assert hit["hmha x head"].p_value < 0.001
    assert hit["hmha x musgd"].p_value > 0.05
    assert found.std == pytest.approx(0.001, rel=0.5)


def test_what_three_factors_do_together_is_no_noise() -> None:
    trials = design()
    sign = (
        np.where(trials["module"] == "hmha", 1, np.where(trials["module"] == "sta", -1, 0))
        * np.where(trials["insertion"] == "head", 1, -1)
        * np.where(trials["optimizer"] == "sgd", 1, -1)
    )
    plain, together = only(trials), only(trials.assign(map50_95=trials["map50_95"] + 0.02 * sign))
    assert together.std == pytest.approx(plain.std)
    for one, other in zip(plain.effects, together.effects, strict=True):
        assert (*one.interval, one.p_value) == pytest.approx((*other.interval, other.p_value))


def test_each_model_and_data_set_is_analysed_apart() -> None:
    found = factor_analysis(pd.concat([design(), design(model="yolo11n", seeds=(0,))]))
    assert [(f.model, bool(f.refusal)) for f in found] == [("yolo26n", False), ("yolo11n", True)]


def test_the_baseline_takes_no_part() -> None:
    trials = design()
    baseline = design(modules=("acmix",), insertions=("c3k2",)).assign(module="none", insertion="none")
    assert only(pd.concat([baseline, trials])) == only(trials)
    assert "no finished, comparable trial has a module" in only(baseline).refusal


def test_factors_with_one_level_take_no_part() -> None:
    found = only(design(insertions=("head",)))
    assert found.levels == {"module": ["hmha", "acmix", "sta"], "optimizer": ["sgd", "musgd"]}
    assert {e.term for e in found.effects + found.interactions} == {"module", "optimizer", "module x optimizer"}


def test_modules_at_one_place_each_are_analysed_with_a_word_of_warning() -> None:
    trials = design(insertions=("head",))
    trials.loc[trials["module"] == "hmha", "insertion"] = "c3k2"
    found = only(trials)
    assert not found.refusal
    assert found.note.startswith("each module is used at one insertion point only")
    assert set(found.levels) == {"module", "optimizer"}


def lacking_one_seed() -> pd.DataFrame:
    return without(design(), module="hmha", insertion="head", optimizer="sgd", seed=2)


def lacking_a_result() -> pd.DataFrame:
    trials = design()
    trials.loc[(trials["module"] == "sta") & (trials["optimizer"] == "sgd") & (trials["seed"] == 1), "map50_95"] = None
    return trials


def with_other_seeds() -> pd.DataFrame:
    trials = design(insertions=("head",))
    trials.loc[trials["module"] == "hmha", "seed"] += 10
    return trials


REFUSALS = {
    "unbalanced: hmha at head with sgd has seeds 0, 1, the others 0, 1, 2": lacking_one_seed(),
    "unbalanced: sta at c3k2 with sgd has seeds 0, 2; sta at head with sgd has seeds 0, 2, the others 0, 1, 2": (
        lacking_a_result()
    ),
    "unbalanced: hmha at head with sgd has no comparable trial": without(
        design(), module="hmha", insertion="head", optimizer="sgd"
    ),
    "unbalanced: hmha with sgd has seeds 10, 11, 12; hmha with musgd has seeds 10, 11, 12, the others 0, 1, 2; "
    "no seed is common to all": with_other_seeds(),
    "only one seed (4): without replicates an effect cannot be separated from seed-to-seed variance": design(
        seeds=(4,)
    ),
    "only one factor varies (module): the table compares its levels": design(insertions=("head",), optimizers=("sgd",)),
    "no factor varies: each has one level": design(("sta",), ("head",), ("sgd",)),
    "hmha at c3k2 with sgd has seed 0 more than once: incomparable trials are mixed": pd.concat(
        [design(), design().head(1)]
    ),
    "no residual variance is left to test an effect against": design().assign(map50_95=0.25),
}


@pytest.mark.parametrize("words", REFUSALS)
def test_a_design_that_cannot_tell_is_refused_in_words(words: str) -> None:
    found = only(REFUSALS[words])
    assert found.refusal == words
    assert (found.effects, found.interactions, found.std) == ([], [], None)


def test_a_refusal_names_some_cells_and_counts_the_others() -> None:
    trials = design()
    found = only(trials[(trials["seed"] < 2) | (trials["optimizer"] == "sgd")].drop(trials.index[[0, 1, 2]]))
    assert found.refusal.count("has") == 4
    assert "and 2 more such cells" in found.refusal


def test_an_empty_table_has_no_analysis() -> None:
    assert factor_analysis(design().head(0)) == []
