"""Effects agree with statsmodels' formulas and with plain means; designs that cannot tell are refused in words."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy import stats
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
            "accuracy": 0.3 + MODULES[m] + INSERTIONS[i] + OPTIMIZERS[o] + 0.008 * (m == "hmha" and i == "head")
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
    grand = trials["accuracy"].mean()
    for effect in found.effects:
        expected = trials.groupby(effect.term)["accuracy"].mean()[effect.level] - grand
        assert effect.interval.estimate == pytest.approx(expected, abs=1e-12)
    for effect in found.interactions:
        terms, levels = effect.term.split(" x "), effect.level.split(" x ")
        cell = trials.groupby(terms)["accuracy"].mean()[tuple(levels)] - grand
        main = sum(trials.groupby(t)["accuracy"].mean()[v] - grand for t, v in zip(terms, levels, strict=True))
        assert effect.interval.estimate == pytest.approx(cell - main, abs=1e-12)
    assert [(e.term, e.level) for e in found.effects] == [
        ("module", "hmha"), ("module", "acmix"), ("module", "sta"), ("insertion", "c3k2"), ("insertion", "head"),
        ("optimizer", "sgd"), ("optimizer", "musgd"),
    ]  # fmt: skip
    assert len(found.interactions) == 6 + 6 + 4
    assert found.seeds == [0, 1, 2]


def test_each_effect_is_tested_over_its_own_values_by_seed() -> None:
    """What statsmodels' formula estimates for each seed apart, with scipy's t-test over the seeds."""
    trials = design()
    found = only(trials)
    sum_coded = "accuracy ~ (C(module, Sum) + C(insertion, Sum) + C(optimizer, Sum)) ** 3"
    fits = pd.DataFrame({seed: ols(sum_coded, rows).fit().params for seed, rows in trials.groupby("seed")})
    module = {name: fits.loc[f"C(module, Sum)[S.{name}]"] for name in ("hmha", "acmix")}
    module["sta"] = -module["hmha"] - module["acmix"]
    cross = fits.loc["C(module, Sum)[S.hmha]:C(insertion, Sum)[S.c3k2]"]
    insertion, optimizer = fits.loc["C(insertion, Sum)[S.c3k2]"], fits.loc["C(optimizer, Sum)[S.musgd]"]
    by_level = {**module, "c3k2": insertion, "musgd": optimizer, "hmha x c3k2": cross}
    hit = {effect.level: effect for effect in found.effects + found.interactions}
    for level, values in by_level.items():
        low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
        assert tuple(hit[level].interval) == pytest.approx((values.mean(), low, high))
    # Tests of the family: three modules, one for the two insertions, one for the two optimizers.
    raw = [float(stats.ttest_1samp(values, 0).pvalue) for values in (*module.values(), insertion, optimizer)]
    corrected = dict(zip(["hmha", "acmix", "sta", "c3k2", "sgd"], holm(raw), strict=True))
    corrected |= {"head": corrected["c3k2"], "musgd": corrected["sgd"]}
    for effect in found.effects:
        assert effect.p_value == pytest.approx(corrected[effect.level], rel=1e-6)
    assert found.freedom == 2
    fit = ols(f"{sum_coded} + C(seed)", trials).fit()
    assert found.std == pytest.approx(np.sqrt(fit.mse_resid))


def test_what_is_there_is_found_and_a_seed_that_moves_all_alike_is_no_noise() -> None:
    found = only(design(seeds=(0, 1, 2, 3)))
    hit = {e.level: e for e in found.effects + found.interactions}
    assert hit["musgd"].interval.low < 0.01 < hit["musgd"].interval.high
    assert hit["musgd"].interval.high - hit["musgd"].interval.low < 0.003  # the seeds' spread is 0.03
    assert hit["hmha x head"].supported
    assert not hit["hmha x musgd"].supported
    assert found.std == pytest.approx(0.001, rel=0.5)


def test_a_seed_that_acts_on_one_level_is_noise_of_that_level() -> None:
    trials = design(seeds=(0, 1, 2, 3))
    luck = dict(enumerate((0.03, -0.02, 0.02, -0.03)))
    moved = trials["accuracy"] + trials["seed"].map(luck) * (trials["module"] == "hmha")
    plain, changed = only(trials), only(trials.assign(accuracy=moved))
    before, after = ({e.level: e for e in found.effects} for found in (plain, changed))
    assert np.ptp(after["hmha"].interval) > 10 * np.ptp(before["hmha"].interval)
    assert tuple(after["musgd"].interval) == pytest.approx(tuple(before["musgd"].interval))
    assert before["hmha"].supported
    assert not after["hmha"].supported


def test_an_effect_that_depends_on_another_factor_is_given_at_each_of_its_levels() -> None:
    trials = design(seeds=(0, 1, 2, 3, 4))
    found = only(trials)
    (hmha,) = [each for each in found.dependent if each.main.level == "hmha" and each.other == "insertion"]
    assert hmha.is_supported
    for simple in hmha.simple:
        there = trials[trials["insertion"] == simple.at]
        expected = there[there["module"] == "hmha"]["accuracy"].mean() - there["accuracy"].mean()
        assert simple.interval.estimate == pytest.approx(expected, abs=1e-12)
        assert simple.interval.low < simple.interval.estimate < simple.interval.high
    assert not any(each.main.term == "optimizer" or each.other == "optimizer" for each in found.dependent)


def test_an_interaction_of_the_size_of_the_main_effect_makes_it_dependent_without_being_supported() -> None:
    trials = design(seeds=(0, 1, 2, 3))
    apart = trials["seed"].map(dict(enumerate((0.03, -0.03, 0.03, 0.01))))  # noise of the interaction alone
    sign = (trials["module"] == "hmha") * np.where(trials["insertion"] == "head", 1, -1)
    found = only(trials.assign(accuracy=trials["accuracy"] + apart * sign))
    dependent = {(each.main.level, each.other): each for each in found.dependent}
    assert not any(effect.supported for effect in found.interactions if effect.term == "module x insertion")
    assert not dependent["hmha", "insertion"].is_supported
    assert dependent["hmha", "insertion"].main.supported
    assert ("hmha", "optimizer") not in dependent
    assert ("musgd", "module") not in dependent


def test_two_seeds_are_analysed_with_a_word_of_warning() -> None:
    found = only(design(seeds=(0, 1)))
    assert found.freedom == 1
    assert "with two seeds" in found.note
    assert found.effects


def test_an_effect_that_no_seed_changes_is_left_out_and_named() -> None:
    trials = design(modules=("hmha", "acmix"), insertions=("head",))
    same = trials.assign(accuracy=np.where(trials["module"] == "acmix", np.nan, trials["accuracy"]))
    same["accuracy"] = same["accuracy"].fillna(same.groupby(["optimizer", "seed"])["accuracy"].transform("mean"))
    found = only(same)
    assert {effect.term for effect in found.effects} == {"optimizer"}
    assert "the seeds do not differ in it at all: hmha, acmix" in found.note


def test_what_three_factors_do_together_is_no_noise() -> None:
    trials = design()
    sign = (
        np.where(trials["module"] == "hmha", 1, np.where(trials["module"] == "sta", -1, 0))
        * np.where(trials["insertion"] == "head", 1, -1)
        * np.where(trials["optimizer"] == "sgd", 1, -1)
    )
    plain, together = only(trials), only(trials.assign(accuracy=trials["accuracy"] + 0.02 * sign))
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
    trials.loc[(trials["module"] == "sta") & (trials["optimizer"] == "sgd") & (trials["seed"] == 1), "accuracy"] = None
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
    "no residual variance is left to test an effect against": design().assign(accuracy=0.25),
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
