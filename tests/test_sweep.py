"""A sweep from the command line, as a story: run, look, repeat, widen. Its tiny trainings are real."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

Done = subprocess.CompletedProcess[str]
Ablate = Callable[..., Done]

TINY = [
    "train=smoke",
    "train.fraction=1.0",
    "data.train_images=8",
    "data.val_images=4",
    "data.imgsz=64",
    "latency.rounds=3",
    "latency.warmup=1",
    "latency.warmup_max=1",
]


def records(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("multirun/trials/*/result.json")]
    return {record["name"]: record for record in found}


def mlflow_runs(folder: Path) -> pd.DataFrame:
    with sqlite3.connect(folder / "multirun" / "mlflow.db") as database:
        return pd.read_sql_query(
            "select r.run_uuid, r.name, r.status, t.value as signature, p.value as parent from runs r "
            "left join tags t on t.run_uuid = r.run_uuid and t.key = 'ablate.signature' "
            "left join tags p on p.run_uuid = r.run_uuid and p.key = 'mlflow.parentRunId'",
            database,
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def sweep(folder: Path, home: Path) -> Done:
    """Baseline and HMHA, trained, measured, reported, by new interpreters as a user starts them."""
    return subprocess.run(
        [sys.executable, "-m", "ablate", "module=hmha", *TINY, "-m"],
        cwd=folder,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )


def the_sweep(folder: Path) -> Path:
    (directory,) = (folder / "multirun" / "sweeps").iterdir()
    return directory


def test_a_sweep_ends_well_and_prints_its_table(sweep: Done) -> None:
    assert sweep.returncode == 0, sweep.stderr
    for text in ("baseline musgd", "hmha@c3k2 musgd", "mAP50-95", "comparison.html", "ablate ui"):
        assert text in sweep.stdout


def test_the_log_has_each_decision_and_the_terminal_none(sweep: Done, folder: Path) -> None:
    log = (the_sweep(folder) / "driver.log").read_text(encoding="utf-8")

    for name, record in records(folder).items():
        assert f"{name} ({record['signature'][:12]}): runs from the start" in log
        train_log = folder / "multirun" / "trials" / record["signature"] / "train.log"
        assert f"ablate.execution.run_trial: {name}: starts from the beginning" in train_log.read_text(encoding="utf-8")
    assert "INFO" not in sweep.stdout + sweep.stderr


def test_the_baseline_joined_by_itself_once(sweep: Done, folder: Path) -> None:
    assert sorted(records(folder)) == ["baseline musgd s0", "hmha@c3k2 musgd s0"]


def test_a_record_says_what_was_done_and_what_came_out(sweep: Done, folder: Path) -> None:
    record = records(folder)["hmha@c3k2 musgd s0"]

    assert record["status"] == "finished"
    assert set(record["metrics"]) >= {"map50_95", "map50", "precision", "recall", "epoch", "checkpoint", "split"}
    assert record["cost"]["params"] > records(folder)["baseline musgd s0"]["cost"]["params"]
    assert record["cost"]["gflops"] > records(folder)["baseline musgd s0"]["cost"]["gflops"] > 0
    assert record["cost"]["peak_memory_gb"] > 0.1
    assert len(record["graft"]["places"]) == 13
    assert record["realised"]["data_fingerprint"] == record["data"]["fingerprint"]
    assert record["realised"]["promised"] == {kind: record["realised"][kind] for kind in ("images", "instances")}
    assert record["realised"]["weights"]["source"] is None
    assert len(record["samples"]) == 4
    trial = folder / "multirun" / "trials" / record["signature"]
    assert (trial / record["artifacts"]["best"]).is_file()
    assert all((trial / sample["image"]).is_file() for sample in record["samples"])
    groups = json.loads((trial / "parameter_groups.json").read_text(encoding="utf-8"))
    (group,) = [g for g in groups if "model.4.m.0.cv2.graft.module.temperature" in g["tensors"]]
    assert group["weight_decay"] == 0
    assert not group["orthogonalised"]


def test_the_report_is_there_in_every_form_and_agrees(sweep: Done, folder: Path) -> None:
    directory = the_sweep(folder)
    table = pd.read_csv(directory / "comparison.csv")

    assert list(table.columns[:7]) == ["variant", "module", "insertion", "optimizer", "model", "data", "replicates"]
    assert len(table) == 2
    assert table["latency_ms"].gt(0).all()
    assert (table.loc[table["module"] == "none", "latency_ratio"] == 1).all()
    for suffix in ("md", "tex", "html", "ipynb"):
        text = (directory / f"comparison.{suffix}").read_text(encoding="utf-8")
        assert "hmha" in text
    notebook = json.loads((directory / "comparison.ipynb").read_text(encoding="utf-8"))
    assert any(cell.get("outputs") for cell in notebook["cells"]), "the notebook was executed"


def test_mlflow_has_one_run_a_trial_below_one_run_for_the_sweep(sweep: Done, folder: Path) -> None:
    runs = mlflow_runs(folder)
    (parent,) = runs[runs["signature"].isna()].itertuples()
    trials = runs[runs["signature"].notna()]

    assert sorted(trials["name"]) == sorted(records(folder))
    assert set(trials["parent"]) == {parent.run_uuid}
    assert set(runs["status"]) == {"FINISHED"}


def test_mlflow_holds_parameters_epochs_metrics_and_files(sweep: Done, folder: Path) -> None:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{folder / 'multirun' / 'mlflow.db'}")
    record = records(folder)["hmha@c3k2 musgd s0"]
    link = json.loads((folder / "multirun" / "trials" / record["signature"] / "mlflow.json").read_text())
    run = client.get_run(link["run_id"])
    directory = the_sweep(folder)
    parent = client.get_run(json.loads((directory / "sweep.json").read_text())["mlflow_run_id"])

    assert run.data.params["module.rerank"] == "sample"
    assert run.data.params["train.imgsz"] == "64"
    assert run.data.metrics["final/map50_95"] == record["metrics"]["map50_95"]
    assert [m.step for m in client.get_metric_history(run.info.run_id, "map50_95")] == [1]
    assert {"train/box_loss", "lr/pg0", "cost/gflops"} <= set(run.data.metrics)
    assert {"config.yaml", "model.txt", "weights"} <= {f.path for f in client.list_artifacts(run.info.run_id)}
    assert "hmha@c3k2" in parent.data.tags["mlflow.note.content"]
    assert "report/comparison.html" in {f.path for f in client.list_artifacts(parent.info.run_id, "report")}


def test_nothing_is_written_outside_multirun_and_the_cache(sweep: Done, folder: Path, home: Path) -> None:
    assert [path.name for path in folder.iterdir()] == ["multirun"]
    written = [p.relative_to(home).as_posix() for p in home.rglob("*") if p.is_file()]
    assert [p for p in written if not p.startswith((".cache/matplotlib", ".ipython", ".cache/torch"))] == []


def test_the_same_command_runs_nothing_and_prints_the_same_table(
    sweep: Done, folder: Path, ablate_warm: Ablate
) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.glob("multirun/trials/*/result.json")}

    again = ablate_warm("module=hmha", *TINY, "-m", "-v", cwd=folder)

    assert again.returncode == 0, again.stderr
    assert "2 trials, 2 done, 0 to run" in again.stdout
    assert again.stderr.count("finished, reused") == 2
    assert again.stdout.split("hmha_shapes")[-1] == sweep.stdout.split("hmha_shapes")[-1]
    assert {path: path.stat().st_mtime_ns for path in folder.glob("multirun/trials/*/result.json")} == before
    assert len(mlflow_runs(folder)) == 3


def test_a_wider_sweep_reuses_what_is_there(sweep: Done, folder: Path, ablate_warm: Ablate) -> None:
    planned = ablate_warm("plan", "module=hmha,sta", *TINY, "--json", cwd=folder)

    plan = json.loads(planned.stdout)
    states = {trial["trial"]: trial["state"] for trial in plan["trials"]}
    assert states.pop("sta@head musgd s0") == "run"
    assert set(states.values()) == {"reuse"}
    assert all(trial["gflops"] > 0 for trial in plan["trials"])


def test_report_is_rebuilt_from_the_records_without_torch(sweep: Done, folder: Path) -> None:
    directory = the_sweep(folder)
    expected = (directory / "comparison.csv").read_text(encoding="utf-8")
    (directory / "comparison.csv").unlink()
    run = "import sys; from ablate.__main__ import main; code = main(['report']); "
    code = run + "print({'torch'} & set(sys.modules)); sys.exit(code)"

    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("set()")
    assert (directory / "comparison.csv").read_text(encoding="utf-8") == expected


def test_status_tells_what_is_done(sweep: Done, folder: Path, ablate_warm: Ablate) -> None:
    done = ablate_warm("status", "--json", cwd=folder)

    assert done.returncode == 0
    assert {trial["state"] for trial in json.loads(done.stdout)["trials"]} == {"done"}


def test_latency_can_be_measured_again(sweep: Done, folder: Path, ablate_warm: Ablate) -> None:
    done = ablate_warm("latency", "--json", cwd=folder)

    measured = json.loads(done.stdout)
    assert done.returncode == 0, done.stderr
    assert measured["protocol"]["batch"] == 1
    assert len(measured["variants"]) == 2
    assert [v["latency_ratio"] for v in measured["variants"] if v["variant"].startswith("baseline")] == [1.0]
