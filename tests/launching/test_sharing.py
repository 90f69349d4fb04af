"""How trials share the cores: a choice from given measurements."""

from __future__ import annotations

import pytest

from ablate.launching.sharing import Layout, Throughput, assumed, candidates, choose


def measured(speeds: dict[tuple[int, int], float], memory_gb: float | None = None) -> list[Throughput]:
    return [
        Throughput(Layout(*layout), images_per_second=speed, step_seconds=16 * layout[0] / speed, memory_gb=memory_gb)
        for layout, speed in speeds.items()
    ]


def chosen(speeds: dict[tuple[int, int], float], trials: int = 100, **given: float) -> tuple[int, int]:
    found = choose(measured(speeds, given.pop("each_gb", None)), trials, memory_gb=given.get("memory_gb"))
    return found.layout.trials, found.layout.threads


@pytest.mark.parametrize(
    ("cores", "trials", "expected"),
    [
        (1, 5, [(1, 1)]),
        (2, 5, [(1, 2), (2, 1)]),
        (8, 100, [(1, 8), (2, 4), (4, 2), (8, 1)]),
        (6, 100, [(1, 6), (2, 3), (4, 1), (6, 1)]),
        (8, 3, [(1, 8), (2, 4), (3, 2)]),
        (8, 1, [(1, 1), (1, 2), (1, 4), (1, 8)]),
    ],
)
def test_no_layout_has_more_trials_than_run_or_more_threads_than_cores(
    cores: int, trials: int, expected: list[tuple[int, int]]
) -> None:
    found = [(layout.trials, layout.threads) for layout in candidates(cores, trials)]

    assert found == expected
    assert all(number * threads <= cores and number <= trials for number, threads in found)


def test_the_fastest_layout_is_chosen_and_the_reason_gives_its_ratio() -> None:
    found = choose(measured({(1, 2): 30.0, (2, 1): 48.0}), 4)

    assert found.layout == Layout(2, 1)
    assert found.chosen is not None
    assert found.chosen.images_per_second == 48.0
    assert str(found) == "2 trials at a time with 1 thread each: 1.6 times the images/s of 1 with 2 (measured)"


def test_of_layouts_that_are_equally_fast_the_one_with_the_fewest_processes_is_chosen() -> None:
    assert chosen({(1, 4): 40.0, (2, 2): 41.0, (4, 1): 41.5}) == (1, 4)
    assert chosen({(1, 4): 40.0, (2, 2): 50.0, (4, 1): 51.0}) == (2, 2)


def test_of_numbers_of_threads_that_are_equally_fast_the_smallest_is_chosen() -> None:
    assert chosen({(1, 1): 30.0, (1, 2): 31.0}, trials=1) == (1, 1)
    assert chosen({(1, 1): 30.0, (1, 2): 45.0}, trials=1) == (1, 2)


def test_the_rounds_that_the_trials_take_count() -> None:
    speeds = {(1, 2): 30.0, (2, 1): 36.0}  # 1.2 times as fast, but three trials take two rounds of two

    assert chosen(speeds, trials=3) == (1, 2)
    assert chosen(speeds, trials=4) == (2, 1)


@pytest.mark.parametrize(("memory_gb", "expected"), [(100.0, (8, 1)), (6.0, (4, 2)), (3.0, (2, 4)), (1.0, (1, 8))])
def test_what_does_not_fit_into_the_memory_is_not_chosen(memory_gb: float, expected: tuple[int, int]) -> None:
    speeds = {(1, 8): 30.0, (2, 4): 50.0, (4, 2): 70.0, (8, 1): 90.0}

    assert chosen(speeds, each_gb=1.0, memory_gb=memory_gb) == expected


def test_the_reason_names_the_memory_and_the_load_that_were_in_the_way() -> None:
    found = choose(measured({(1, 2): 30.0, (2, 1): 48.0}, memory_gb=4.0), 4, memory_gb=6.0, others=0.8)

    assert found.layout == Layout(1, 2)
    assert "6.0 GB" in found.reason
    assert "0.8 cores" in found.reason
    assert found.others == 0.8


def test_without_a_measurement_each_trial_has_a_core_as_far_as_there_is_memory() -> None:
    assert assumed(4, 9, "why").layout == Layout(4, 1)
    assert assumed(4, 2, "why").layout == Layout(2, 2)
    assert assumed(4, 1, "why").layout == Layout(1, 1)
    assert assumed(4, 9, "why", memory_gb=5.0).layout == Layout(2, 2)
