"""The same sweep through every launcher: the same records."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

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
