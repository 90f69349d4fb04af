"""Progress files of a running training: a row for each epoch, and the position within the current one."""

from __future__ import annotations

import contextlib
import json
import statistics
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ablate.records.metrics import EpochRow
from ablate.storage.confined import read_plain
from ablate.storage.files import atomic_write_text
from ablate.storage.json_text import parse_json
from ablate.storage.layout import TrainingFolder

PACE = 1.0  # seconds between two notes of progress


class Journal:
    """Writes history.jsonl and progress.json in a training's folder.

    Args:
        folder: The training's folder.

    Attributes:
        rows: One for each epoch so far. A row belongs to its epoch's checkpoint; it reaches the disk after that.
    """

    def __init__(self, folder: Path) -> None:
        self.rows: list[EpochRow] = []
        self._files = TrainingFolder(folder)
        self._noted = -PACE

    def settle(self, rows: Iterable[EpochRow]) -> None:
        """Write all rows, and remove progress.json: no epoch is in progress."""
        self.rows = list(rows)
        self._files.progress.unlink(missing_ok=True)
        if self.rows:
            atomic_write_text(self._files.history, "".join(map(_line, self.rows)))
        else:
            self._files.history.unlink(missing_ok=True)

    def write_last(self) -> None:
        """Append the newest row to history.jsonl."""
        with self._files.history.open("a", encoding="utf-8") as file:
            file.write(_line(self.rows[-1]))

    def tell(self, **progress: int) -> None:
        """Replace progress.json, at most once a second; it is only displayed, so an error of the disk is ignored."""
        now = time.monotonic()
        if now - self._noted < PACE:
            return
        self._noted = now
        draft = self._files.progress_draft
        with contextlib.suppress(OSError):
            draft.write_text(json.dumps({**progress, "time": time.time()}), encoding="utf-8")
            draft.replace(self._files.progress)


def best_epoch(rows: Sequence[EpochRow]) -> int | None:
    """Return the epoch whose checkpoint is best.pt: the last one of the greatest fitness; None before any epoch."""
    best = max(reversed(rows), key=lambda row: row.fitness or 0.0, default=None)
    return None if best is None else best.epoch


def accuracy(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return Ultralytics' detection metrics under this project's names (fractions, 0 to 1)."""
    names = {
        "map50_95": "metrics/mAP50-95(B)",
        "map50": "metrics/mAP50(B)",
        "precision": "metrics/precision(B)",
        "recall": "metrics/recall(B)",
    }
    return {name: float(metrics[key]) for name, key in names.items() if key in metrics}


def _line(row: EpochRow) -> str:
    return json.dumps(row.content) + "\n"


def history(files: TrainingFolder) -> tuple[EpochRow, ...]:
    """Return the epochs that a training has logged; a last line that was cut off is left out."""
    rows = []
    try:
        text = read_plain(files.history).decode(errors="replace")
    except OSError:
        return ()
    for line in text.splitlines():
        try:
            rows.append(EpochRow(parse_json(line)))
        except (ValueError, TypeError, AttributeError):
            break
    return tuple(rows)


def seconds_per_epoch(epochs: Sequence[EpochRow]) -> float:
    """Return the median over the epochs, without the first one, which also warms up, where there are others."""
    return statistics.median([row.seconds or 0.0 for row in epochs[1:] or epochs])
