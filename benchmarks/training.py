"""How fast YOLO26n trains with each module, in its fused and its plain form, and without any.

    python benchmarks/training.py [--steps 50] [--only acmix,sta] [--device cpu] [--imgsz 320] [--batch 16] [--again]

Each row is a training of its own process, through ablate's trainer on the built-in data: steps a second, peak memory.
The plain forms (`verifying/reference`) are what any user's module is to ablate: an importable class. A row that is in
results/training.jsonl already, from the same sources with the same settings, is not trained again unless --again: an
interrupted run goes on. `python benchmarks/modules.py --page` writes the rows into docs/speed.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import redirect_stdout, suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import common
from instructions import instruction_set
from module_forms import MODULES, source_hash, target
from speed_page import BEFORE

WARMUP = 5  # steps before any is measured: memory is allocated, kernels are chosen
SAME = (
    "instructions",
    "module",
    "form",
    "steps",
    "imgsz",
    "batch",
    "device",
    "threads",
    "source",
    "cpu",
    "torch",
    "ultralytics",
)


def main() -> None:
    """Train, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50, help=f"the first {WARMUP} are not timed")
    parser.add_argument("--only", default=",".join(("none", *MODULES)), help="modules, with commas between; and none")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--again", action="store_true", help="train rows anew that are there already")
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="folder of the results")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.train:
        train(asked.train, json.loads((asked.train / "asked.json").read_text(encoding="utf-8")))
        return
    if asked.steps <= WARMUP + 1:
        parser.error(f"--steps must be more than {WARMUP + 1}")
    common.RESULTS = asked.results
    for module in asked.only.split(","):
        for form in ("stock",) if module == "none" else ("fused", "plain"):
            row = _row(asked, module, form)
            if not asked.again and known(row, asked.results / "training.jsonl"):
                print(f"{module} {form}: known", flush=True)
                continue
            found = _trained(asked, row)
            with redirect_stdout(io.StringIO()):
                common.keep("training", {**row, **found})
            print(
                f"{module} {form}: {found['steps_per_second']:.3f} steps a second, {found['peak_gb']:.2f} GB",
                flush=True,
            )


def known(row: dict[str, Any], results: Path) -> bool:
    """Tell whether a row is kept already, from the same sources and packages on the same kind of machine."""
    from importlib.metadata import version

    wanted = {"cpu": common._cpu(), **{name: version(name) for name in ("torch", "ultralytics")}, **row}
    wanted["instructions"] = instruction_set()
    lines = results.read_text(encoding="utf-8").splitlines() if results.is_file() else []
    return any(all({**BEFORE, **kept}[name] == wanted[name] for name in SAME) for kept in map(json.loads, lines))


def overrides(row: dict[str, Any]) -> list[str]:
    """Return what a user would write for this training: one epoch that is long enough."""
    module = row["module"]
    words = [f"module={module}", "train=demo", "train.epochs=1", f"train.imgsz={row['imgsz']}"]
    words += [f"train.batch={row['batch']}", f"train.nbs={row['batch']}", "data.val_images=16", "train.plots=false"]
    words += [f"data.train_images={row['steps'] * row['batch']}", f"device={'0' if row['device'] == 'cuda' else 'cpu'}"]
    return words + ([f"module._target_={target(module, plain=True)}"] if row["form"] == "plain" else [])


def train(folder: Path, row: dict[str, Any]) -> None:
    """Train as far as asked, in this process, and write down what it took."""
    from ablate.settings.environment import prepare

    prepare()
    from hydra import compose, initialize_config_dir
    from hydra.core.config_store import ConfigStore

    from ablate.cli.hydra_bridge import plain
    from ablate.measuring.memory import PeakMemory
    from ablate.settings.schema import conf_dir, schema_node
    from ablate.settings.trial_settings import TrialSettings
    from ablate.study.trial import Trial
    from ablate.training.trainer import AblateTrainer
    from ablate.training.trainer_arguments import trainer_arguments

    ConfigStore.instance().store(name="ablate", node=schema_node())
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        composed = compose("config", overrides=overrides(row), return_hydra_config=True)
        trial = Trial.of(TrialSettings.from_plain(plain(composed)))
    trainer = AblateTrainer(overrides=trainer_arguments(trial.settings, trial.data, folder))
    memory = PeakMemory(cuda=trainer.device.type == "cuda")
    watch = _Watch(trainer, row["steps"])
    with suppress(_Enough):
        trainer.train()
    seconds = [end - start for start, end in pairwise(watch.ends)][WARMUP:]
    found = {
        "warmup": WARMUP,
        "steps_per_second": 1 / median(seconds),
        "seconds": [round(second, 4) for second in seconds],
        "peak_gb": memory.gigabytes(),
        "loss": watch.loss,
        "device_name": watch.device_name,
    }
    (folder / "found.json").write_text(json.dumps(found), encoding="utf-8")


class _Enough(Exception):
    """All steps are made."""


class _Watch:
    """Notes when each step of a trainer ended, and ends the training."""

    def __init__(self, trainer: Any, steps: int) -> None:
        self.ends: list[float] = []
        self.loss: dict[str, float] = {}  # means over the steps
        self.device_name: str | None = None
        self._steps = steps
        trainer.add_callback("on_train_epoch_start", self._note)
        trainer.add_callback("on_train_batch_end", self._note)

    def _note(self, trainer: Any) -> None:
        import torch

        if trainer.device.type == "cuda":
            torch.cuda.synchronize(trainer.device)
            self.device_name = torch.cuda.get_device_name(trainer.device)
        self.ends.append(time.perf_counter())
        if len(self.ends) > self._steps:
            self.loss = {name: round(float(value), 5) for name, value in trainer.tloss.items()}
            raise _Enough


def _row(asked: argparse.Namespace, module: str, form: str) -> dict[str, Any]:
    """Return what makes a row this row."""
    return {
        "module": module,
        "form": form,
        "steps": asked.steps,
        "imgsz": asked.imgsz,
        "batch": asked.batch,
        "device": asked.device,
        "threads": asked.threads,
        "precision": "float32" if asked.device == "cpu" else "amp float16",  # Ultralytics' own choice
        "source": None if module == "none" else source_hash(module),
    }


def _trained(asked: argparse.Namespace, row: dict[str, Any]) -> dict[str, Any]:
    """Train in a process of its own.

    Raises:
        RuntimeError: It failed.
    """
    folder = Path(tempfile.mkdtemp(prefix="ablate-bench-"))
    load = os.getloadavg()[0]
    try:
        (folder / "asked.json").write_text(json.dumps(row), encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": str(asked.threads), "PYTHONPATH": str(common.ROOT)}
        command = [sys.executable, __file__, "--train", str(folder)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder)
        if not (folder / "found.json").is_file():
            raise RuntimeError(f"{row['module']} {row['form']}:\n{(done.stdout + done.stderr)[-3000:]}")
        found = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    numbers = {"steps_per_second": round(found["steps_per_second"], 4), "peak_gb": round(found["peak_gb"], 3)}
    return {**found, **numbers, "load": round(load, 2), "authors": None, "clock": "wall"}


if __name__ == "__main__":
    main()
