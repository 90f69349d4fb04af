"""Trial state from disk files; cheap enough to poll twice a second.

A trial that trains writes three files into its folder: `train/history.jsonl` (a row per finished epoch),
`train/progress.json` (the batch within the epoch) and, at the end, `result.json`. Beside the folder lies its lock.
Any of them may be missing, old, truncated or of an earlier attempt; then only its own content is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ablate.monitor.epoch_rows import TrialProgress
from ablate.records.loading import DamagedRecordError, load_manifest, load_record
from ablate.records.sweep_record import LONGEST_NAME, SweepManifest
from ablate.records.trial_record import FINISHED, Failure, Record, TrialRecord, damaged_trial
from ablate.safe_text import one_line
from ablate.settings.metric import MAP50_95, Metric
from ablate.storage.layout import SweepFolder, TrialFolder, located
from ablate.storage.locking import Owner, held

NOBODY = Owner()
ENDED = ("done", "failed", "damaged")
LONGEST_REST = 600.0  # seconds that loading and the last evaluation may take before they count as an interruption


@dataclass(frozen=True)
class TrialState:
    """How far one trial is.

    Attributes:
        name: The trial for people.
        signature: Its identity.
        state: waiting, running, interrupted (without a process, can be resumed), done, failed or damaged (its record
            cannot be read).
        epoch: Finished epochs.
        epochs: How many it trains, or None where that is not known yet.
        fraction: How much of the training is done, 0 to 1, within the epoch too.
        accuracy: By the metric; that of the record for a trial that is done, else of the best epoch so far. None before
            there is one.
        seconds_left: Of its training, estimated from its epochs; None where unknown.
        device: What it runs on, by its lock or its record.
        host: The machine of its process while it runs.
        pid: That process.
        minutes: What its epochs took so far.
        failure: Of a failed trial, the log as a path.
        why: Why it is in this state; empty where there is nothing to explain.
        ended: When its record was written, in seconds since 1970.
        seconds: What it took from start to end, as far as known.
        metric: The accuracy by which variants are compared.
    """

    name: str
    signature: str
    state: str = "waiting"
    epoch: int = 0
    epochs: int | None = None
    fraction: float = 0.0
    accuracy: float | None = None
    seconds_left: float | None = None
    device: str | None = None
    host: str | None = None
    pid: int | None = None
    minutes: float | None = None
    failure: Failure | None = None
    why: str = ""
    ended: float | None = None
    seconds: float | None = None
    metric: Metric = MAP50_95


def trial_state(folder: Path, name: str = "?", metric: Metric = MAP50_95) -> TrialState:
    """Return the state of the trial of this folder; whatever is on disk, nothing is raised.

    A trial that is done stays done, whoever holds its lock. Any other whose lock is held by a living process is
    running, whatever record an earlier attempt has left.
    """
    files = TrialFolder(folder)
    record: Record | None = None
    try:
        record = load_record(folder)
    except DamagedRecordError as error:
        record = damaged_trial(folder.name, error.reason, error.salvaged)
    except FileNotFoundError:
        pass
    if isinstance(record, TrialRecord) and record.status == FINISHED:
        return _recorded(folder, name, record, metric)
    owner = held(files.lock)
    if owner is not None:
        return _running(folder, name, owner, metric)
    if isinstance(record, TrialRecord):
        return _recorded(folder, name, record, metric)
    if record is not None:
        ended = _modified(files.result)
        why = record.failure.message
        return TrialState(record.name or name, folder.name, "damaged", why=why, ended=ended, metric=metric)
    if files.log.exists() or files.training.history.exists():
        progress = TrialProgress(folder, metric=metric)
        progress.update()
        why = f"stopped after epoch {progress.epoch}" if progress.epoch else "stopped in its first epoch"
        state = _unfinished(folder, name, "interrupted", progress, why=why)
        return replace(state, metric=metric)
    return TrialState(name, folder.name, metric=metric)


class SweepStates:
    """The trials of a sweep, read again and again; a record that has not changed is read once.

    Args:
        directory: The sweep's folder.

    Attributes:
        ignored: What of `sweep.json` could not be read, in words.

    Raises:
        FileNotFoundError: It is not the folder of a sweep.
    """

    def __init__(self, directory: Path) -> None:
        self._folder = SweepFolder(located(directory))
        self.ignored: list[str] = []
        self._manifest = self._read_manifest()
        self._ended: dict[str, tuple[tuple[int, int], TrialState]] = {}

    @property
    def name(self) -> str:
        """The sweep's name."""
        return one_line(self._manifest.name)[:LONGEST_NAME] or self._folder.path.name

    @property
    def command(self) -> str:
        """The command that repeats the sweep; empty where it is not known."""
        return one_line(self._manifest.command)

    @property
    def metric(self) -> Metric:
        """The accuracy by which its variants are compared."""
        return self._manifest.analysis.primary

    @property
    def is_sequential(self) -> bool:
        """Whether seeds are added until every variant is decided."""
        return self._manifest.analysis.until is not None

    @property
    def controls(self) -> dict[str, str]:
        """What the trials that joined as controls are controls of, by signature."""
        return {s: control.kind for control in self._manifest.controls.values() for s in control.signatures}

    def folder(self, signature: str) -> Path:
        """Return a trial's folder."""
        return self._folder.trial(signature).path

    def read(self) -> list[TrialState]:
        """Return all trials as they are now, in the sweep's order; a named sweep may have grown meanwhile."""
        self._manifest = self._read_manifest()
        names, controls = self._manifest.names, self.controls
        states = [self._state(signature, names.get(signature, "?")) for signature in self._manifest.signatures]
        return [
            replace(state, name=names[state.signature])  # a record has the name that its trial has anywhere
            if state.signature in controls and state.signature in names
            else state
            for state in states
        ]

    def _read_manifest(self) -> SweepManifest:
        self.ignored.clear()
        return load_manifest(self._folder, self.ignored)

    def _state(self, signature: str, name: str) -> TrialState:
        files = self._folder.trial(signature)
        folder = files.path
        try:
            stat = files.result.stat()
        except OSError:
            return trial_state(folder, name, self.metric)
        stamp = (stat.st_mtime_ns, stat.st_size)
        read, state = self._ended.get(signature, (None, None))
        if state is None or read != stamp or (state.state != "done" and held(files.lock)):
            state = trial_state(folder, name, self.metric)
            if state.state in ENDED:
                self._ended[signature] = (stamp, state)
        return state


def _running(folder: Path, name: str, owner: Owner, metric: Metric) -> TrialState:
    progress = TrialProgress(folder, after=owner.since, metric=metric)
    progress.update()
    return replace(_unfinished(folder, name, "running", progress, owner), metric=metric)


def _unfinished(
    folder: Path, name: str, state: str, progress: TrialProgress, owner: Owner = NOBODY, why: str = ""
) -> TrialState:
    return TrialState(
        name,
        folder.name,
        state,
        epoch=progress.epoch,
        epochs=progress.epochs,
        fraction=progress.fraction,
        accuracy=progress.accuracy,
        seconds_left=progress.seconds_left,
        device=owner.device,
        host=owner.host,
        pid=owner.pid,
        minutes=progress.seconds / 60,
        why=why,
        seconds=progress.seconds,
    )


def _recorded(folder: Path, name: str, record: TrialRecord, metric: Metric) -> TrialState:
    """Return the state of a trial that has a record."""
    trained = sum(row.seconds or 0.0 for row in record.history)
    evaluated = [row for row in record.history if row.map50_95 is not None]
    best = max(reversed(evaluated), key=lambda row: row.map50_95 or 0.0, default=None)
    state = "done" if record.status == FINISHED else "failed"
    accuracy = record.metrics.value(metric)
    failure = _failure(folder, record) if state == "failed" else None
    epochs = _planned_epochs(record)
    share = min(len(record.history) / epochs, 1.0) if epochs else 0.0
    return TrialState(
        name=record.name or name,
        signature=folder.name,
        state=state,
        epoch=len(record.history),
        epochs=epochs,
        fraction=1.0 if state == "done" else share,
        accuracy=best.value(metric) if accuracy is None and best is not None else accuracy,
        device=record.realised.device,
        minutes=trained / 60 if record.history else None,
        failure=failure,
        why=f"{failure.type}: {failure.message}" if failure else record.form and f"{record.form}: not in the report",
        ended=_modified(TrialFolder(folder).result),
        seconds=_taken(record, trained),
        metric=metric,
    )


def _failure(folder: Path, record: TrialRecord) -> Failure:
    failure = record.failure or Failure(type="code", message="")
    return Failure(type=failure.type, message=failure.message, log=str(folder / failure.log))


def _planned_epochs(record: TrialRecord) -> int | None:
    """Return the epochs that the configuration names; with a time limit those that it came to, None before that."""
    if record.setting("train", "time") is not None:
        return len(record.history) if record.status == FINISHED else None
    epochs = record.setting("train", "epochs")
    return epochs if isinstance(epochs, int) else None


def _taken(record: TrialRecord, trained: float) -> float:
    """Return the seconds from start to end; only those of the epochs where the two may lie in different sessions."""
    try:
        ends = [datetime.fromisoformat(str(moment)) for moment in (record.started, record.finished)]
        seconds = (ends[1] - ends[0]).total_seconds()
    except (ValueError, TypeError):
        return trained
    return seconds if trained <= seconds <= trained + LONGEST_REST else trained


def _modified(path: Path) -> float | None:
    try:
        return path.stat().st_mtime
    except OSError:
        return None
