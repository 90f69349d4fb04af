"""MLflow gets every record once, however often it is sent, and never holds anything up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.factories import LACKING, SIGNATURE, decoded, header, make_record

from ablate.analysis.table_summary import TableSummary
from ablate.records.loading import load_run_link
from ablate.records.metrics import EpochRow
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import TrialFolder
from ablate.tracking.store import Store

# Processes that do the same at once, and how they ended: children of one that has imported MLflow, which takes seconds.
TOGETHER = """
import os, sys, traceback
from pathlib import Path
import mlflow.tracking
from ablate.tracking import open_store
from ablate.tracking.store import Store

code, count, root = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
reading, writing = os.pipe()
children = []
for _ in range(count):
    children.append(os.fork())
    if not children[-1]:
        os.close(writing)
        os.read(reading, 1)  # until the parent says go
        try:
            exec(code)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
os.close(writing)
print([os.waitpid(child, 0)[1] for child in children])
"""

TABLE = TableSummary(
    [{"variant": "baseline", "delta_map50_95": None}, {"variant": "hmha", "delta_map50_95": 0.5}], 0.5, 0
)


def record(**changes: Any) -> dict[str, Any]:
    config = {"train": {"epochs": 2, **{f"arg{i}": i for i in range(150)}}, "module": {"rerank": "sample"}}
    return make_record(**{"config": config, "data": LACKING, **changes})


@pytest.fixture
def root(tmp_path: Path, new_root: Callable[[Path], Path]) -> Path:
    return new_root(tmp_path / "multirun")


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
    assert [(m.step, m.value) for m in history] == [(1, 0.125), (2, 0.25)]


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


@pytest.mark.security(
    "Secrets", "`git.diff`, how your files differ from their commit, is sent only with `tracking.diff=true`."
)
@pytest.mark.parametrize("asked", [False, True])
def test_the_difference_from_the_commit_is_sent_only_when_asked(root: Path, trial: Path, asked: bool) -> None:
    (trial / "git.diff").write_text("+line\n", encoding="utf-8")
    store = Store(root, diff=asked)
    run_id = store.publish(trial)

    assert ("git.diff" in [file.path for file in store._client.list_artifacts(run_id)]) is asked


def test_a_failure_is_a_failed_run_with_its_reason(root: Path, trial: Path) -> None:
    failure = {"type": "out_of_memory", "message": "batch 64", "log": "train.log"}
    atomic_write_json(trial / "result.json", record(status="failed", failure=failure, metrics={}, history=[]))
    store = Store(root)

    run = store._client.get_run(store.publish(trial))

    assert run.info.status == "FAILED"
    assert run.data.tags["ablate.failure"] == "out_of_memory"


def test_epochs_of_a_running_trial_are_taken_up_by_its_final_record(root: Path, trial: Path) -> None:
    store = Store(root)
    run_id = store.begin(trial, header(), parent=None)
    store.epochs(run_id, decoded().history[:1])
    assert store._client.get_run(run_id).info.status == "RUNNING"

    assert store.publish(trial) == run_id
    assert len(store._client.get_metric_history(run_id, "map50_95")) == 2


def test_what_is_missing_is_sent_and_what_is_complete_is_not(root: Path, trial: Path) -> None:
    store = Store(root)

    assert store.publish_missing(root) == [SIGNATURE]
    assert store.publish_missing(root) == []
    assert load_run_link(TrialFolder(trial)).state == "complete"


def test_a_damaged_record_does_not_keep_others_from_being_sent(root: Path, trial: Path) -> None:
    broken = root / "trials" / ("00" * 32)
    broken.mkdir()
    (broken / "result.json").write_text('{"signature": "00', encoding="utf-8")

    assert Store(root).publish_missing(root) == [SIGNATURE]


def test_a_deleted_run_is_made_anew(root: Path, trial: Path) -> None:
    store = Store(root)
    first = store.publish(trial)
    store._client.delete_run(first)

    assert store.publish(trial) != first


def test_epochs_of_a_running_trial_open_its_run_and_then_follow(root: Path, trial: Path) -> None:
    store = Store(root)
    rows = decoded().history
    store.follow(trial, header(), None, rows[:1])
    store.follow(trial, header(), None, rows[1:])
    run_id = load_run_link(TrialFolder(trial)).run_id

    assert [m.step for m in store._client.get_metric_history(run_id, "map50_95")] == [1, 2]
    store.stop(trial)
    assert store._client.get_run(run_id).info.status == "KILLED"
    store.follow(trial, header(), None, rows[1:])
    assert store._client.get_run(run_id).info.status == "RUNNING"
    assert load_run_link(TrialFolder(trial)).run_id == run_id


def test_a_trial_that_began_anew_gets_a_run_without_the_epochs_of_before(root: Path, trial: Path) -> None:
    store = Store(root)
    first = store.begin(trial, header(), None)
    store.epochs(first, [EpochRow({**row.content, "time": row.time - 1000}) for row in decoded().history])

    second = store.publish(trial)

    assert second != first
    assert store._client.get_run(first).info.lifecycle_stage == "deleted"
    assert [m.step for m in store._client.get_metric_history(second, "map50_95")] == [1, 2]
    assert store.publish(trial) == second


def test_two_stores_at_once_give_a_trial_one_run(root: Path, trial: Path) -> None:
    code = "Store(root).publish(next((root / 'trials').iterdir()))"
    done = subprocess.run(
        [sys.executable, "-c", TOGETHER, code, "2", str(root)], capture_output=True, text=True, timeout=120, check=False
    )

    assert done.stdout == "[0, 0]\n", done.stderr
    store = Store(root)
    assert len(store._client.search_runs([store._experiment])) == 1


def test_a_store_is_made_once_by_commands_that_open_it_together_after_one_was_killed(tmp_path: Path) -> None:
    """MLflow's own making of an SQLite store, twice at once or cut off, leaves a file that it never opens again."""
    place = tmp_path / "multirun" / "mlflow.db"
    code = "open_store.open_client(f'sqlite:///{root}/mlflow.db', root)"
    words = [sys.executable, "-c", TOGETHER, code]
    killed = subprocess.Popen([*words, "1", str(place.parent)], start_new_session=True)
    draft = place.with_name(".mlflow.db.draft")
    while not (draft.exists() and draft.stat().st_size):  # MLflow has begun, and has not come to its end
        assert killed.poll() is None
        time.sleep(0.005)
    os.killpg(killed.pid, signal.SIGKILL)
    killed.wait()
    assert not place.exists()

    done = subprocess.run([*words, "3", str(place.parent)], capture_output=True, text=True, timeout=200, check=False)

    assert done.stdout == "[0, 0, 0]\n", done.stderr
    assert Store(place.parent).uri
    assert [path.name for path in place.parent.glob("*mlflow.db*")] == ["mlflow.db"]


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


DATA = {"name": "shapes", "classes": ["a"], "images": {"train": 4}, "instances": {"train": 9}, "fingerprint": "f" * 64}
MODEL = {"name": "yolo26n", "architecture": "yolo26n.yaml", "weights": None}


def write_samples(folder: Path, first: float, count: int) -> None:
    lines = [{"time": first + n, "step": n, "cpu_utilization_percentage": 10.0 * n} for n in range(count)]
    (folder / "system.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def test_samples_of_the_machine_follow_a_trial_and_are_there_once(root: Path, trial: Path) -> None:
    rows = decoded().history
    store = Store(root)
    write_samples(trial, 1.79e9, 1)
    store.follow(trial, header(), None, rows[:1])
    write_samples(trial, 1.79e9, 3)
    store.follow(trial, header(), None, rows[1:])
    write_samples(trial, 1.79e9, 4)
    run_id = Store(root).publish(trial)  # another command, which does not know what was sent

    held = store._client.get_metric_history(run_id, "system/cpu_utilization_percentage")
    assert [(m.step, m.value, m.timestamp) for m in held] == [
        (n, 10.0 * n, (1_790_000_000 + n) * 1000) for n in range(4)
    ]


def test_what_a_trial_was_made_from_is_logged_as_inputs(root: Path, trial: Path) -> None:
    atomic_write_json(trial / "result.json", record(data=DATA, config={"model": MODEL}))
    store = Store(root)
    run_id = store.publish(trial)
    assert store.publish(trial) == run_id
    run = store._client.get_run(run_id)

    (used,) = run.inputs.dataset_inputs
    assert (used.dataset.name, used.dataset.digest) == ("shapes", "f" * 36)
    assert [(tag.key, tag.value) for tag in used.tags] == [("mlflow.data.context", "training")]
    (network,) = run.inputs.model_inputs
    model = store._client.get_logged_model(network.model_id)
    assert (model.name, model.params["weights"], str(model.status)) == ("yolo26n", "random, by the seed", "READY")

    other = root / "trials" / ("cd" * 32)
    atomic_write_json(other / "result.json", record(signature="cd" * 32, data=DATA, config={"model": MODEL}))
    (shared,) = Store(root)._client.get_run(Store(root).publish(other)).inputs.model_inputs
    assert shared.model_id == network.model_id, "trials that start alike share the model"


def test_a_run_that_tells_of_another_training_is_replaced(root: Path, trial: Path) -> None:
    store = Store(root)
    first = store.publish(trial)
    atomic_write_json(trial / "result.json", record(realised={"batch": 2}))

    second = store.publish(trial)

    assert second != first
    assert store._client.get_run(second).data.params["realised.batch"] == "2"
    assert store._client.get_run(first).info.lifecycle_stage == "deleted"


def test_a_sweep_closed_twice_has_its_table_once_and_knows_its_trials(root: Path, trial: Path) -> None:
    import mlflow.artifacts

    atomic_write_json(trial / "result.json", record(data=DATA))
    directory = root / "sweeps" / "s"
    controls = {"cd" * 8: {"kind": "params", "comparison_key": "ef" * 8, "signatures": [SIGNATURE]}}
    atomic_write_json(directory / "sweep.json", {"signatures": [SIGNATURE], "controls": controls})
    (directory / "comparison.html").write_text("<p>report</p>", encoding="utf-8")
    (directory / "figures").mkdir()
    (directory / "figures" / "forest.svg").write_text("<svg/>", encoding="utf-8")
    store = Store(root)
    parent = store.open_sweep("s", "python -m ablate -m")
    child = store.publish(trial, parent)
    opened = replace(TABLE, test_rows=[{"variant": "hmha", "delta_map50_95": 0.1}])  # the test split
    for _ in range(2):
        store.close_sweep(parent, directory, [SIGNATURE], "the table", opened, failed=False)

    run = store._client.get_run(parent)
    assert run.info.status == "FINISHED"
    assert run.data.tags["mlflow.note.content"] == "the table"
    assert run.data.tags["ablate.module"] == "hmha"
    assert run.data.metrics["sweep/largest_delta_map50_95"] == 0.5
    assert run.data.params["train.epochs"] == "2"
    assert [used.dataset.name for used in run.inputs.dataset_inputs] == ["shapes"]
    files = {
        file.path
        for folder in ("", "report", "report/figures")
        for file in store._client.list_artifacts(parent, folder)
    }
    assert {"comparison.json", "report/comparison.html", "report/figures/forest.svg"} <= files
    table = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/comparison.json"))
    assert table == {"columns": ["variant", "delta_map50_95"], "data": [["baseline", None], ["hmha", 0.5]]}
    on_test = json.loads(mlflow.artifacts.load_text(f"{run.info.artifact_uri}/comparison_test.json"))
    assert on_test == {"columns": ["variant", "delta_map50_95"], "data": [["hmha", 0.1]]}
    tags = store._client.get_run(child).data.tags
    assert (tags["ablate.sweep"], tags["ablate.sweeps"], tags["ablate.control"]) == ("s", "s", "params")
    assert tags["mlflow.parentRunId"] == parent


def test_a_trial_of_two_sweeps_says_so(root: Path, trial: Path) -> None:
    store = Store(root)
    child = store.publish(trial, store.open_sweep("first", "command"))
    directory = root / "sweeps" / "second"
    atomic_write_json(directory / "sweep.json", {"signatures": [SIGNATURE]})

    store.close_sweep(store.open_sweep("second", "command"), directory, [SIGNATURE], "", TABLE, failed=False)

    tags = store._client.get_run(child).data.tags
    assert (tags["ablate.sweep"], tags["ablate.sweeps"]) == ("first", "first second")
