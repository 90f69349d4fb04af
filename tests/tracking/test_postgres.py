"""MLflow on PostgreSQL: a real database of its own for these tests, alone and behind a real tracking server."""

from __future__ import annotations

import getpass
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.factories import make_record

from ablate.records.loading import load_run_link
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import TrialFolder
from ablate.tracking.store import Store

SERVERS = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
pytestmark = [
    pytest.mark.postgres,
    pytest.mark.slow,  # a database, a server and two sweeps
    pytest.mark.skipif(not SERVERS, reason="postgresql is not installed (apt-get install postgresql)"),
    pytest.mark.skipif(importlib.util.find_spec("psycopg2") is None, reason="psycopg2 is not installed"),
]


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    """A server that listens on a socket in a folder only, with an empty database; return the URI."""
    # PostgreSQL refuses to run as root: then it runs as the user that Debian made for it
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()
    programs = SERVERS[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="ablate-pg-"))  # pytest's own folders are closed to other users
    shutil.chown(folder, user)

    def run(program: str, *words: str) -> None:
        done = subprocess.run(
            [programs / program, *words],
            user=user,
            group=user,
            extra_groups=[],
            cwd=folder,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def run_as_myself(program: str, *words: str) -> None:
        done = subprocess.run([programs / program, *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr

    do = run if os.geteuid() == 0 else run_as_myself
    data, log = str(folder / "data"), str(folder / "log")
    try:
        do("initdb", "--pgdata", data, "--auth", "trust", "--username", "ablate", "--no-sync", "--encoding", "UTF8")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off"
        do("pg_ctl", "--pgdata", data, "--log", log, "--wait", "--options", options, "start")
        try:
            do("createdb", "--host", str(folder), "--username", "ablate", "mlflow")
            yield f"postgresql://ablate@/mlflow?host={folder}"
        finally:
            do("pg_ctl", "--pgdata", data, "--mode", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MLflow's tracking server on that database, as somebody would set it up for a group; return its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("server")
    uri = database.replace(
        "postgresql:", "postgresql+psycopg2:"
    )  # the driver that we ask for; SQLAlchemy may prefer another
    words = ["--backend-store-uri", uri, "--artifacts-destination", str(folder / "artifacts"), "--workers", "2"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *words, "--host", "127.0.0.1", "--port", str(port)],
            cwd=folder,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 180
        while not _answers(address):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.2)
        yield address
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _answers(address: str) -> bool:
    try:
        return bool(urllib.request.urlopen(f"{address}/health", timeout=5).status == 200)
    except OSError:
        return False


def write_trials(root: Path, count: int) -> list[str]:
    signatures = [f"{number:064x}" for number in range(count)]
    for seed, signature in enumerate(signatures):
        content = make_record(signature=signature, seed=seed, name=f"baseline musgd s{seed}")
        atomic_write_json(root / "trials" / signature / "result.json", content)
        line = {"time": 1.79e9, "step": 0, "cpu_utilization_percentage": 50.0}
        (root / "trials" / signature / "system.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    return signatures


def test_several_processes_at_once_give_each_trial_one_run(database: str, tmp_path: Path) -> None:
    root = tmp_path / "multirun"
    signatures = write_trials(root, 3)
    code = (
        "import sys; from pathlib import Path; from ablate.tracking.store import Store; "
        "root = Path(sys.argv[1]); store = Store(root, sys.argv[2]); print('ready', flush=True); sys.stdin.readline(); "
        "[store.publish(folder) for folder in sorted((root / 'trials').iterdir())]"
    )
    Store(root, database)  # makes the tables
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(root), database], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        process.communicate(timeout=300)
    assert [process.returncode for process in processes] == [0, 0, 0]

    store = Store(root, database)
    runs = store._client.search_runs([store._experiment])
    assert sorted(run.data.tags["ablate.signature"] for run in runs) == signatures
    for run in runs:
        assert [m.step for m in store._client.get_metric_history(run.info.run_id, "map50_95")] == [1, 2]
        assert len(store._client.get_metric_history(run.info.run_id, "system/cpu_utilization_percentage")) == 1
        assert run.inputs.dataset_inputs[0].dataset.digest == "f" * 36
    whole = [store._client.get_run(run.info.run_id) for run in runs]  # a search leaves the models out
    assert len({run.inputs.model_inputs[0].model_id for run in whole}) == 1
    assert (root / "mlartifacts").is_dir(), "files stay below the root, not where the command was given"


def test_a_sweep_is_recorded_on_a_server(server: str, ablate: Callable[..., Any], tmp_path: Path) -> None:
    words = ["module=none", "seed=0,1", "train=smoke", "train.fraction=1.0", "data.train_images=8", "data.val_images=4"]
    words += ["data.imgsz=64", "latency.enabled=false", "notebook=false", "sweep=tiny", "-m"]
    words += ["tracking=server", f"tracking.uri={server}", "tracking.experiment=served"]

    done = ablate(*words)
    again = ablate(*words)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "does not answer" not in done.stdout + again.stdout
    assert "2 trials, 2 done, 0 to run" in again.stdout
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=server)
    experiment = client.get_experiment_by_name("served").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`ablate.kind` = 'sweep'")
    trials = client.search_runs([experiment], "tags.`ablate.kind` = 'trial'")
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["sweep/finished"] == 2
    assert [file.path for file in client.list_artifacts(parent.info.run_id) if file.path == "comparison.json"]
    assert sorted(run.data.tags["ablate.seed"] for run in trials) == ["0", "1"]
    for run in trials:
        folder = tmp_path / "multirun" / "trials" / run.data.tags["ablate.signature"]
        record = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        assert run.info.status == "FINISHED"
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.metrics["final/map50_95"] == record["metrics"]["map50_95"]
        assert "system/cpu_utilization_percentage" in run.data.metrics
        assert run.inputs.dataset_inputs[0].dataset.digest == record["data"]["fingerprint"][:36]
        assert load_run_link(TrialFolder(folder)).state == "complete"
        assert [file.path for file in client.list_artifacts(run.info.run_id, "weights")] == ["weights/best.pt"]
    assert not (tmp_path / "mlruns").exists()
