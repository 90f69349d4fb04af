"""The store answers from a process of its own; when it does not, that costs a notice and no time."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.factories import make_record

from ablate.settings.schema import TrackingSettings
from ablate.storage.files import atomic_write_json
from ablate.tracking import tracker as module
from ablate.tracking.store import Store
from ablate.tracking.store_problems import ProblemKind
from ablate.tracking.tracker import Tracker

LOCAL = TrackingSettings(uri=None, experiment="ablate", artifacts=True)


@pytest.fixture
def root(tmp_path: Path, new_root: Callable[[Path], Path]) -> Path:
    """An output folder with an empty store."""
    return new_root(tmp_path / "multirun")


def test_calls_are_made_in_order_and_what_is_asked_is_answered(root: Path) -> None:
    with Tracker(root, LOCAL) as tracker:
        for number in range(5):
            tracker.submit(Store.open_sweep, f"sweep {number}", "the command")
        run_id = tracker.ask(Store.open_sweep, "sweep 5", "the command")

    assert tracker.problem is None
    with sqlite3.connect(root / "mlflow.db") as database:
        rows = database.execute("select run_uuid, name from runs order by start_time").fetchall()
    assert [name for _, name in rows] == [f"sweep {number}" for number in range(6)]
    assert rows[-1][0] == run_id


def test_a_store_that_does_not_answer_is_dropped_and_asked_again(tmp_path: Path) -> None:
    with Tracker(tmp_path, replace(LOCAL, uri="http://127.0.0.1:9")) as tracker:
        for _ in range(100):
            tracker.submit(Store.open_sweep, "a sweep", "the command")
        assert tracker.ask(Store.open_sweep, "a sweep", "the command") is None

    assert tracker.problem is not None
    assert "127.0.0.1" in tracker.problem.message
    assert tracker.problem.kind is ProblemKind.UNREACHABLE


def test_a_tracker_whose_process_is_killed_gets_another(root: Path) -> None:
    with Tracker(root, LOCAL) as tracker:
        tracker.ask(Store.open_sweep, "first", "the command")
        worker = tracker._backend._workers[module.SLOT].result()
        os.kill(worker, signal.SIGKILL)
        while Path(f"/proc/{worker}").exists():
            time.sleep(0.1)
        tracker.submit(Store.open_sweep, "second", "the command")  # it may be the one to find out
        tracker.settle()
        tracker.ask(Store.open_sweep, "third", "the command")

    assert tracker.problem is None
    with sqlite3.connect(root / "mlflow.db") as database:
        names = {name for (name,) in database.execute("select name from runs")}
    assert {"first", "third"} <= names


@pytest.mark.timeout(120)
def test_a_locked_store_is_waited_for(root: Path) -> None:
    import threading

    with Tracker(root, LOCAL) as tracker:
        tracker.ask(Store.open_sweep, "first", "the command")
        database = sqlite3.connect(root / "mlflow.db", check_same_thread=False)
        database.execute("begin exclusive")
        threading.Timer(6.5, database.rollback).start()
        assert tracker.ask(Store.open_sweep, "second", "the command") is not None

    assert tracker.problem is None


def test_what_the_store_refuses_of_one_record_is_told_once_and_others_arrive(root: Path) -> None:
    for index, odd in ((1, {".": 0.1}), (2, {})):
        signature = f"{index:02x}" * 32
        row = {"epoch": 1, "time": 1.79e9, "map50": 0.5, **odd}
        content = make_record(signature=signature, name=f"trial {index}", history=[row])
        atomic_write_json(root / "trials" / signature / "result.json", content)
    with Tracker(root, LOCAL) as tracker:
        tracker.ask(Store.publish_missing, root)
        tracker.ask(Store.publish_missing, root)

    assert tracker.problem is None
    assert [(refusal.record, refusal.what) for refusal in tracker.refusals] == [("trial 1", "metric .")]
    with sqlite3.connect(root / "mlflow.db") as database:
        assert database.execute("select status from runs").fetchall() == [("FINISHED",)] * 2


def test_a_store_of_an_older_mlflow_is_told_as_that_again_and_again(root: Path) -> None:
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = '0584bdc529eb'")
    with Tracker(root, LOCAL) as tracker:
        tracker.submit(Store.open_sweep, "first", "the command")
        tracker.submit(Store.open_sweep, "second", "the command")

    assert tracker.problem is not None
    assert tracker.problem.kind is ProblemKind.OLD_SCHEMA
    assert f"mlflow db upgrade sqlite:///{root}/mlflow.db" in tracker.problem.advice
