"""Who else computes on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from ablate.measuring.load_of_others import Neighbours, Times, read_times, threads_beside

SPIN = "import time\nend = time.monotonic() + 20\nprint(1, flush=True)\nwhile time.monotonic() < end: pass"


def cores(before: Times, now: Times) -> float:
    times = iter([before, now])
    return Neighbours(1, lambda leader: next(times)).cores()


def test_what_others_took_is_all_work_less_our_own() -> None:
    assert cores(Times(100.0, 50.0, 0.0), Times(130.0, 60.0, 10.0)) == pytest.approx(2.0)
    assert cores(Times(100.0, 50.0, 0.0), Times(120.0, 70.0, 10.0)) == 0.0


def test_a_process_of_ours_that_ended_unseen_makes_nobody_a_neighbour_of_less_than_nothing() -> None:
    assert cores(Times(100.0, 50.0, 0.0), Times(110.0, 70.0, 10.0)) == 0.0
    assert cores(Times(100.0, 50.0, 0.0), Times(110.0, 20.0, 10.0)) == pytest.approx(1.0)


def test_a_moment_says_nothing_and_is_not_lost() -> None:
    times = iter([Times(0.0, 0.0, 0.0), Times(0.1, 0.0, 0.1), Times(10.0, 0.0, 10.0), Times(10.0, 0.0, 10.1)])
    watch = Neighbours(1, lambda leader: next(times))

    assert watch.cores() == 0.0
    assert watch.cores() == pytest.approx(1.0)
    assert watch.cores() == pytest.approx(1.0), "epochs of a tenth of a second do not change threads back and forth"


@pytest.mark.parametrize(
    ("threads", "trials", "total", "others", "expected"),
    [
        (2, 1, 2, 0.0, 2),
        (2, 1, 2, 0.3, 2),  # a daemon
        (2, 1, 2, 0.7, 1),  # a busy process that has to share with two threads
        (2, 1, 2, 2.0, 1),
        (2, 1, 4, 2.0, 2),  # on cores that nobody else uses
        (4, 2, 8, 1.0, 3),
        (4, 2, 8, 4.0, 2),
        (8, 1, 8, 7.0, 1),
        (1, 2, 2, 2.0, 1),
    ],
)
def test_threads_make_room_for_what_others_take(
    threads: int, trials: int, total: int, others: float, expected: int
) -> None:
    assert threads_beside(threads, trials, total, others) == expected


def test_a_busy_process_is_a_neighbour_unless_it_is_ours() -> None:
    with subprocess.Popen([sys.executable, "-c", SPIN], stdout=subprocess.PIPE) as busy:
        assert busy.stdout is not None
        busy.stdout.readline()
        try:
            before = read_times(busy.pid), read_times(os.getpid())
            time.sleep(1.0)
            its, ours = read_times(busy.pid), read_times(os.getpid())
        finally:
            busy.kill()

    worked = its.ours - before[0].ours
    assert worked > 0.1, "it computes"
    assert ours.ours - before[1].ours >= worked - 0.1, "what we have started is ours"
    assert its.busy - before[0].busy >= worked - 0.1
    assert cores(before[0], its) >= cores(before[1], ours) - 0.1
