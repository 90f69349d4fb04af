"""A trainer that trains nothing and records everything: what remains is the cost of sweeping."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ablate.execution.trial_job import TrialJob, TrialOutcome

EPOCHS = 5


def run_job(job: TrialJob) -> TrialOutcome:
    """Write the history and the record of a trial, as a training leaves them; return how it ended."""
    from ablate.execution.trial_job import TrialOutcome
    from ablate.records.json_struct import to_json
    from ablate.records.loading import save_record
    from ablate.records.trial_record import decode_record
    from ablate.storage.files import atomic_write_json
    from ablate.storage.locking import lock
    from ablate.study.trial import Trial

    trial = Trial.of(job.settings, job.planned.trial.data if job.planned else None)
    files = trial.files
    with lock(files.lock, device="cpu"):
        now = time.time()
        row = {"time": now, "seconds": 1.0, "train/box_loss": 1.0, "map50_95": 0.1, "lr/pg0": 0.01}
        history = [{**row, "epoch": epoch + 1} for epoch in range(EPOCHS)]
        files.training.path.mkdir(parents=True, exist_ok=True)
        files.training.history.write_text("".join(json.dumps(entry) + "\n" for entry in history), encoding="utf-8")
        atomic_write_json(files.tries, {"tries": []})
        content = {
            **to_json(trial.header()),
            "status": "finished",
            "failure": None,
            "metrics": {"map50_95": 0.1 + trial.identity.seed / 1e4, "map50": 0.2, "precision": 0.3, "recall": 0.4},
            "history": history,
            "cost": {"params": 2_400_000, "gflops": 1.0, "train_minutes": 0.1, "peak_memory_gb": 1.0},
            "realised": {"batch": 16, "device": "cpu", "imgsz": 64},
            "artifacts": {"best": "train/weights/best.pt", "plots": []},
            "started": "2026-01-01T10:00:00+00:00",
            "finished": "2026-01-01T10:05:00+00:00",
        }
        record = decode_record(content)
        save_record(trial.folder, record)
    return TrialOutcome(record.signature, record.status, record.failure)
