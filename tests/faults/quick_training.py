"""Trials whose epochs train nothing; locks, tries, logs, records and all of the sweep around them are the real ones.

A copy of this file lies in the working folder of a command whose training is not what is tested.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import msgspec

from ablate.execution import run_trial
from ablate.execution.trial_job import TrialJob, TrialOutcome
from ablate.records.metrics import Metrics
from ablate.records.realised import Realised
from ablate.records.trial_record import Artifacts, Cost, TrialRecord
from ablate.training.history import history

FLAGS = Path(os.environ["ABLATE_TEST_FLAGS"])
HELD = 3  # the epoch in which the trial of a module waits while there is a file `slow`


def run_job(job: TrialJob) -> TrialOutcome | str:
    """Run a trial of a sweep; its process imports no torch."""
    return run_trial.run_job(job, train)


def train(trial: Any, inputs: Any, last: Path | None) -> TrialRecord:
    """Write down epochs, after those that are there already."""
    log = trial.folder / "train" / "history.jsonl"
    log.parent.mkdir(exist_ok=True)
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if last else []
    epochs = trial.settings.train.epochs
    for epoch in range(len(rows) + 1, epochs + 1):
        while epoch == HELD and trial.settings.grafts and (FLAGS / "slow").exists():
            time.sleep(0.05)
        row = {"epoch": epoch, "epochs": epochs, "time": time.time(), "seconds": 0.1, "map50_95": epoch / 100}
        rows.append(row | {"train/box_loss": 1.0 / epoch, "lr/pg0": 0.01})
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(rows[-1]) + "\n")
    print(f"{epochs} epochs completed in 0.000 hours.")
    return TrialRecord(
        **msgspec.structs.asdict(trial.header()),
        status="finished",
        failure=None,
        metrics=Metrics(map50_95=0.1, map50=0.2, precision=0.3, recall=0.4),
        history=history(trial.files.training),
        cost=Cost(params=2_400_000, gflops=1.0, train_minutes=0.1, peak_memory_gb=1.0),
        realised=Realised(batch=16, device="cpu", imgsz=64),
        artifacts=Artifacts(best="train/weights/best.pt", plots=()),
    )
