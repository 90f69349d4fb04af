"""The same sweep through every launcher: the same records; and seeds that are added until variants are decided."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.analysis.comparison import compare
from ablate.records.loading import load_sweep

pytestmark = pytest.mark.slow  # three sweeps, two of them through Ray and Submitit

TINY = [
    "module=sta",
    "train=smoke",
    "train.fraction=1.0",
    "train.epochs=2",
    "data.train_images=8",
    "data.val_images=4",
    "data.imgsz=64",
    "latency.enabled=false",
    "notebook=false",
    "baseline=true",
    "-m",
]
TIMES = {
    "time", "seconds", "started", "finished", "tries", "train_minutes", "seconds_per_epoch", "peak_memory_gb", "root",
}  # fmt: skip
LAUNCHERS = {
    "local": [],
    "ray": ["hydra/launcher=ray", "hydra.launcher.num_cpus=1"],
    "slurm": ["hydra/launcher=slurm_local", "hydra.launcher.cpus_per_task=1"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("launchers")


def records(folder: Path, launcher: str) -> dict[str, Any]:
    """Run the sweep; return its records by name, without what another clock would tell otherwise."""
    done = subprocess.run(
        [sys.executable, "-m", "ablate", *TINY, *LAUNCHERS[launcher], f"root={launcher}"],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"{launcher}/trials/*/result.json")]
    return {record["name"]: without_times(record) for record in found}


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.fixture(scope="module")
def local(folder: Path) -> dict[str, Any]:
    return records(folder, "local")


@pytest.mark.parametrize(("launcher", "package"), [("ray", "ray"), ("slurm", "submitit")])
def test_the_records_are_those_of_the_local_launcher(
    launcher: str, package: str, folder: Path, local: dict[str, Any]
) -> None:
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed: pip install 'ablate-yolo[{launcher}]'")

    there = records(folder, launcher)

    assert sorted(there) == ["baseline musgd s0", "sta@head musgd s0"]
    assert there == local


PLANTED = """
import sys
from ablate.execution import scheduler
scheduler.RUN = "simulated.planted_trainer:run_job"  # real processes of the launcher, which train nothing
from ablate.__main__ import main
sys.exit(main())
"""
DECIDED = [
    "module=acmix,sta", "until=decided", "delta=0.02", "controls=[identity]", "train=smoke", "data.train_images=8",
    "data.val_images=4", "data.imgsz=64", "latency.enabled=false", "notebook=false",
    "figures=false", "device=cpu", "-m",
]  # fmt: skip
SEQUENTIAL = {**LAUNCHERS, "local": ["hydra.launcher.cpu_workers=2"], "fake slurm": ["hydra/launcher=slurm"]}


def decided(folder: Path, launcher: str, root: str, kill: str = "") -> dict[str, tuple[str, int]]:
    """Run a sweep whose seeds are added; return for each module its verdict and on how many seeds it rests."""
    repository = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PLANTED, *DECIDED, *SEQUENTIAL[launcher], f"root={root}"],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(repository), os.environ.get("PYTHONPATH", "")]),
            "ABLATE_PLANTED_KILL": kill,
        },
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (sweep,) = (folder / root / "sweeps").iterdir()
    comparison = compare(load_sweep(sweep))
    assert not comparison.sweep.missing
    return {
        row.module: (str(row.difference.verdict), len(row.difference.looks.differences))
        for row in comparison.rows
        if row.difference is not None and row.difference.looks is not None
    }


@pytest.fixture(scope="module")
def decided_locally(folder: Path) -> dict[str, tuple[str, int]]:
    found = decided(folder, "local", "decided-local")
    assert {module: verdict for module, (verdict, _) in found.items()} == {
        "acmix": "equivalent", "sta": "worse", "identity": "equivalent",
    }  # fmt: skip
    assert found["acmix"][1] > 4  # seeds were added more than once
    return found


@pytest.mark.parametrize("launcher", ["ray", "slurm"])
def test_seeds_are_added_by_every_launcher_and_decide_the_same(
    launcher: str, folder: Path, decided_locally: dict[str, tuple[str, int]]
) -> None:
    pytest.importorskip("ray" if launcher == "ray" else "submitit")
    assert decided(folder, launcher, f"decided-{launcher}") == decided_locally


def test_seeds_are_added_by_slurm(folder: Path, slurm: Path, decided_locally: dict[str, tuple[str, int]]) -> None:
    pytest.importorskip("submitit")
    assert decided(folder, "fake slurm", "decided-fake") == decided_locally
    assert len(list(slurm.glob("*.sh"))) >= 12  # a job for each trial


@pytest.mark.parametrize("launcher", ["local", "ray"])
@pytest.mark.parametrize("killed", ["sta@head musgd s1", "acmix@head musgd s4"])
def test_a_killed_worker_does_not_change_what_is_decided(
    launcher: str, killed: str, folder: Path, decided_locally: dict[str, tuple[str, int]]
) -> None:
    pytest.importorskip("ray" if launcher == "ray" else "ablate")
    root = f"killed-{launcher}-{killed[:3]}"
    assert decided(folder, launcher, root, kill=killed) == decided_locally
    assert (folder / root / "killed").exists()
