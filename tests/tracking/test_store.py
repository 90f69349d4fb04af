"""MLflow gets every record once, however often it is sent, and never holds anything up."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.tracking.records import atomic_write_json
from ablate.tracking.store import Store, read_link

SIGNATURE = "ab" * 32


def record(**changes: Any) -> dict[str, Any]:
    return {
        "schema": 1,
        "signature": SIGNATURE,
        "status": "finished",
        "failure": None,
        "name": "hmha@c3k2 musgd s0",
        "variant": "hmha@c3k2 musgd",
        "variant_key": "cd" * 8,
        "factors": {"module": "hmha", "insertion": "c3k2", "optimizer": "musgd", "model": "yolo26n", "data": "shapes"},
        "seed": 0,
        "config": {"train": {"epochs": 2, **{f"arg{i}": i for i in range(150)}}, "module": {"rerank": "sample"}},
        "metrics": {"map50_95": 0.25, "map50": 0.5, "checkpoint": "best"},
        "history": [
            {"epoch": e, "time": 1.79e9 + e, "seconds": 1.0, "map50_95": e / 10, "lr/pg0": 0.01} for e in (1, 2)
        ],
        "cost": {"params": 10, "gflops": 0.5, "gflops_ultralytics": None},
        "realised": {"batch": 4, "git": {"commit": "f" * 40}},
        "artifacts": {"best": "train/weights/best.pt", "plots": []},
        "started": "2026-01-01T10:00:00+00:00",
        "finished": "2026-01-01T10:05:00+00:00",
        **changes,
    }


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "multirun"


@pytest.fixture
def trial(root: Path) -> Path:
    folder = root / "trials" / SIGNATURE
    (folder / "train" / "weights").mkdir(parents=True)
    (folder / "train" / "weights" / "best.pt").write_bytes(b"weights")
    atomic_write_json(folder / "result.json", record())
    return folder


def test_a_record_sent_twice_is_there_once(root: Path, trial: Path) -> None:
    store = Store(root)

    first = store.publish(trial)
    (trial / "mlflow.json").unlink()  # as after a crash between the two
    second = Store(root).publish(trial)

    assert first == second
    history = store._client.get_metric_history(first, "map50_95")
    assert [(m.step, m.value) for m in history] == [(1, 0.1), (2, 0.2)]


def test_parameters_metrics_tags_and_files_arrive_whole(root: Path, trial: Path) -> None:
    store = Store(root)
    run = store._client.get_run(store.publish(trial))

    assert len([name for name in run.data.params if not name.startswith("realised.")]) == 152, (
        "more than a request holds"
    )
    assert run.data.metrics["final/map50_95"] == 0.25
    assert run.data.tags["ablate.module"] == "hmha"
    assert run.data.tags["mlflow.source.git.commit"] == "f" * 40
    assert run.info.status == "FINISHED"
    assert run.info.end_time - run.info.start_time == 5 * 60 * 1000
    assert [f.path for f in store._client.list_artifacts(run.info.run_id, "weights")] == ["weights/best.pt"]


def test_a_failure_is_a_failed_run_with_its_reason(root: Path, trial: Path) -> None:
    failure = {"type": "out_of_memory", "message": "batch 64", "log": "train.log"}
    atomic_write_json(trial / "result.json", record(status="failed", failure=failure, metrics={}, history=[]))
    store = Store(root)

    run = store._client.get_run(store.publish(trial))

    assert run.info.status == "FAILED"
    assert run.data.tags["ablate.failure"] == "out_of_memory"


def test_epochs_of_a_running_trial_are_taken_up_by_its_final_record(root: Path, trial: Path) -> None:
    store = Store(root)
    run_id = store.begin(trial, record(), parent=None)
    store.epochs(run_id, record()["history"][:1])
    assert store._client.get_run(run_id).info.status == "RUNNING"

    assert store.publish(trial) == run_id
    assert len(store._client.get_metric_history(run_id, "map50_95")) == 2


def test_what_is_missing_is_sent_and_what_is_complete_is_not(root: Path, trial: Path) -> None:
    store = Store(root)

    assert store.publish_missing(root / "trials") == [SIGNATURE]
    assert store.publish_missing(root / "trials") == []
    assert read_link(trial)["state"] == "complete"


def test_a_damaged_record_does_not_keep_others_from_being_sent(root: Path, trial: Path) -> None:
    broken = root / "trials" / ("00" * 32)
    broken.mkdir()
    (broken / "result.json").write_text('{"signature": "00', encoding="utf-8")

    assert Store(root).publish_missing(root / "trials") == [SIGNATURE]


def test_a_deleted_run_is_made_anew(root: Path, trial: Path) -> None:
    store = Store(root)
    first = store.publish(trial)
    store._client.delete_run(first)

    assert store.publish(trial) != first


def test_epochs_of_a_running_trial_open_its_run_and_then_follow(root: Path, trial: Path) -> None:
    store = Store(root)
    rows = record()["history"]
    store.follow(trial, record(), None, rows[:1])
    store.follow(trial, record(), None, rows[1:])
    run_id = read_link(trial)["run_id"]

    assert [m.step for m in store._client.get_metric_history(run_id, "map50_95")] == [1, 2]
    store.stop(trial)
    assert store._client.get_run(run_id).info.status == "KILLED"
    store.follow(trial, record(), None, rows[1:])
    assert store._client.get_run(run_id).info.status == "RUNNING"
    assert read_link(trial)["run_id"] == run_id


def test_a_trial_that_began_anew_gets_a_run_without_the_epochs_of_before(root: Path, trial: Path) -> None:
    store = Store(root)
    first = store.begin(trial, record(), None)
    store.epochs(first, [{**row, "time": row["time"] - 1000} for row in record()["history"]])

    second = store.publish(trial)

    assert second != first
    assert store._client.get_run(first).info.lifecycle_stage == "deleted"
    assert [m.step for m in store._client.get_metric_history(second, "map50_95")] == [1, 2]
    assert store.publish(trial) == second


def test_two_stores_at_once_give_a_trial_one_run(root: Path, trial: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from ablate.tracking.store import Store; "
        "root = Path(sys.argv[1]); store = Store(root); print('ready', flush=True); sys.stdin.readline(); "
        "store.publish(next((root / 'trials').iterdir()))"
    )
    words = [sys.executable, "-c", code, str(root)]
    Store(root)
    both = [subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.communicate("go\n", timeout=120)

    assert [process.returncode for process in both] == [0, 0]
    store = Store(root)
    assert len(store._client.search_runs([store._experiment])) == 1


def test_the_log_of_a_failure_is_its_runs_description(root: Path, trial: Path) -> None:
    failure = {"type": "code", "message": "no", "log": "train.log", "tail": [f"line {n}" for n in range(50)]}
    atomic_write_json(trial / "result.json", record(status="failed", failure=failure, metrics={}, history=[]))
    store = Store(root)
    note = store._client.get_run(store.publish(trial)).data.tags["mlflow.note.content"]

    assert note.startswith("**Failed: code**: no")
    assert "line 0\n" in note
    assert "line 49\n" in note

    atomic_write_json(trial / "result.json", record())
    assert "mlflow.note.content" not in store._client.get_run(store.publish(trial)).data.tags


def test_no_global_state_of_mlflow_is_touched(root: Path, trial: Path) -> None:
    import mlflow

    before = mlflow.get_tracking_uri()
    Store(root).publish(trial)

    assert mlflow.get_tracking_uri() == before
    assert mlflow.active_run() is None
