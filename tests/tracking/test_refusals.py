"""What a store refuses costs only itself: all else arrives, the run ends, and what is missing is named."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.factories import LACKING, make_record

from ablate.analysis.table_summary import TableSummary
from ablate.records.loading import load_run_link
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import TrialFolder
from ablate.tracking import mlflow_payload as entries
from ablate.tracking.store import Store
from ablate.tracking.store_problems import ProblemKind, problem_of

CLASSES = ["0", "1", ".", "same", "same", "a/b", "a:b", "", "x" * 10_000, "$1 {", "人", "final/map50_95"]


def record(index: int, **changes: Any) -> dict[str, Any]:
    return make_record(
        **{
            "signature": f"{index:02x}" * 32,
            "name": f"trial {index}",
            "variant": "baseline sgd",
            "factors": {"module": "none", "insertion": "none", "optimizer": "sgd", "model": "yolo26n", "data": "d"},
            "seed": index,
            "config": {
                "train": {f"arg{i}": i for i in range(120)},
                "model": {"name": "yolo26n", "architecture": "y.yaml"},
            },
            "data": {"name": "d", "classes": CLASSES, "images": {"train": 4}, "instances": {}, "fingerprint": "f" * 64},
            "metrics": {"map50_95": 0.25, "map50": 0.5},
            "per_class": [{"name": name, "map50_95": i / 100} for i, name in enumerate(CLASSES)],
            "history": [
                {"epoch": e, "time": 1.79e9 + e, "map50_95": e / 10, "train/box_loss": 1.0} for e in range(1, 4)
            ],
            "realised": {"batch": 4},
            **changes,
        }
    )


@pytest.fixture
def root(tmp_path: Path, new_root: Callable[[Path], Path]) -> Path:
    return new_root(tmp_path / "multirun")


def write(root: Path, *records: dict[str, Any]) -> list[Path]:
    folders = [root / "trials" / record["signature"] for record in records]
    for folder, content in zip(folders, records, strict=True):
        atomic_write_json(folder / "result.json", content)
    return folders


def statuses(root: Path) -> list[str]:
    with sqlite3.connect(root / "mlflow.db") as database:
        return [status for (status,) in database.execute("select status from runs where lifecycle_stage = 'active'")]


def test_classes_of_any_name_have_their_metric(root: Path) -> None:
    (folder,) = write(root, record(1))
    store = Store(root)
    run = store._client.get_run(store.publish(folder))

    found = {name: value for name, value in run.data.metrics.items() if name.startswith("per_class_map50_95/")}
    assert sorted(found.values()) == [i / 100 for i in range(len(CLASSES))]
    assert found["per_class_map50_95/1"] == 0.01
    assert found["per_class_map50_95/002_."] == 0.02
    assert run.data.tags["ablate.class.002"] == "."
    assert store.take_refusals() == []
    assert statuses(root) == ["FINISHED"]


def test_a_refused_metric_is_left_out_and_named_and_all_others_arrive(root: Path) -> None:
    row = {"epoch": 1, "time": 1.79e9, "map50_95": 0.25, ".": 0.1, "k" * 300: 0.2, "map50": 0.5}
    (folder,) = write(root, record(1, history=[row]))
    store = Store(root)
    run = store._client.get_run(store.publish(folder))

    assert {"final/map50_95", "final/map50", "per_class_map50_95/1", "map50_95"} <= set(run.data.metrics)
    assert len(run.data.params) > 120
    refusals = store.take_refusals()
    assert [(refusal.record, refusal.what[:14], refusal.again) for refusal in refusals] == [
        ("trial 1", "metric .", False),
        ("trial 1", "metric kkkkkkk", False),
    ]
    assert "metric ." in run.data.tags[entries.NOT_RECORDED]
    assert statuses(root) == ["FINISHED"]
    assert store.publish_missing(root) == [], "another time it would be refused again"

    write(root, record(1))
    assert entries.NOT_RECORDED not in store._client.get_run(store.publish(folder)).data.tags


ODD_RECORDS: list[dict[str, Any]] = [
    {"history": [{"epoch": 10**30, "time": 1.79e9, "map50_95": 0.1}, {"epoch": 1}, {"epoch": 2, "time": None}]},
    {"history": [{"epoch": 1, "time": 1e300, "map50_95": 10**400}]},
    {"finished": None, "started": "soon", "name": "", "status": "failed", "failure": {"type": "", "message": ""}},
    {"config": {"module": {"a(b)": 1, "k" * 400: 2, "value": "v" * 20_000}, ".": {".": 1}}},
    {"data": {"name": "n" * 9_000, "classes": CLASSES, "images": {}, "instances": {}}, "name": "n" * 9_000},
    {"config": {"model": {"name": "my.net/x:1"}}, "factors": {"module": "none", "k" * 300: "v" * 9_000}},
]
NO_RECORDS: list[dict[str, Any]] = [
    {"history": "none", "per_class": {"a": 1}, "metrics": [], "config": None, "realised": 3, "factors": None},
    {"history": [1, None, "x"], "per_class": [None, 3, {"map50_95": True}]},
    {"finished": None, "started": 7, "name": None, "seed": {}, "status": "failed", "failure": {"tail": "x"}},
]


def test_odd_records_do_not_keep_others_from_being_sent(root: Path) -> None:
    odd = [record(index + 1, **changes) for index, changes in enumerate(ODD_RECORDS)]
    damaged = [record(0x40 + index, **changes) for index, changes in enumerate(NO_RECORDS)]
    write(root, record(0), *odd, *damaged, record(0xFE), record(0xFF))
    (root / "trials" / "notes").mkdir()
    atomic_write_json(root / "trials" / "notes" / "result.json", {"signature": "notes"})
    store = Store(root)
    sent = store.publish_missing(root)

    assert {f"{index:02x}" * 32 for index in (0, *range(1, len(odd) + 1), 0xFE, 0xFF)} == set(sent)
    assert Counter(statuses(root))["RUNNING"] == 0
    for refusal in store.take_refusals():
        assert refusal.reason
        assert not refusal.again
    assert store.publish_missing(root) == []


def test_a_parameter_or_tag_that_is_refused_is_named(root: Path) -> None:
    (folder,) = write(root, record(1, factors={"module": "none", "k" * 300: "x"}, config={"..": 1, "batch": 2}))
    store = Store(root)
    run = store._client.get_run(store.publish(folder))
    assert [refusal.what[:16] for refusal in store.take_refusals()] == ["parameter ..", "tag ablate.kkkkk"]
    assert (run.data.params["batch"], run.data.tags["ablate.module"]) == ("2", "none")
    assert run.data.metrics["final/map50"] == 0.5


def test_a_file_that_cannot_be_sent_is_tried_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder,) = write(root, record(1))
    (folder / "train.log").write_text("log", encoding="utf-8")
    store = Store(root)
    log_artifact = store._client.log_artifact

    def full(run_id: str, path: str, place: str | None) -> None:
        if path.endswith("train.log"):
            raise OSError(28, "No space left on device")
        log_artifact(run_id, path, place)

    monkeypatch.setattr(store._client, "log_artifact", full)
    run_id = store.publish(folder)
    assert [(refusal.what, refusal.again) for refusal in store.take_refusals()] == [("the file train.log", True)]
    assert (load_run_link(TrialFolder(folder)).state, statuses(root)) == ("incomplete", ["FINISHED"])
    monkeypatch.undo()
    assert store.publish_missing(root) == [folder.name]
    files = [file.path for file in store._client.list_artifacts(run_id)]
    assert "train.log" in files
    assert load_run_link(TrialFolder(folder)).state == "complete"


def test_a_sweep_whose_trial_was_deleted_in_mlflow_ends_all_the_same(root: Path) -> None:
    first, second = write(root, record(1), record(2))
    directory = root / "sweeps" / "s"
    head = {"signatures": [first.name, second.name], "controls": {"c": {"kind": "params", "signatures": [first.name]}}}
    atomic_write_json(directory / "sweep.json", head)
    store = Store(root)
    parent = store.open_sweep("s", "command" * 2000)
    runs = [store.publish(folder) for folder in (first, second)]
    store._client.delete_run(runs[0])
    store.close_sweep(parent, directory, [first.name, second.name], "note" * 3000, TableSummary(), failed=False)

    assert store._client.get_run(parent).info.status == "FINISHED"
    assert store._client.get_run(runs[1]).data.tags["ablate.sweeps"] == "s"
    assert first.name[:12] in store._client.get_run(parent).data.tags[entries.NOT_RECORDED]


class Counting:
    """A client that counts how often each of its methods is called."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.calls: Counter[str] = Counter()
        self.metrics = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._client, name)

        def counted(*arguments: Any, **options: Any) -> Any:
            self.calls[name] += 1
            if name == "log_batch":
                self.metrics += len(arguments[1])
            return method(*arguments, **options)

        return counted


def counting(store: Store) -> Counting:
    client = Counting(store._client)
    store._client = store._sender._client = store._inputs._client = client
    return client


def test_a_trial_is_sent_in_few_requests(root: Path) -> None:
    """A hundred epochs of ten numbers: 1,000 metrics and 120 parameters in three batches."""
    rows = [{"epoch": e, "time": 1.79e9 + e, **{f"m{i}": 0.5 for i in range(10)}} for e in range(1, 101)]
    (folder,) = write(root, record(1, history=rows, cost=LACKING))
    store = Store(root, artifacts=False)
    client = counting(store)
    store.publish(folder)

    assert client.calls["log_batch"] == 2
    assert client.metrics == 1000 + 2 + len(CLASSES)
    assert client.calls.total() <= 16, client.calls


def test_a_record_that_is_sent_again_sends_no_metric(root: Path) -> None:
    """The link is lost, as after a damaged record was mended: the run is found by its signature."""
    (folder,) = write(root, record(1))
    lines = [f'{{"time": {1.79e9 + n}, "step": {n}, "cpu_utilization_percentage": 5.0}}\n' for n in range(3)]
    (folder / "system.jsonl").write_text("".join(lines), encoding="utf-8")
    run_id = Store(root).publish(folder)
    (folder / "mlflow.json").unlink()
    store = Store(root)
    client = counting(store)

    assert store.publish(folder) == run_id
    assert client.metrics == 0
    assert client.calls["get_metric_history"] <= 2

    write(root, record(1, history=[*record(1)["history"], {"epoch": 4, "time": 1.79e9 + 9, "map50_95": 0.4}]))
    assert store.publish(folder) == run_id
    assert client.metrics == 1, "the new epoch only"


def test_a_record_without_an_end_is_sent_once_too(root: Path) -> None:
    (folder,) = write(root, record(1, finished=None))
    run_id = Store(root).publish(folder)
    (folder / "mlflow.json").unlink()
    store = Store(root)
    store.publish(folder)
    assert len(store._client.get_metric_history(run_id, "final/map50")) == 1


@pytest.mark.parametrize(
    ("revision", "kind", "words"),
    [
        ("0584bdc529eb", ProblemKind.OLD_SCHEMA, "mlflow db upgrade"),
        ("ffffffffffff", ProblemKind.NEW_SCHEMA, "pip install --upgrade mlflow"),
    ],
)
def test_a_database_of_another_mlflow_is_told_with_what_helps(
    root: Path, revision: str, kind: ProblemKind, words: str
) -> None:
    with sqlite3.connect(root / "mlflow.db") as database:
        database.execute("update alembic_version set version_num = ?", (revision,))
    with pytest.raises(Exception, match="schema") as caught:
        Store(root)
    problem = problem_of(caught.value, f"sqlite:///{root}/mlflow.db")
    assert problem.kind is kind
    assert words in problem.advice
    if kind is ProblemKind.OLD_SCHEMA:
        assert f"sqlite:///{root}/mlflow.db" in problem.advice


def mlflow_error(message: str, code: str) -> Exception:
    from mlflow.exceptions import MlflowException
    from mlflow.protos import databricks_pb2

    return MlflowException(message, error_code=getattr(databricks_pb2, code))


@pytest.mark.parametrize(
    ("message", "code", "kind"),
    [
        ("Invalid value 'Connection timed out' for metric", "INVALID_PARAMETER_VALUE", ProblemKind.REFUSED),
        ("API request to http://h failed with exception HTTPConnectionPool", "INTERNAL_ERROR", ProblemKind.UNREACHABLE),
        ("API request to endpoint /x failed with error code 503 != 200", "INTERNAL_ERROR", ProblemKind.UNREACHABLE),
        ("API request to endpoint /x failed with error code 403 != 200", "INTERNAL_ERROR", ProblemKind.REFUSED),
        ("(sqlite3.OperationalError) database is locked", "TEMPORARILY_UNAVAILABLE", ProblemKind.UNREACHABLE),
        ("Python int too large to convert to SQLite INTEGER", "INTERNAL_ERROR", ProblemKind.REFUSED),
        ("value too long for type character varying(250)", "BAD_REQUEST", ProblemKind.REFUSED),
    ],
)
def test_no_answer_is_told_from_a_refusal(message: str, code: str, kind: ProblemKind) -> None:
    problem = problem_of(mlflow_error(message, code))
    assert problem.kind is kind
    assert ("the next command sends them" in problem.advice) == (kind is ProblemKind.UNREACHABLE)
