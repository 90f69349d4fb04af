"""Looks at a growing number of seeds: any claim is false in at most 5 % of sweeps; repeated t-tests are not."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from simulated.sequential_sweeps import (
    after_a_test,
    anytime,
    claims,
    claims_where_shares_are_released,
    differences,
    extended,
    naive,
)
from statsmodels.stats.weightstats import DescrStatsW

from ablate.statistics.interval import Interval
from ablate.statistics.sequential import (
    MOST_LOOKED,
    anytime_p,
    likelihood_ratio,
    looks_at,
    nominal_level,
    overall_level,
    sequential_interval,
    verdict_of,
)
from ablate.statistics.stopping import critical_values
from ablate.statistics.verdict import Verdict

SWEEPS = 10_000
LOOSE = 0.057  # 5 % and three standard errors of the simulation


@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed up", "skewed down"])
@pytest.mark.parametrize("variants", [1, 4, 12])
def test_any_claim_of_a_sweep_is_false_in_at_most_five_percent(kind, variants):
    random = np.random.default_rng(variants)
    for effect, delta in ((0.0, None), (0.0, 1.5), (1.5, 1.5), (-1.5, 1.5)):
        assert claims(random, SWEEPS, [effect] * variants, critical_values(12, variants), delta, kind).false < LOOSE


def test_a_repeated_t_test_claims_something_false_in_a_fifth_of_sweeps():
    assert claims(np.random.default_rng(1), SWEEPS, [0.0], naive(12, 1)).false > 0.17


def test_giving_the_share_of_decided_variants_to_the_others_claims_too_much():
    found = claims_where_shares_are_released(
        np.random.default_rng(8), SWEEPS // 4, [0.0] * 12, 20, 1.3, has_own_baselines=True
    )
    assert found.false > 0.06
    fixed_share = claims(np.random.default_rng(9), 4 * SWEEPS, [0.0], critical_values(20, 12), 1.3).false
    assert 1 - (1 - fixed_share) ** 12 < LOOSE


def test_a_larger_number_of_seeds_after_undecided_looks_costs_a_little_more_than_five_percent():
    found = {
        stages: claims(np.random.default_rng(10), 4 * SWEEPS, [0.0], extended(stages, 1)).false
        for stages in ((12,), (12, 20), (12, 20, 30))
    }
    assert found[12,] < LOOSE - 0.004
    assert 0.05 < found[12, 20] < found[12, 20, 30] < 0.08
    assert claims(np.random.default_rng(11), 4 * SWEEPS, [0.0], after_a_test(3, 12, 1)).false > 0.07


@pytest.mark.parametrize("most", [3, 5, 20, MOST_LOOKED])
def test_the_level_holds_for_other_numbers_of_seeds(most):
    assert claims(np.random.default_rng(2), SWEEPS, [0.0, 0.0], critical_values(most, 2)).false < LOOSE


@pytest.mark.parametrize("kind", ["normal", "heavy", "skewed up", "skewed down"])
def test_almost_nothing_is_claimed_falsely_at_three_seeds(kind):
    first = critical_values(12, 12).copy()
    first[1:] = np.inf
    assert claims(np.random.default_rng(3), SWEEPS, [0.0] * 12, first, 1.5, kind).false < 0.005


def test_spending_needs_fewer_seeds_than_the_rule_without_an_end_and_a_third_less_than_a_fixed_design():
    random = np.random.default_rng(4)
    seeds = [claims(random, SWEEPS, [effect], critical_values(12, 1)).seeds for effect in (1.0, 1.5, 2.0)]
    without_end = [claims(random, SWEEPS, [effect], anytime(12, 1)).seeds for effect in (1.0, 1.5, 2.0)]
    assert all(one < other for one, other in zip(seeds, without_end, strict=True))
    assert seeds == pytest.approx([9.1, 6.9, 5.7], abs=0.2)  # a fixed design of that power takes 10 each
    assert claims(random, SWEEPS, [0.0], critical_values(12, 1), 2.0).seeds < 6.7


def test_the_rule_without_an_end_is_a_martingale_where_nothing_differs():
    found = differences(np.random.default_rng(5), 400_000, [0.0], 6)[:, 0]
    statistic = found.mean(1) / (found.std(1, ddof=1) / np.sqrt(6))
    ratio = likelihood_ratio(statistic, 6, mixing=0.5)  # of small variance, so that the mean can be simulated
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    assert claims(np.random.default_rng(6), SWEEPS, [0.0], anytime(30, 1)).false < 0.03


def test_the_level_at_a_look_and_the_level_of_all_looks_are_inverse():
    for most in (3, 7, 12, 50):
        for alpha in (0.3, 0.05, 0.05 / 12, 1e-5):
            assert overall_level(nominal_level(3, most, alpha), 3, most) == pytest.approx(alpha, rel=1e-6)


def test_one_look_is_students_interval():
    values = [0.010, 0.014, 0.011]
    low, high = DescrStatsW(values).tconfint_mean(alpha=nominal_level(3, 3))
    assert sequential_interval(values, 3) == pytest.approx((np.mean(values), low, high))
    assert nominal_level(3, 3) == pytest.approx(0.05, rel=0.03)


def test_looks_end_with_the_first_decision_and_what_follows_takes_no_part():
    values = [0.031, 0.030, 0.032, 0.031, 0.030, 0.032]
    looks = looks_at(values, 12, 0.005)
    assert looks[-1].verdict is Verdict.BETTER
    assert looks == looks_at([*values[: looks[-1].seeds], -9.0, 9.0], 12, 0.005)
    assert [look.seeds for look in looks] == list(range(3, looks[-1].seeds + 1))
    assert all(later.p_value <= earlier.p_value for earlier, later in pairwise(looks))


def test_a_look_is_decided_exactly_where_the_corrected_p_value_is_below_five_percent():
    random = np.random.default_rng(7)
    for tests in (1, 5):
        for values in random.normal(0.9, 1, (60, 12)):
            last = looks_at(values, 12, tests=tests)[-1]
            assert (last.p_value < 0.05) == (last.verdict in (Verdict.BETTER, Verdict.WORSE))


def test_an_interval_decides_better_and_worse_first_then_equivalence():
    assert verdict_of(Interval(0.002, 0.001, 0.003), 0.005) is Verdict.BETTER
    assert verdict_of(Interval(0.002, -0.001, 0.003), 0.005) is Verdict.EQUIVALENT
    assert verdict_of(Interval(0.002, -0.001, 0.003), None) is Verdict.UNDECIDED
    assert verdict_of(Interval(-0.008, -0.010, -0.001), 0.005) is Verdict.WORSE
    assert verdict_of(Interval(0.004, -0.001, 0.009), 0.005) is Verdict.UNDECIDED


def test_identical_networks_are_equivalent_and_equal_numbers_alone_are_not():
    assert looks_at([0.0] * 3, 12, 0.005, identical=True)[-1].verdict is Verdict.EQUIVALENT
    assert looks_at([0.0] * 3, 12, 0.005)[-1].verdict is Verdict.UNDECIDED
    assert looks_at([0.0] * 3, 12, None, identical=True)[-1].verdict is Verdict.UNDECIDED
    assert looks_at([0.02] * 4, 12, 0.005)[-1] == (4, None, 1.0, Verdict.UNDECIDED)


def test_two_seeds_are_no_look():
    assert looks_at([0.5, 0.5001], 12, 0.005) == []
    assert sequential_interval([0.5, 0.6], 12) is None


def test_a_p_value_without_a_declared_number_falls_with_evidence_and_never_rises():
    values = [0.010, 0.012, 0.009, 0.011, 0.010, 0.012]
    found = [anytime_p(values[:seeds]) for seeds in range(2, 7)]
    assert all(later <= earlier for earlier, later in pairwise(found))
    assert found[-1] < 0.05
    assert anytime_p([*values, -0.5]) == pytest.approx(found[-1])
    assert anytime_p([0.01]) is None
    assert anytime_p([0.01, 0.01]) is None
