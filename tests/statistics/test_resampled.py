"""The corrected resampled t-test over the folds of a cross-validation."""

import numpy as np
import pytest
from scipy import stats
from simulated.fold_claims import (
    Design,
    bias_of_best,
    detectable,
    false_alarm,
    false_equivalence,
    false_pairs,
    repeated_looks,
)
from simulated.folds import false_alarms, fold_differences

from ablate.statistics.equivalence import equivalence_p
from ablate.statistics.paired import paired_t, standard_error, t_interval
from ablate.statistics.resampled import Samples, fold_means, share_of_folds
from ablate.statistics.sequential import spent_p

MEANS = [0.011, 0.004, 0.013, 0.007, 0.009]


def test_the_variance_is_that_of_nadeau_and_bengio() -> None:
    variance = np.var(MEANS, ddof=1)
    error = np.sqrt(variance * (1 / 5 + 0.2 / 0.8))
    assert standard_error(MEANS, share_of_folds(5)) == pytest.approx(error)
    assert paired_t(MEANS, share_of_folds(5)) == pytest.approx(2 * stats.t.sf(np.mean(MEANS) / error, 4))
    plain = standard_error(MEANS)
    assert plain is not None
    assert error == pytest.approx(plain * 1.5)


def test_interval_p_value_and_equivalence_agree() -> None:
    share, p_value = share_of_folds(5), paired_t(MEANS, share_of_folds(5))
    assert p_value is not None
    touching = t_interval(MEANS, 1 - p_value, share)
    assert touching is not None
    assert touching.low == pytest.approx(0, abs=1e-9)
    narrow = t_interval(MEANS, 0.9, share)
    assert narrow is not None
    assert equivalence_p(MEANS, narrow.high, share) == pytest.approx(0.05)


def test_seeds_of_a_fold_count_once() -> None:
    assert fold_means([1, 0, 1, 0], [0.3, 0.1, 0.5, 0.2]) == pytest.approx([0.15, 0.4])


@pytest.mark.parametrize("means", [[], [0.01], [0.01, 0.01]])
def test_what_has_no_spread_has_no_answer(means: list[float]) -> None:
    assert paired_t(means, 1.0) is None
    assert t_interval(means, share=1.0) is None
    assert equivalence_p(means, 0.02, 1.0) is None


def test_equally_good_methods_are_seldom_called_different() -> None:
    plain, corrected = false_alarms(fold_differences(np.random.default_rng(0), 1500, 5, 1.0, seeds=3))
    assert corrected < 0.05
    assert plain > 0.3  # the negative control: each training taken as a sample of its own


FIVE = Design(folds=5, seeds=3, of_images=1.0)


def test_samples_are_of_seeds_or_of_folds() -> None:
    seeds, folds = Samples(tuple(MEANS)), Samples(tuple(MEANS), share_of_folds(5))
    assert (seeds.unit, folds.unit) == ("seed", "fold")
    assert seeds.p_value == paired_t(MEANS)
    assert folds.p_value == paired_t(MEANS, 0.25)
    assert folds.interval(0.9) == t_interval(MEANS, 0.9, 0.25)
    assert folds.upper_spread == pytest.approx(1.5 * (seeds.upper_spread or 0.0))
    assert Samples((0.1,), 1.0).upper_spread is None


def test_a_difference_of_the_margin_is_seldom_called_equivalent() -> None:
    over_folds, over_all = false_equivalence(np.random.default_rng(0), 4000, FIVE, 4.0)
    assert over_folds < 0.05
    assert over_all > 0.15  # the negative control: trainings taken as independent


def test_a_detectable_difference_over_folds_is_enough_in_four_of_five_studies() -> None:
    over_folds, over_all = detectable(np.random.default_rng(0), 800, FIVE)
    assert over_folds < 0.25
    assert over_all > 0.9


def test_equally_good_variants_are_seldom_told_apart_over_folds() -> None:
    over_folds, over_all = false_pairs(np.random.default_rng(0), 150, FIVE, 4)
    assert over_folds < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
    assert over_all > 0.4


def test_looks_at_the_same_folds_with_more_seeds_spend_their_level() -> None:
    assert [spent_p(0.001, looks) for looks in (1, 2, 3)] == pytest.approx([0.002, 0.006, 0.012])
    assert sum(0.05 / (look * (look + 1)) for look in range(1, 1000)) < 0.05
    spent, each = repeated_looks(np.random.default_rng(0), 3000, Design(5, 1, 0.5), 5)
    assert spent < 0.05 < each


def test_the_best_of_many_over_folds_is_shrunken_by_what_folds_share() -> None:
    measured, shrunken, as_seeds = bias_of_best(np.random.default_rng(0), 500, FIVE, 12)
    assert shrunken < 0.2 * measured
    assert as_seeds > 2 * shrunken


def test_a_skewed_or_collapsing_variant_is_not_called_different_much_more_often() -> None:
    random = np.random.default_rng(0)
    for design in (FIVE._replace(is_skewed=True), FIVE._replace(lost=0.1)):
        assert false_alarm(random, 4000, design) < 0.08
