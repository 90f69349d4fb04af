"""A trainer that trains nothing and records everything: what remains is the cost of sweeping."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

EPOCHS = 5


def run_job(job: Mapping[str, Any]) -> dict[str, Any]:
    """Write the history and the record of a trial, as a training leaves them."""
    from ablate.records.records import save_record
    from ablate.storage.files import atomic_write_json
    from ablate.storage.locking import lock
    from ablate.study.trial import Trial

    trial = Trial.of(job["settings"], job["data"])
    with lock(trial.lock, device="cpu"):
        now = time.time()
        row = {"epochs": EPOCHS, "time": now, "seconds": 1.0, "train/box_loss": 1.0, "map50_95": 0.1, "lr/pg0": 0.01}
        history = [{**row, "epoch": epoch + 1} for epoch in range(EPOCHS)]
        (trial.folder / "train").mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(entry) + "\n" for entry in history)
        Path(trial.folder / "train" / "history.jsonl").write_text(lines, encoding="utf-8")
        atomic_write_json(trial.folder / "tries.json", {"tries": []})
        record = {
            **trial.header(),
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
        save_record(trial.folder, record)
    return {key: record[key] for key in ("signature", "status", "failure")}
