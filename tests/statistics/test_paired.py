"""Statistics over seeds agree with the textbooks' libraries, and stay silent where they must."""

from __future__ import annotations

import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from ablate.statistics.paired import (
    MOST_SEEDS,
    effect_size,
    holm,
    main_effect,
    paired_differences,
    paired_t,
    power_of,
    sample_std,
    seeds_needed,
    smallest_detectable,
    t_interval,
)


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


@pytest.mark.parametrize("count", [3, 5, 10])
def test_effect_sizes_are_right_on_average_however_few_the_seeds(count: int) -> None:
    draws = np.random.default_rng(count).normal(0.008, 0.01, (20_000, count))
    found = [effect_size(row) for row in draws]
    error = np.std(np.array(found, dtype=float)) / np.sqrt(len(draws))
    assert abs(np.mean(np.array(found, dtype=float)) - 0.8) < 4 * error
    uncorrected = np.mean(draws.mean(1) / draws.std(1, ddof=1))
    assert abs(uncorrected - 0.8) > 4 * error  # without the correction it would not be


def test_an_effect_size_has_the_sign_and_no_unit() -> None:
    values = [0.01, 0.03, 0.02, 0.05]
    size = effect_size(values)
    assert size is not None
    assert size > 0
    assert effect_size([-100 * v for v in values]) == pytest.approx(-size)


@pytest.mark.parametrize("values", [[], [0.1], [0.1, 0.2], [0.3, 0.1 + 0.2, 0.3]])
def test_no_effect_size_from_two_values_or_from_equal_ones(values: list[float]) -> None:
    assert effect_size(values) is None


@pytest.mark.parametrize("n", [2, 3, 5, 10, 30])
@pytest.mark.parametrize("ratio", [0.0, 0.3, 1.0])
def test_power_agrees_with_statsmodels(n: int, ratio: float) -> None:
    assert power_of(n, ratio) == pytest.approx(TTestPower().power(ratio, n, 0.05), abs=2e-6)
    assert power_of(n, -ratio) == power_of(n, ratio)


@pytest.mark.parametrize("n", [2, 3, 5, 10, 200])
def test_the_smallest_detectable_difference_is_found_as_often_as_promised(n: int) -> None:
    found = smallest_detectable(0.02, n)
    expected = TTestPower().solve_power(None, nobs=n, alpha=0.05, power=0.8)
    assert found == pytest.approx(0.02 * expected, rel=1e-4)
    assert found is not None
    draws = np.random.default_rng(n).normal(found, 0.02, (4000, n))
    rejected = np.mean([(p := paired_t(row)) is not None and p < 0.05 for row in draws])
    assert abs(rejected - 0.8) < 4 * np.sqrt(0.8 * 0.2 / len(draws))


@pytest.mark.parametrize("difference", [0.06, 0.02, 0.01, 0.002])
def test_the_seeds_needed_are_the_fewest_that_suffice(difference: float) -> None:
    seeds = seeds_needed(0.02, difference)
    assert seeds is not None
    assert power_of(seeds, difference / 0.02) >= 0.8
    assert power_of(seeds - 1, difference / 0.02) < 0.8
    assert seeds_needed(0.02, -difference) == seeds
    assert seeds_needed(0.02, difference, level=0.99) > seeds  # type: ignore[operator]
    assert seeds_needed(0.02, difference, power=0.999) > seeds  # type: ignore[operator]


def test_two_seeds_are_the_fewest_and_some_differences_are_out_of_reach() -> None:
    assert seeds_needed(0.001, 0.9) == 2
    assert seeds_needed(1.0, 1e-4) is None
    edge = seeds_needed(1.0, 0.01)
    assert edge is not None
    assert edge < MOST_SEEDS


@pytest.mark.parametrize("std", [None, 0.0, float("nan"), float("inf")])
def test_without_a_known_spread_nothing_is_promised(std: float | None) -> None:
    assert smallest_detectable(std, 3) is None
    assert seeds_needed(std, 0.01) is None


def test_one_seed_detects_nothing_and_no_difference_needs_no_seeds() -> None:
    assert smallest_detectable(0.01, 1) is None
    assert seeds_needed(0.01, 0.0) is None
    assert seeds_needed(0.01, None) is None


def test_the_page_on_statistics_says_what_is_computed() -> None:
    page = (Path(__file__).parents[2] / "docs" / "statistics.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([\d.]+) s \| ([\d.]+) s \| ([\d.]+) s \| ([\d.]+) s \|$", page, re.MULTILINE)
    assert len(rows) >= 8
    for seeds, *cells in rows:
        detectable = [smallest_detectable(1.0, int(seeds), 1 - 0.05 / family) for family in (1, 4, 10)]
        half = stats.t.ppf(0.975, int(seeds) - 1) / np.sqrt(int(seeds))
        assert [float(cell) for cell in cells] == pytest.approx([*detectable, half], abs=0.0051)
    assert f"needs {seeds_needed(2.0, 1.0)} seeds" in page
