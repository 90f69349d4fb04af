"""When a sweep will be done, from what its epochs took."""

from __future__ import annotations

import pytest

from ablate.monitor.time_left import Pace, estimate, time_left, variant_of
from ablate.monitor.trial_state import TrialState


def test_a_variant_is_a_trial_without_its_seed() -> None:
    assert variant_of("hmha@c3k2 musgd s12") == "hmha@c3k2 musgd"
    assert variant_of("hmha s4 musgd s1") == "hmha s4 musgd"
    assert variant_of("hmha@c3k2 musgd s12 f3") == "hmha@c3k2 musgd"
    assert variant_of("?") == "?"


def test_nothing_is_expected_before_anything_was_seen() -> None:
    assert Pace().expect("a s0", 10) is None


def test_what_a_variant_took_is_expected_of_its_other_seeds_and_the_mean_of_the_rest() -> None:
    pace = Pace()
    pace.add("slow s0", 300.0, 3)
    pace.add("fast s0", 10.0, 1)
    assert pace.expect("slow s1", 10) == 1000.0
    assert pace.expect("fast s1", 10) == 100.0
    assert pace.expect("unknown s0", 4) == 310.0


def test_what_a_trial_needs_besides_its_epochs_is_counted() -> None:
    pace = Pace()
    pace.add("a s0", 100.0, 10)
    pace.add("a s0", 50.0, 0)
    assert pace.expect("a s1", 10) == 150.0


@pytest.mark.parametrize(
    ("running", "waiting", "slots", "left"),
    [
        ([10.0, 20.0], [], 0, 20.0),
        ([10.0, 20.0], [5.0, 5.0], 0, 20.0),  # both fit beside the longer one
        ([10.0, 20.0], [30.0], 0, 40.0),
        ([10.0], [30.0], 2, 30.0),  # a slot is free now
        ([], [5.0, 5.0, 5.0], 2, 10.0),
        ([], [], 2, 0.0),
        ([None], [], 1, None),
        ([1.0], [None], 1, None),
        ([], [5.0], 0, None),  # nothing will take it
    ],
)
def test_each_trial_goes_to_the_slot_that_is_free_first(
    running: list[float | None], waiting: list[float | None], slots: int, left: float | None
) -> None:
    assert time_left(running, waiting, slots) == left


def state(name: str, what: str, **facts: object) -> TrialState:
    return TrialState(name, name, what, **facts)  # type: ignore[arg-type]


def test_a_sweep_goes_on_with_as_many_at_a_time_as_run_now() -> None:
    trials = [
        state("a s0", "done", epoch=10, epochs=10, seconds=100.0),
        state("a s1", "running", epoch=5, epochs=10, seconds=50.0, seconds_left=50.0),
        state("a s2", "running", epoch=0),
        state("a s3", "waiting"),
        state("a s4", "interrupted", epoch=8, epochs=10, seconds=80.0, seconds_left=20.0),
    ]
    assert estimate(trials) == 150.0  # 50 + 100 on one device, 100 + 20 on the other


def test_no_time_is_told_where_nothing_runs_or_nothing_is_known() -> None:
    assert estimate([]) is None
    assert estimate([state("a s0", "done", epoch=1, epochs=1, seconds=1.0), state("a s1", "waiting")]) is None
    assert estimate([state("a s0", "running")]) is None
