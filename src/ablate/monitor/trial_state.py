"""How far each trial is, read from what it leaves on disk; cheap enough to be asked twice a second.

A trial that trains writes three files into its folder: `train/history.jsonl` (a row per finished epoch),
`train/progress.json` (where in the epoch it is) and, when all is over, `result.json`. Beside the folder lies its lock.
Any of them may be missing, old, cut off or of an earlier try; that costs what it would have told, and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from ablate.monitor.epoch_rows import HISTORY, Watch, whole
from ablate.records.records import (
    DamagedRecordError,
    Record,
    load_object,
    load_record,
    load_sweep,
    mapping,
    number,
    sequence,
    value,
)
from ablate.storage.locking import held

LOG = "train.log"
ENDED = ("done", "failed", "damaged")
LONGEST_REST = 600.0  # seconds that loading and the last evaluation may take before they count as an interruption


@dataclass(frozen=True)
class TrialState:
    """How far one trial is.

    Attributes:
        name: The trial for people.
        signature: Its identity.
        state: waiting, running, interrupted (its process is gone, it can go on), done, failed or damaged (its record
            cannot be read).
        epoch: Finished epochs.
        epochs: How many it trains, or None where that is not known yet.
        fraction: How much of the training is done, 0 to 1, within the epoch too.
        map50_95: That of the record for a trial that is done, else the best epoch so far; None before there is one.
        seconds_left: Of its training, estimated from its epochs; None where unknown.
        device: What it runs on, as its process or its record says.
        host: The machine of its process while it runs.
        pid: That process.
        minutes: What its epochs took so far.
        failure: ``{"type", "message", "log"}`` of a failed trial, the log as a path.
        why: Why it is in this state, in words, where there is something to say.
        ended: When its record was written, in seconds since 1970.
        seconds: What it took from start to end, as far as known.
    """

    name: str
    signature: str
    state: str = "waiting"
    epoch: int = 0
    epochs: int | None = None
    fraction: float = 0.0
    map50_95: float | None = None
    seconds_left: float | None = None
    device: str | None = None
    host: str | None = None
    pid: int | None = None
    minutes: float | None = None
    failure: dict[str, str] | None = None
    why: str = ""
    ended: float | None = None
    seconds: float | None = None


def trial_state(folder: Path, name: str = "?") -> TrialState:
    """Return the state of the trial of this folder; whatever is on disk, nothing is raised.

    A trial that is done stays done, whoever holds its lock. Any other whose lock is held by a living process is
    running, whatever record an earlier try has left.
    """
    try:
        record = load_record(folder)
    except FileNotFoundError:
        record = None
    except DamagedRecordError as error:
        record = {**error.salvaged, "status": "damaged", "why": f"result.json {error.reason}"}
    if record is not None and record.get("status") == "finished":
        return _recorded(folder, name, record)
    owner = held(folder.with_suffix(".lock"))
    if owner is not None:
        return _running(folder, name, owner)
    if record is not None:
        return _recorded(folder, name, record)
    if (folder / LOG).exists() or (folder / HISTORY).exists():
        watch = Watch(folder)
        watch.update()
        why = f"stopped after epoch {watch.epoch}" if watch.epoch else "stopped in its first epoch"
        return TrialState(name, folder.name, "interrupted", why=why, **_training(watch))
    return TrialState(name, folder.name)


class SweepStates:
    """The trials of a sweep, read again and again; a record that has not changed is read once.

    Args:
        directory: The sweep's folder.

    Raises:
        FileNotFoundError: It is not the folder of a sweep.
    """

    def __init__(self, directory: Path) -> None:
        self._sweep = load_head(directory)
        self._directory = directory.resolve()
        self._ended: dict[str, tuple[tuple[int, int], TrialState]] = {}

    @property
    def name(self) -> str:
        """The sweep's name."""
        return str(self._sweep.get("name") or self._directory.name)

    @property
    def command(self) -> str:
        """The command that repeats the sweep; empty where it is not known."""
        return str(self._sweep.get("command") or "")

    @property
    def controls(self) -> dict[str, str]:
        """What the trials that joined as controls are controls of, by signature."""
        entries = mapping(self._sweep, "controls").values()
        return {str(s): str(value(entry, "kind")) for entry in entries for s in sequence(entry, "signatures")}

    def folder(self, signature: str) -> Path:
        """Return a trial's folder."""
        return self._directory.parent.parent / "trials" / signature

    def read(self) -> list[TrialState]:
        """Return all trials as they are now, in the sweep's order; a named sweep may have grown meanwhile."""
        self._sweep = load_head(self._directory)
        names = mapping(self._sweep, "names")
        signatures = dict.fromkeys(str(item) for item in sequence(self._sweep, "signatures"))
        return [self._state(signature, str(names.get(signature, "?"))) for signature in signatures]

    def _state(self, signature: str, name: str) -> TrialState:
        folder = self.folder(signature)
        try:
            stat = (folder / "result.json").stat()
        except OSError:
            return trial_state(folder, name)
        stamp = (stat.st_mtime_ns, stat.st_size)
        known = self._ended.get(signature)
        if known is None or known[0] != stamp or (known[1].state != "done" and held(folder.with_suffix(".lock"))):
            known = (stamp, trial_state(folder, name))
            if known[1].state in ENDED:
                self._ended[signature] = known
        return known[1]


def load_head(directory: Path) -> Record:
    """Return what `sweep.json` says; where it is damaged, what can still be told from it.

    Raises:
        FileNotFoundError: The folder is not that of a sweep.
    """
    head = load_object(directory / "sweep.json")
    if sequence(head, "signatures"):
        return head
    sweep = load_sweep(directory)
    return {"name": sweep.name, "command": sweep.command, "signatures": sweep.signatures}


def _running(folder: Path, name: str, owner: Record) -> TrialState:
    watch = Watch(folder, after=number(owner, "since"))
    watch.update()
    host, pid = owner.get("host"), whole(owner, "pid")
    return TrialState(
        name,
        folder.name,
        "running",
        device=_text(owner.get("device")),
        host=_text(host),
        pid=pid,
        **_training(watch),
    )


def _training(watch: Watch) -> dict[str, Any]:
    return {
        "epoch": watch.epoch,
        "epochs": watch.epochs,
        "fraction": watch.fraction,
        "map50_95": watch.map50_95,
        "seconds_left": watch.seconds_left,
        "minutes": watch.seconds / 60,
        "seconds": watch.seconds,
    }


def _recorded(folder: Path, name: str, record: Record) -> TrialState:
    """Return the state of a trial that has a record."""
    history = [row for row in sequence(record, "history") if isinstance(row, dict)]
    trained = sum(number(row, "seconds") or 0.0 for row in history)
    best = [found for row in history if (found := number(row, "map50_95")) is not None]
    status = str(record.get("status"))
    state = {"finished": "done", "damaged": "damaged"}.get(status, "failed")
    accuracy = number(record, "metrics", "map50_95")
    failure = _failure(folder, record) if state == "failed" else None
    why = str(record.get("why", "")) if failure is None else f"{failure['type']}: {failure['message']}"
    epochs = whole(value(record, "config", "train"), "epochs")
    if number(record, "config", "train", "time") is not None:  # then it is the clock that says how many there are
        epochs = len(history) if state == "done" else None
    return TrialState(
        name=str(record.get("name") or name),
        signature=folder.name,
        state=state,
        epoch=len(history),
        epochs=epochs,
        fraction=1.0 if state == "done" else min(len(history) / epochs, 1.0) if epochs else 0.0,
        map50_95=accuracy if accuracy is not None else max(best, default=None),
        device=_text(value(record, "realised", "device")),
        minutes=trained / 60 if history else None,
        failure=failure,
        why=why,
        ended=_modified(folder / "result.json"),
        seconds=_taken(record, trained),
    )


def _failure(folder: Path, record: Record) -> dict[str, str]:
    failure = mapping(record, "failure")
    return {
        "type": str(failure.get("type") or "code"),
        "message": str(failure.get("message") or ""),
        "log": str(folder / str(failure.get("log") or LOG)),
    }


def _taken(record: Record, trained: float) -> float:
    """Return the seconds from start to end; only those of the epochs where the two may lie in different sessions."""
    try:
        ends = [datetime.fromisoformat(str(record[key])) for key in ("started", "finished")]
        whole = (ends[1] - ends[0]).total_seconds()
    except (KeyError, ValueError, TypeError):
        return trained
    return whole if trained <= whole <= trained + LONGEST_REST else trained


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None


def _text(found: object) -> str | None:
    return None if found is None else str(found)
