"""Means over data sets cover, predictions come true as often as is said, ranks keep quiet; wrong formulas do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from simulated import data_sets as simulation

from ablate.statistics.random_effects import between_data_sets, pooled, prediction
from ablate.statistics.ranks import cliques, critical_distance, ranks

BETWEEN = (0.0, 0.004, 0.01)


@pytest.mark.parametrize("between", BETWEEN)
@pytest.mark.parametrize("data_sets", [2, 3, 5, 10])
def test_the_mean_over_data_sets_is_covered(data_sets: int, between: float) -> None:
    assert simulation.coverage(np.random.default_rng(1), 2000, data_sets, 3, between) >= 0.935


@pytest.mark.parametrize("wrong", [simulation.fixed_effect, simulation.all_trials, simulation.weighted_hartung_knapp])
def test_wrong_means_over_data_sets_would_be_noticed(wrong: simulation.MakeInterval) -> None:
    assert simulation.coverage(np.random.default_rng(1), 500, 5, 3, 0.004, wrong) < 0.92


@pytest.mark.parametrize("between", BETWEEN)
def test_the_next_data_set_is_within_the_prediction_interval(between: float) -> None:
    held = simulation.prediction_coverage(np.random.default_rng(1), 2000, 5, 3, between)
    assert 0.92 <= held["measured"] <= 0.98
    assert held["true"] >= held["measured"], "seeds add to what is measured"


@pytest.mark.parametrize(("low", "high"), [(0.5, 0.7), (0.7, 0.9), (0.9, 1.0)])
def test_the_next_data_set_is_better_as_often_as_is_said(low: float, high: float) -> None:
    one = simulation.calibration(np.random.default_rng(1), 5000, 5, 3, 0.01, 0.05, low, high)
    assert one.came_true == pytest.approx(one.said, abs=3 * np.sqrt(one.said * (1 - one.said) / one.cases))


def test_where_no_variant_does_anything_a_high_probability_comes_true_half_of_the_time() -> None:
    one = simulation.calibration(np.random.default_rng(1), 5000, 5, 3, 0.01, 0.0, 0.7, 0.9)
    assert one.came_true < 0.6 < one.said


@pytest.mark.parametrize(("data_sets", "variants"), [(3, 3), (5, 6)])
def test_ranks_of_variants_alike_are_seldom_called_different(data_sets: int, variants: int) -> None:
    alarms = simulation.rank_alarms(np.random.default_rng(1), 60, data_sets, variants)
    assert alarms["Friedman"] <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 60)
    assert alarms["both"] <= alarms["Friedman"]


def test_two_data_sets_and_one_predict_nothing() -> None:
    assert prediction([0.01, 0.02]) is None
    one = pooled([0.01], [0.002])
    assert (one.interval, one.p_value, one.between, one.prediction) == (None, None, None, None)


def test_what_varies_between_data_sets_is_paule_and_mandels_value() -> None:
    """By its definition: the weighted squares about the mean are as many as their degrees of freedom."""
    differences, errors = [0.01, 0.03, -0.01, 0.02], [0.004, 0.006, 0.003, 0.005]
    between = between_data_sets(differences, errors)
    assert between is not None
    weights = 1 / (np.square(errors) + between**2)
    mean = weights @ differences / weights.sum()
    assert weights @ (np.array(differences) - mean) ** 2 == pytest.approx(3, rel=1e-4)
    assert between_data_sets([0.01, 0.0101], [0.01, 0.01]) == 0.0
    assert between_data_sets([0.01, 0.01], [0.01, 0.02]) == 0.0  # without a warning of statsmodels
    assert between_data_sets([0.01, 0.02], [0.01, None]) is None


def test_critical_distances_are_those_of_demsars_table() -> None:
    """Demsar 2006, table 5a: q at 0.05 for 2 to 10 classifiers is 1.960 to 3.164."""
    for variants, quantile in ((2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)):
        expected = quantile * np.sqrt(variants * (variants + 1) / (6 * 14))
        assert critical_distance(variants, 14) == pytest.approx(expected, abs=1e-3)


def test_ranks_of_many_data_sets_agree_with_friedmans_approximation() -> None:
    random = np.random.default_rng(3)
    table = random.normal([0.0, 0.3, 0.0, 0.1], 1.0, (30, 4))
    found = ranks(table.tolist())
    assert found is not None
    assert found.means == pytest.approx(stats.rankdata(-table, axis=1).mean(axis=0))
    assert found.p_value == pytest.approx(stats.friedmanchisquare(*table.T).pvalue, abs=0.02)


def test_few_data_sets_have_an_exact_p_value() -> None:
    """Three data sets that agree on three variants: 6 of 216 orders are as extreme."""
    found = ranks([[0.3, 0.2, 0.1]] * 3)
    assert found is not None
    assert found.p_value == pytest.approx(6 / 216)
    assert ranks([[0.1, 0.2]] * 3) is None


def test_groups_that_do_not_differ_are_the_largest_ones() -> None:
    assert cliques([1.0, 2.0, 2.5, 5.0], 1.6) == [(1.0, 2.5)]
    assert cliques([1.0, 2.0, 3.0], 1.0) == [(1.0, 2.0), (2.0, 3.0)]
    assert cliques([1.0, 4.0], 1.0) == []
