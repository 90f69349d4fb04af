"""What the benchmarks share: the trainings that are compared, the machine, and results as JSON lines."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from instructions import instruction_set

HERE = Path(__file__).parent
ROOT = HERE.resolve().parent
sys.path.append(str(ROOT))  # for `simulated`, what benchmarks and tests share; this module is imported first
RESULTS = HERE / "results"


def overrides(images: int, epochs: int) -> list[str]:
    """Return ablate's overrides for short trainings of YOLO26n on the built-in data."""
    return [
        "train=smoke",
        "train.fraction=1.0",
        f"train.epochs={epochs}",
        "train.imgsz=128",
        "train.batch=16",
        "train.nbs=16",
        f"data.train_images={images}",
        "data.val_images=16",
        "latency.enabled=false",
    ]


def training_arguments(words: list[str], folder: Path) -> dict[str, Any]:
    """Return what the same trainings are called in plain Ultralytics, resolved by ablate itself."""
    code = (
        "import json, sys; from hydra import compose, initialize_config_dir; "
        "from hydra.core.config_store import ConfigStore; from ablate.cli.hydra_bridge import plain; "
        "from ablate.settings.schema import conf_dir, schema_node; from ablate.data.catalogue import resolve; "
        "from ablate.data.data_settings import DataSettings; "
        "ConfigStore.instance().store(name='ablate', node=schema_node()); "
        "context = initialize_config_dir(str(conf_dir()), version_base='1.3'); context.__enter__(); "
        "config = plain(compose('config', overrides=sys.argv[1:], return_hydra_config=True)); "
        "optimizer = config['optimizer']; optimizer['optimizer'] = optimizer.pop('name'); "
        "optimizer.pop('orthogonalise'); "
        "data = resolve(DataSettings.from_plain(config['data'])); "
        "print(json.dumps({**config['train'], **optimizer, 'data': str(data.yaml)}))"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    arguments: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {**arguments, "project": str(folder), "pretrained": False, "device": "cpu", "exist_ok": True}


def timed(command: list[str], folder: Path, **environment: str) -> float:
    """Run a command to its end; return the seconds it took.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "output.txt").open("ab") as output:
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, env={**os.environ, **environment}, stdout=output, stderr=output, check=True)
        return time.perf_counter() - started


def quiet_settings(folder: Path) -> dict[str, str]:
    """Return an environment in which Ultralytics keeps its settings in a folder, without MLflow and network."""
    settings = folder / "settings"
    settings.mkdir(parents=True, exist_ok=True)
    words = {**os.environ, "YOLO_CONFIG_DIR": str(settings), "YOLO_OFFLINE": "true"}
    code = "from ultralytics import settings; settings.update({'mlflow': False, 'sync': False, 'tensorboard': False})"
    subprocess.run([sys.executable, "-c", code], env=words, check=True, capture_output=True)
    return {"YOLO_CONFIG_DIR": str(settings), "YOLO_OFFLINE": "true"}


def keep(name: str, result: dict[str, Any]) -> None:
    """Append a result to `results/<name>.jsonl`, with the machine it was measured on, and print it."""
    entry = {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu(),
        "instructions": instruction_set(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        **{package: version(package) for package in ("torch", "ultralytics", "mlflow", "hydra-core")},
        **result,
    }
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")
    print(json.dumps(result, indent=1))


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
