"""Processes that are killed, interrupted, or get in each other's way."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

WaitFor = Callable[..., None]
SWEEP = ["module=steady", "-m"]
BASELINE, STEADY = NAMES = ["baseline musgd s0", "steady@neck_p5 musgd s0"]


@pytest.mark.fault(
    "`kill -9` of a worker during an epoch", "the trial resumes from its last checkpoint in a new worker automatically"
)
def test_killed_worker(shop_from: Any) -> None:
    shop = shop_from("baseline")
    driver = shop.start_held(*SWEEP)
    os.kill(shop.worker(STEADY), signal.SIGKILL)
    shop.unset("slow")
    out, err = driver.communicate(timeout=300)

    assert driver.returncode == 0, out + err
    shop.assert_all_finished_once(NAMES)
    assert [t["epochs_done"] >= 2 for t in shop.records()[STEADY]["tries"]] == [False, True]


@pytest.mark.fault(
    "`kill -9` of the driver during a sweep",
    "its workers end with it; the same command finishes the sweep, from the last checkpoints",
)
def test_killed_driver(shop_from: Any) -> None:
    before, after = shop_from("interrupted"), shop_from("continued")

    assert list(before.records()) == [BASELINE]
    assert "2 trials, 1 done, 1 to run (1 of them from a checkpoint)" in after.said
    assert after.records()[BASELINE] == before.records()[BASELINE]
    after.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "an interrupted trial that is resumed", "its result equals that of an uninterrupted one to the last digit"
)
def test_equality_with_an_uninterrupted_trial(shop_from: Any) -> None:
    continued, straight = (shop_from(root).records()[STEADY] for root in ("continued", "straight"))

    assert (continued["realised"]["resumed"], straight["realised"]["resumed"]) == (1, 0)
    for part in ("metrics", "metrics_last", "per_class"):
        assert continued[part] == straight[part]
    for column in ("map50_95", "train/box_loss"):
        assert [row[column] for row in continued["history"]] == [row[column] for row in straight["history"]]


@pytest.mark.fault(
    "`kill -9` of driver and worker at once", "the same command finishes the sweep, from the last checkpoints"
)
def test_killed_driver_and_worker(quick_shop: Any) -> None:
    driver = quick_shop.start_held(*SWEEP)
    os.kill(quick_shop.worker(STEADY), signal.SIGKILL)
    driver.kill()
    driver.wait()
    finish(quick_shop)


@pytest.mark.fault("Ctrl-C", "everything stops within seconds, exit code 130; the same command resumes")
def test_interrupted_once(quick_shop: Any, wait_for: WaitFor) -> None:
    warm, quick_shop.warm = quick_shop.warm, None
    driver = quick_shop.start_held(*SWEEP)
    quick_shop.warm = warm
    wait_for(lambda: (STEADY, "RUNNING") in [run[1:] for run in quick_shop.runs()])
    os.killpg(driver.pid, signal.SIGINT)
    _, err = driver.communicate(timeout=60)

    assert driver.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert (STEADY, "KILLED") in [run[1:] for run in quick_shop.runs()]
    finish(quick_shop)


@pytest.mark.fault(
    "Ctrl-C twice", "everything stops at once, without waiting for the tracker; the same command resumes"
)
def test_interrupted_twice(quick_shop: Any) -> None:
    driver = quick_shop.start_held(*SWEEP)
    os.killpg(driver.pid, signal.SIGINT)
    os.killpg(driver.pid, signal.SIGINT)
    driver.communicate(timeout=30)

    assert driver.returncode == 130
    finish(quick_shop)


@pytest.mark.fault(
    "SIGTERM, as from a batch system", "as for Ctrl-C: a clean stop, exit code 130; the same command resumes"
)
def test_terminated(quick_shop: Any) -> None:
    driver = quick_shop.start_held(*SWEEP)
    driver.terminate()
    _, err = driver.communicate(timeout=60)

    assert driver.returncode == 130, err
    finish(quick_shop)


@pytest.mark.fault("three commands on the same grid at once", "each trial is trained by one of them and used by all")
def test_three_drivers(shop_from: Any) -> None:
    shop = shop_from(None, quick=True)
    drivers = [shop.start(*SWEEP, f"sweep=driver{number}") for number in (1, 2, 3)]
    ends = [driver.communicate(timeout=300) for driver in drivers]

    assert [driver.returncode for driver in drivers] == [0, 0, 0], ends
    shop.assert_all_finished_once(NAMES)
    assert all(len(record["tries"]) == 1 for record in shop.records().values())
    for number in (1, 2, 3):
        table = shop.folder / "multirun" / "sweeps" / f"driver{number}" / "comparison.csv"
        assert len(table.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.fault("the owner of a lock dies", "the lock is taken over at once")
def test_dead_owner(quick_shop: Any, wait_for: WaitFor) -> None:
    first = quick_shop.start_held(*SWEEP)
    worker = quick_shop.worker(STEADY)
    second = quick_shop.start(*SWEEP, "sweep=second")
    wait_for(lambda: (quick_shop.folder / "multirun" / "sweeps" / "second" / "sweep.json").exists())
    first.kill()
    first.wait()
    wait_for(lambda: quick_shop.worker(STEADY) != worker)  # the worker dies a moment after its driver
    quick_shop.unset("slow")
    out, err = second.communicate(timeout=300)

    assert second.returncode == 0, out + err
    quick_shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "worker and driver stopped (SIGSTOP) and continued", "the sweep goes on; nothing is trained or recorded again"
)
def test_stopped(quick_shop: Any) -> None:
    driver = quick_shop.start_held(*SWEEP)
    worker = quick_shop.worker(STEADY)
    for number in (signal.SIGSTOP, signal.SIGCONT):
        os.kill(driver.pid, number)
        os.kill(worker, number)
        time.sleep(2 if number == signal.SIGSTOP else 0)
    quick_shop.unset("slow")
    out, err = driver.communicate(timeout=60)

    assert driver.returncode == 0, out + err
    quick_shop.assert_all_finished_once(NAMES)
    assert len(quick_shop.records()[STEADY]["tries"]) == 1


@pytest.mark.fault(
    "a worker stopped for longer than the trial's time limit",
    "the trial fails as `timeout`, in one line; `retry=failed` finishes it",
)
def test_stopped_beyond_its_limit(quick_shop: Any) -> None:
    driver = quick_shop.start_held(*SWEEP, "hydra.launcher.timeout=8")
    os.kill(quick_shop.worker(STEADY), signal.SIGSTOP)
    out, err = driver.communicate(timeout=60)

    assert driver.returncode == 1, out + err
    assert err == ""
    (line,) = [line for line in out.splitlines() if line.startswith("failed: ")]
    assert line == f"failed: {STEADY}: timeout: it took longer than its limit of 8 seconds"
    finish(quick_shop, "retry=failed")


# Two machines whose file system keeps `flock` to each of them; a process is missed after two seconds.
TWO_MACHINES = """
import fcntl, os, socket
from ablate.storage import locking

locking.BEAT, locking.DEAD = 0.3, 2.0
socket.gethostname = lambda: os.environ.get("ABLATE_TEST_HOST", "one")
locking.fcntl = type("Local", (), {**vars(fcntl), "flock": lambda file, how: None})
"""


@pytest.mark.fault(
    "a worker stopped for so long that another machine takes its trial over, and continued",
    "it leaves the trial to the other one: the record is that of one training",
)
def test_stopped_and_replaced(quick_shop: Any, wait_for: WaitFor) -> None:
    quick_shop.hook(TWO_MACHINES)
    first = quick_shop.start_held(*SWEEP, "sweep=first", ABLATE_TEST_HOST="one")
    worker = quick_shop.worker(STEADY)
    os.kill(worker, signal.SIGSTOP)
    second = quick_shop.start(*SWEEP, "sweep=second", ABLATE_TEST_HOST="two")
    wait_for(lambda: quick_shop.worker(STEADY) != worker)
    os.kill(worker, signal.SIGCONT)
    quick_shop.unset("slow")
    ends = [driver.communicate(timeout=60) for driver in (first, second)]

    assert [driver.returncode for driver in (first, second)] == [0, 0], ends
    assert quick_shop.states() == dict.fromkeys(NAMES, "finished")
    tries = quick_shop.records()[STEADY]["tries"]
    assert [one["host"] for one in tries] == ["one", "two"]
    assert "another command trains it" in ends[0][0]
    assert [(name, status) for _, name, status in quick_shop.runs()] == [(name, "FINISHED") for name in NAMES]


@pytest.mark.fault(
    "a lock of a machine that is gone, or one whose process id now belongs to another process",
    "the first is taken over after a minute without heartbeat, the second at once",
)
def test_locks_of_nobody(quick_shop: Any) -> None:
    quick_shop.hook(TWO_MACHINES)
    quick_shop.start_held(*SWEEP).kill()
    quick_shop.unset("slow")
    gone, reused = (quick_shop.trial(name).with_suffix(".lock") for name in (BASELINE, STEADY))
    gone.write_text(json.dumps({"host": "gone", "pid": 4, "since": 1.0, "beat": 9}), encoding="utf-8")
    reused.write_text(json.dumps({"host": "one", "pid": os.getpid(), "since": 1.0, "beat": 9}), encoding="utf-8")
    for name in ("result.json", "result.backup.json"):
        (quick_shop.trial(BASELINE) / name).unlink()

    again = quick_shop.run(*SWEEP)

    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("another command trains it; waiting") == 1
    assert quick_shop.states() == dict.fromkeys(NAMES, "finished")


def finish(shop: Any, *words: str) -> None:
    """Give the command again, and see that it ends the sweep."""
    shop.unset("slow")
    again = shop.run(*SWEEP, *words)
    assert again.returncode == 0, again.stdout + again.stderr
    shop.assert_all_finished_once(NAMES)
