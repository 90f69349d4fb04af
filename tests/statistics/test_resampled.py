"""The corrected resampled t-test over the folds of a cross-validation."""

import numpy as np
import pytest
from scipy import stats
from simulated.folds import false_alarms, fold_differences

from ablate.statistics.equivalence import equivalence_p
from ablate.statistics.paired import paired_t, standard_error, t_interval
from ablate.statistics.resampled import fold_means, share_of_folds

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
