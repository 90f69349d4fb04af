"""Joint intervals, plans from few seeds, and equivalence: they hold what they claim, older rules do not."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from simulated.seeds_and_images import false_equivalence, joint_coverage, joint_coverage_at_the_stop, planning

from ablate.statistics.equivalence import equivalence_p
from ablate.statistics.paired import t_interval, upper_std
from ablate.statistics.seeds_and_images import ImageVariance, image_variance, seeds_and_images

DIFFERENCES = [0.012, 0.004, 0.009, 0.001]


@pytest.mark.parametrize("shared", [0.0, 0.5])
@pytest.mark.parametrize("seeds", [3, 10])
def test_the_interval_over_both_covers_and_the_older_rules_do_not(seeds: int, shared: float) -> None:
    found = joint_coverage(np.random.default_rng(1), 6000, seeds, 1.0, shared)
    assert 0.94 < found.joint < 0.985
    assert found.over_seeds > 0.07
    if seeds == 10:
        assert found.old_rule > 0.06


@pytest.mark.parametrize("kind", ["normal", "skewed up"])
def test_where_the_results_decided_when_to_stop_the_interval_over_both_still_covers(kind: str) -> None:
    random = np.random.default_rng(3)
    for effect in (0.0, 1.0):
        found = joint_coverage_at_the_stop(random, 2500, effect, 0.2, delta=1.5, kind=kind)
        assert found.valid_at_all_looks > 0.94
        assert found.students < found.valid_at_all_looks
    assert joint_coverage_at_the_stop(random, 4000, 1.0, 0.05, delta=1.5).students < 0.93


def test_satterthwaite_covers_too_rarely_where_three_seeds_dominate() -> None:
    found = joint_coverage(np.random.default_rng(2), 6000, 3, 0.25, 0.0)
    assert found.satterthwaite < 0.93 < found.joint


def test_without_variance_of_images_it_is_the_interval_over_seeds() -> None:
    found = seeds_and_images(DIFFERENCES, ImageVariance(0.0, 0.0, 100))
    assert found is not None
    assert found.interval == pytest.approx(t_interval(DIFFERENCES))


def test_more_images_reduce_what_images_contribute_and_more_seeds_what_seeds_do() -> None:
    few_images = seeds_and_images(DIFFERENCES, ImageVariance(1e-4, 0.0, 100))
    many_images = seeds_and_images(DIFFERENCES, ImageVariance(1e-8, 0.0, 100))
    assert few_images is not None
    assert many_images is not None
    assert few_images.reach(images=2) < few_images.reach(seeds=2) < few_images.reach()
    assert many_images.reach(seeds=2) < many_images.reach(images=2) < many_images.reach()


def test_what_belongs_to_a_seed_on_these_images_is_counted_once() -> None:
    found = seeds_and_images(DIFFERENCES, ImageVariance(of_mean=2e-6, seed_by_image=8e-6, images=100))
    assert found is not None
    assert found.of_both == pytest.approx(2e-6)
    assert found.of_images == 0
    assert found.interval == pytest.approx(t_interval(DIFFERENCES))


def test_variances_are_taken_apart_from_shared_resamples() -> None:
    random = np.random.default_rng(0)
    resampled = random.normal(0, 3, 40_000) + random.normal(0, 1, (4, 40_000))
    found = image_variance(resampled, images=1000)
    assert found.of_mean == pytest.approx(9 + 1 / 4, rel=0.03)
    assert found.seed_by_image == pytest.approx(1, rel=0.03)


@pytest.mark.parametrize("differences", [[], [0.01], [0.01, 0.01]])
def test_without_spread_there_is_no_interval_over_both(differences: list[float]) -> None:
    assert seeds_and_images(differences, ImageVariance(1e-4, 0.0, 100)) is None


def test_a_plan_from_three_seeds_holds_in_most_studies_and_from_the_plain_spread_does_not() -> None:
    found = planning(np.random.default_rng(3), 800, 3)
    assert found.detectable_too_small < 0.25
    assert found.plans_with_power > 0.75
    assert found.detectable_too_small_plain > 0.55
    assert found.plans_with_power_plain < 0.5


def test_two_seeds_give_no_bound_of_the_spread() -> None:
    assert upper_std([0.01, 0.02]) is None
    assert upper_std([0.01, 0.02, 0.04]) == pytest.approx(np.std([0.01, 0.02, 0.04], ddof=1) * 2.117, rel=1e-3)


@pytest.mark.parametrize("variants", [1, 4])
def test_at_the_margin_equivalence_is_rarely_claimed_and_by_lack_of_significance_often(variants: int) -> None:
    assert false_equivalence(np.random.default_rng(4), 3000, 5, variants, 2.0) < 0.065
    assert false_equivalence(np.random.default_rng(4), 1000, 3, variants, 2.0, naive=True) > 0.12


def test_the_p_value_of_equivalence_is_that_of_two_one_sided_t_tests() -> None:
    for margin in (0.005, 0.02):
        sides = [
            stats.ttest_1samp(DIFFERENCES, -margin, alternative="greater").pvalue,
            stats.ttest_1samp(DIFFERENCES, margin, alternative="less").pvalue,
        ]
        assert equivalence_p(DIFFERENCES, margin) == pytest.approx(max(sides))
    interval = t_interval(DIFFERENCES, 0.9)
    assert interval is not None
    assert equivalence_p(DIFFERENCES, interval.high) == pytest.approx(0.05)
