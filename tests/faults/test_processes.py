"""Processes that are killed, interrupted, or get in each other's way."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

WaitFor = Callable[..., None]
SWEEP = ["module=steady", "-m"]
NAMES = ["baseline musgd s0", "steady@neck_p5 musgd s0"]
STEADY = NAMES[1]


def in_mid_epoch(
    shop: Any, wait_for: WaitFor, driver: subprocess.Popen[str], name: str = STEADY, after: int = 2
) -> None:
    """Wait until a trial has finished some epochs, then hold it within the next one."""
    wait_for(lambda: len(shop.history(name)) >= after or driver.poll() is not None)
    shop.set("slow")
    assert driver.poll() is None, driver.communicate()


@pytest.mark.fault(
    "`kill -9` of a worker during an epoch", "the trial resumes from its last checkpoint in a new worker automatically"
)
def test_killed_worker(shop: Any, wait_for: WaitFor) -> None:
    driver = shop.start(*SWEEP)
    in_mid_epoch(shop, wait_for, driver)
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
def test_killed_driver(shop: Any, wait_for: WaitFor) -> None:
    driver = shop.start(*SWEEP)
    in_mid_epoch(shop, wait_for, driver)
    worker = shop.worker(STEADY)
    driver.kill()
    driver.wait()
    wait_for(lambda: not Path(f"/proc/{worker}").exists())
    first = shop.records()[NAMES[0]]
    shop.unset("slow")

    again = shop.run(*SWEEP)

    assert again.returncode == 0, again.stdout + again.stderr
    assert "2 trials, 1 done, 1 to run (1 of them from a checkpoint)" in again.stdout
    assert shop.records()[NAMES[0]] == first
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "`kill -9` of driver and worker at once", "the same command finishes the sweep, from the last checkpoints"
)
def test_killed_driver_and_worker(shop: Any, wait_for: WaitFor) -> None:
    driver = shop.start(*SWEEP)
    in_mid_epoch(shop, wait_for, driver)
    os.kill(shop.worker(STEADY), signal.SIGKILL)
    driver.kill()
    driver.wait()
    shop.unset("slow")

    again = shop.run(*SWEEP)

    assert again.returncode == 0, again.stdout + again.stderr
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "an interrupted trial that is resumed", "its result equals that of an uninterrupted one to the last digit"
)
def test_equality_with_an_uninterrupted_trial(shop: Any, wait_for: WaitFor) -> None:
    driver = shop.start(*SWEEP)
    in_mid_epoch(shop, wait_for, driver)
    driver.kill()
    driver.wait()
    shop.unset("slow")
    shop.run(*SWEEP)

    straight = shop.run(*SWEEP, "root=straight")

    assert straight.returncode == 0, straight.stderr
    numbers = [("metrics",), ("metrics_last",), ("per_class",), ("history", "map50_95"), ("history", "train/box_loss")]
    mine = shop.records()[STEADY]
    theirs = shop.records(root="straight")[STEADY]
    assert mine["realised"]["resumed"] == 1
    assert theirs["realised"]["resumed"] == 0
    for key, *rest in numbers:
        left, right = mine[key], theirs[key]
        if rest:
            left, right = ([row[rest[0]] for row in rows] for rows in (left, right))
        assert left == right, key


@pytest.mark.fault("Ctrl-C", "everything stops within seconds, exit code 130; the same command resumes")
def test_interrupted_once(shop: Any, wait_for: WaitFor) -> None:
    driver = shop.start(*SWEEP)
    in_mid_epoch(shop, wait_for, driver)
    os.killpg(driver.pid, signal.SIGINT)
    _, err = driver.communicate(timeout=60)

    assert driver.returncode == 130
    assert "interrupted" in err
    assert "Traceback" not in err
    assert ("steady@neck_p5 musgd s0", "KILLED") in [run[1:] for run in shop.runs()]
    shop.unset("slow")
    assert shop.run(*SWEEP).returncode == 0
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "Ctrl-C twice", "everything stops at once, without waiting for the tracker; the same command resumes"
)
def test_interrupted_twice(shop: Any, wait_for: WaitFor) -> None:
    driver = shop.start(*SWEEP)
    in_mid_epoch(shop, wait_for, driver)
    os.killpg(driver.pid, signal.SIGINT)
    os.killpg(driver.pid, signal.SIGINT)
    driver.communicate(timeout=30)

    assert driver.returncode == 130
    shop.unset("slow")
    assert shop.run(*SWEEP).returncode == 0
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "SIGTERM, as from a batch system", "as for Ctrl-C: a clean stop, exit code 130; the same command resumes"
)
def test_terminated(shop: Any, wait_for: WaitFor) -> None:
    driver = shop.start(*SWEEP)
    in_mid_epoch(shop, wait_for, driver)
    driver.terminate()
    _, err = driver.communicate(timeout=60)

    assert driver.returncode == 130, err
    shop.unset("slow")
    assert shop.run(*SWEEP).returncode == 0
    shop.assert_all_finished_once(NAMES)


@pytest.mark.fault("two commands on the same grid at once", "each trial is trained by one of them and used by both")
def test_two_drivers(empty_shop: Any) -> None:
    shop = empty_shop
    both = [shop.start(*SWEEP, f"sweep=driver{number}") for number in (1, 2)]
    ends = [driver.communicate(timeout=300) for driver in both]

    assert [driver.returncode for driver in both] == [0, 0], ends
    shop.assert_all_finished_once(NAMES)
    assert all(len(record["tries"]) == 1 for record in shop.records().values())
    for number in (1, 2):
        table = shop.folder / "multirun" / "sweeps" / f"driver{number}" / "comparison.csv"
        assert len(table.read_text(encoding="utf-8").splitlines()) == 3


@pytest.mark.fault("the owner of a lock dies", "the lock is taken over at once")
def test_dead_owner(shop: Any, wait_for: WaitFor) -> None:
    first = shop.start(*SWEEP)
    in_mid_epoch(shop, wait_for, first)
    second = shop.start(*SWEEP, "sweep=second")
    wait_for(lambda: (shop.folder / "multirun" / "sweeps" / "second" / "sweep.json").exists())
    first.kill()
    first.wait()
    shop.unset("slow")
    out, err = second.communicate(timeout=300)

    assert second.returncode == 0, out + err
    shop.assert_all_finished_once(NAMES)
