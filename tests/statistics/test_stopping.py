"""What a rule takes, by simulation; and the spread that it is simulated with."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.statistics.paired import upper_std
from ablate.statistics.pooled_spread import pooled_spread
from ablate.statistics.stopping import expected_seeds, expected_trials


def test_larger_differences_take_fewer_seeds_and_nothing_is_decided_without_a_margin():
    found = [expected_seeds(effect, None, 12, 1) for effect in (0.0, 1.0, 2.0)]
    assert [one.seeds for one in found] == pytest.approx([11.7, 9.1, 5.7], abs=0.2)
    assert found[0].decided < 0.06
    assert expected_seeds(0.0, 2.0, 12, 1).decided > 0.98
    assert expected_seeds(1.5, None, 12, 12).seeds > expected_seeds(1.5, None, 12, 1).seeds


def test_a_sweeps_trials_lie_between_three_and_all_seeds_of_each_variant_and_baseline():
    one = expected_trials((0, 1, 2), [2.0], [1], 12, 1)
    both = expected_trials((0, 1, 2), [2.0, 2.0], [4, 4], 12, 8)
    assert 6 <= one.low <= one.likely <= one.high <= 24
    assert 30 <= both.low < both.likely < both.high <= 120
    assert expected_trials((0, 1, 2), [2.0], [0], 12, 1, identical=1) == (6, 6, 6)


def test_one_variants_bound_is_that_of_its_differences_and_more_variants_narrow_it():
    random = np.random.default_rng(1)
    differences = random.normal(0, 1, (4, 5)) - random.normal(0, 1, 5)
    alone = pooled_spread(differences[:1])
    assert alone is not None
    assert alone.upper == pytest.approx(upper_std(list(differences[0])))
    together = pooled_spread(differences)
    assert together is not None
    assert together.std == pytest.approx(np.sqrt(differences.var(1, ddof=1).mean()))
    assert together.upper / together.std < alone.upper / alone.std
    assert (together.differences, together.variants) == (20, 4)


def test_the_bound_holds_in_four_of_five_studies_of_variants_that_share_a_baseline():
    random = np.random.default_rng(2)
    for variants, seeds in ((1, 3), (3, 2), (4, 3), (12, 3)):
        found = []
        for _ in range(1500):
            drawn = random.normal(0, 1, (variants, seeds)) - random.normal(0, 1, seeds)
            spread = pooled_spread(drawn)
            assert spread is not None
            found.append(spread.upper >= np.sqrt(2))
        assert 0.77 < np.mean(found) < 0.88


def test_two_seeds_of_a_variant_or_differences_without_spread_are_no_spread():
    assert pooled_spread([[0.1, 0.2]]) is None
    assert pooled_spread([[0.1, 0.2], [0.3, 0.1]]) is None
    assert pooled_spread([[0.0, 0.0, 0.0], [0.1, 0.1]]) is None
    assert pooled_spread([]) is None
