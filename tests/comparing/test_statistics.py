"""Statistics over seeds agree with the textbooks' libraries, and stay silent where they must."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests

from ablate.comparing.statistics import holm, main_effect, paired_differences, paired_t, sample_std, t_interval


def test_differences_are_paired_by_seed_and_only_over_shared_seeds() -> None:
    seeds, differences = paired_differences({2: 0.5, 0: 0.3, 7: 0.9}, {0: 0.2, 1: 0.1, 2: 0.1})
    assert seeds == [0, 2]
    assert differences == pytest.approx([0.1, 0.4])


@pytest.mark.parametrize("count", [2, 3, 10])
def test_interval_and_p_value_agree_with_scipy(count: int) -> None:
    values = np.random.default_rng(count).normal(0.01, 0.02, count)
    expected = stats.ttest_1samp(values, 0)
    low, high = expected.confidence_interval(0.95)
    assert t_interval(values.tolist()) == pytest.approx((values.mean(), low, high), rel=1e-9)
    assert paired_t(values.tolist()) == pytest.approx(expected.pvalue, rel=1e-9)


@pytest.mark.parametrize("values", [[], [0.1]])
def test_fewer_than_two_values_have_no_spread(values: list[float]) -> None:
    assert (sample_std(values), t_interval(values), paired_t(values)) == (None, None, None)


def test_equal_differences_give_no_certainty() -> None:
    assert t_interval([0.1 + 0.2, 0.3, 0.3]) is None
    assert paired_t([0.0, 0.0, 0.0]) is None


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_agrees_with_statsmodels(p_values: list[float]) -> None:
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1].tolist())


def test_holm_counts_only_the_tests_that_were_made() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, 0.02, None, 0.04]
    assert holm([None]) == [None]


def test_intervals_cover_what_they_claim() -> None:
    random = np.random.default_rng(0)
    draws = random.normal(0.01, 0.02, (4000, 3))
    covered = [low <= 0.01 <= high for _, low, high in filter(None, map(t_interval, draws))]
    assert 0.93 < np.mean(covered) < 0.97


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=4), st.data())
def test_main_effects_find_what_each_component_adds(gains: list[float], data: st.DataObject) -> None:
    seeds = {seed: data.draw(st.floats(-1, 1)) for seed in (3, 1, 2)}
    accuracy = {
        marks: {
            seed: common + sum(g for g, there in zip(gains, marks, strict=True) if there)
            for seed, common in seeds.items()
        }
        for marks in product((False, True), repeat=len(gains))
    }
    for index, gain in enumerate(gains):
        found = main_effect(accuracy, index)
        assert found.seeds == [1, 2, 3]
        assert found.effects == pytest.approx([gain] * 3, abs=1e-12)
        assert found.pairs == 2 ** (len(gains) - 1)


def test_a_main_effect_is_the_mean_over_the_other_components_for_each_seed() -> None:
    accuracy = {
        (False, False): {0: 0.1, 1: 0.2},
        (True, False): {0: 0.2, 1: 0.2},  # alone +0.1, 0.0
        (False, True): {0: 0.3, 1: 0.3},
        (True, True): {0: 0.6, 1: 0.5},  # with the other +0.3, +0.2
    }
    seeds, effects, pairs = main_effect(accuracy, 0)
    assert (seeds, pairs) == ([0, 1], 2)
    assert effects == pytest.approx([0.2, 0.1])


def test_a_main_effect_uses_pairs_that_are_there_and_fair_and_seeds_that_all_have() -> None:
    accuracy = {
        (False, False): {0: 0.1, 1: 0.1},
        (True, False): {0: 0.2, 1: 0.4},
        (False, True): {0: 0.0, 2: 0.0},
        (True, True): {0: 0.4, 1: 0.4, 2: 0.4},
    }
    assert main_effect(accuracy, 0)[::2] == ([0], 2)
    assert main_effect(accuracy, 0, fair=lambda having, lacking: not having[1]).effects == pytest.approx([0.1, 0.3])
    assert main_effect({(True,): {0: 0.1}}, 0) == ([], [], 0)
    assert main_effect({(True,): {0: 0.1}, (False,): {1: 0.1}}, 0) == ([], [], 1)
