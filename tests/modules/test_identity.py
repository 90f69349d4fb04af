"""The identity changes nothing at all, not even the random state."""

from __future__ import annotations

import torch

from ablate.modules import Identity


def test_it_returns_what_it_receives_and_has_nothing_to_learn() -> None:
    x = torch.randn(2, 8, 5, 7)
    module = Identity(8)

    assert module(x) is x
    assert module.state_dict() == {}


def test_building_it_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    Identity(8)

    assert torch.equal(torch.rand(3), expected)
