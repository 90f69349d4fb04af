"""The store answers from a process of its own; when it does not, that costs a notice and no time."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from pathlib import Path

import pytest

from ablate.sweeping import tracker as module
from ablate.sweeping.tracker import Tracker

LOCAL = {"uri": None, "experiment": "ablate", "artifacts": True}


def test_what_is_asked_of_the_store_is_answered(tmp_path: Path) -> None:
    with Tracker(tmp_path, LOCAL) as tracker:
        run_id = tracker.ask("open_sweep", "a sweep", "the command")

    assert tracker.problem is None
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        assert database.execute("select run_uuid, name from runs").fetchall() == [(run_id, "a sweep")]


def test_calls_are_made_in_order(tmp_path: Path) -> None:
    with Tracker(tmp_path, LOCAL) as tracker:
        for number in range(5):
            tracker.submit("open_sweep", f"sweep {number}", "the command")

    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        rows = database.execute("select name from runs order by start_time").fetchall()
    assert rows == [(f"sweep {number}",) for number in range(5)]


def test_a_store_that_does_not_answer_is_dropped_and_asked_again(tmp_path: Path) -> None:
    with Tracker(tmp_path, {**LOCAL, "uri": "http://127.0.0.1:9"}) as tracker:
        for _ in range(100):
            tracker.submit("open_sweep", "a sweep", "the command")
        assert tracker.ask("open_sweep", "a sweep", "the command") is None

    assert tracker.problem is not None
    assert "127.0.0.1" in tracker.problem


def test_a_tracker_whose_process_is_killed_gets_another(tmp_path: Path) -> None:
    with Tracker(tmp_path, LOCAL) as tracker:
        tracker.ask("open_sweep", "first", "the command")
        worker = tracker._backend._workers[module.SLOT].result()
        os.kill(worker, signal.SIGKILL)
        while Path(f"/proc/{worker}").exists():
            time.sleep(0.1)
        tracker.submit("open_sweep", "second", "the command")  # it may be the one to find out
        tracker.settle()
        tracker.ask("open_sweep", "third", "the command")

    assert tracker.problem is None
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        names = {name for (name,) in database.execute("select name from runs")}
    assert {"first", "third"} <= names


@pytest.mark.timeout(120)
def test_a_locked_store_is_waited_for(tmp_path: Path) -> None:
    import threading

    with Tracker(tmp_path, LOCAL) as tracker:
        tracker.ask("open_sweep", "first", "the command")
        database = sqlite3.connect(tmp_path / "mlflow.db", check_same_thread=False)
        database.execute("begin exclusive")
        threading.Timer(8, database.rollback).start()
        assert tracker.ask("open_sweep", "second", "the command") is not None

    assert tracker.problem is None
