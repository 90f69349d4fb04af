"""Effects of factors and interactions are true where seeds act on single levels; wrong errors are noticed."""

from __future__ import annotations

import numpy as np
import pytest
from simulated import factors as simulation

SWEEPS = 120
MOST = 0.05 + 3 * np.sqrt(0.05 * 0.95 / SWEEPS)  # 11 %: five percent and three standard errors of so many sweeps
KINDS = ("alike", "one level", "each module")


@pytest.mark.parametrize(("kind", "seeds"), [*((kind, 3) for kind in KINDS), ("each module", 2)])
def test_main_effects_of_null_sweeps_are_not_called_real_whatever_seeds_act_on(kind: str, seeds: int) -> None:
    found = simulation.main_effects(np.random.default_rng(0), SWEEPS, seeds, kind)
    assert 0.93 <= found["covered"] <= 0.97
    assert found["false"] < MOST
    assert found["false interactions"] < MOST


@pytest.mark.parametrize("kind", KINDS[1:])
def test_an_error_pooled_over_all_effects_would_be_noticed(kind: str) -> None:
    found = simulation.main_effects(np.random.default_rng(0), SWEEPS, 3, kind, simulation.pooled_error)
    assert found["covered"] < 0.93
    assert found["false"] > 1.8 * MOST


def test_interactions_of_components_and_what_they_add_with_and_without_are_covered() -> None:
    found = simulation.components(np.random.default_rng(0), 1500, 3, -0.01)
    for key in ("covered", "covered without", "covered with"):
        assert 0.93 <= found[key] <= 0.97
    assert found["main effect misleads"] > 0.15, "which is why the interaction is told first"


def test_no_interaction_of_components_is_found_where_there_is_none() -> None:
    assert simulation.components(np.random.default_rng(0), 1500, 5)["false"] < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 1500)
