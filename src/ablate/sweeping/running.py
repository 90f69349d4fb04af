"""While trials run: launch them, show and track each epoch as it appears on disk, leave none without a record."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console

from ablate.launching.devices import Slot
from ablate.launching.jobs import Observer, Outcome
from ablate.sweeping.live import Item, Live, show_cursor
from ablate.sweeping.reconcile import Job
from ablate.sweeping.tracker import Tracker
from ablate.tracking.records import DamagedRecordError, load_record, value
from ablate.trial import Trial, record_failure, tries_of

RUN = "ablate.trial:run_job"


class Launch(Protocol):
    """How trials get to run: one of our launchers, or Hydra's of another project."""

    def check(self, device: str) -> None:
        """Raise an error of ours if trials cannot run on this device."""

    def slots(self, device: str) -> int:
        """Return how many trials run at a time."""

    def local_slots(self, device: str) -> Sequence[Slot]:
        """Return those of them that are on this machine."""

    def run(self, function: str, payloads: Sequence[Any], device: str, observer: Observer) -> None:
        """Run ``package.module:name`` with each payload until each has ended; the observer hears of it."""


def run_jobs(
    jobs: Sequence[Job], launch: Launch, tracker: Tracker, parent: str | None, console: Console, done: int = 0
) -> None:
    """Run trials.

    Args:
        jobs: What runs.
        launch: Where it runs.
        tracker: Hears of epochs and results.
        parent: The sweep's MLflow run.
        console: Where to show it.
        done: How many trials of the sweep were there before.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the trials that ran are marked as stopped.
    """
    device = str(jobs[0].trial.config["device"])
    items = [
        Item(j.trial.identity.name, j.trial.identity.signature, j.trial.folder, int(j.trial.config["train"]["epochs"]))
        for j in jobs
    ]
    with Live(console, items, done, launch.slots(device)) as live, _terminable():
        watch = _Watch(jobs, live, tracker, parent)
        try:
            launch.run(RUN, watch.payloads, device, watch.observer())
        except KeyboardInterrupt:
            watch.stopped()
            tracker.settle()
            raise


class _Watch:
    """The observer of a sweep's jobs."""

    def __init__(self, jobs: Sequence[Job], live: Live, tracker: Tracker, parent: str | None) -> None:
        self.payloads = [job.payload for job in jobs]
        self._jobs = jobs
        self._live = live
        self._tracker = tracker
        self._parent = parent
        self._begun: set[int] = set()  # of which MLflow has heard
        self._tried: set[int] = set()

    def observer(self) -> Observer:
        return Observer(
            start=self._start,
            poll=self._poll,
            end=self._end,
            retry=self._retry,
            busy=self._live.busy,
            renew=self._live.renew,
            transient=_transient,
        )

    def stopped(self) -> None:
        """Say of every trial that ran that it was stopped."""
        folders = [self._jobs[index].trial.folder for index in self._begun]
        for folder in folders:
            self._tracker.submit("stop", folder)

    def _start(self, index: int, slot: str) -> None:
        job = self._jobs[index]
        done = job.trial.epochs_done() if index in self._tried else job.epochs_done
        self._tried.add(index)
        self._live.start(index, slot, done)

    def _poll(self, index: int) -> None:
        trial, rows = self._jobs[index].trial, self._live.poll(index)
        if rows:
            self._begun.add(index)
            self._tracker.submit("follow", trial.folder, trial.header(), self._parent, rows)

    def _end(self, index: int, outcome: Outcome) -> None:
        trial = self._jobs[index].trial
        self._poll(index)
        self._begun.discard(index)
        try:
            failure = _recorded(trial, outcome).get("failure")
        except OSError as error:  # such as a full disk: the trial counts as interrupted
            failure = {"type": outcome.failure or "code", "message": f"its record cannot be written: {error}"}
        log = trial.folder / str(failure.get("log", "train.log")) if failure else None
        self._live.end(index, failure and f"{failure['type']}: {failure['message']}", log)
        if (trial.folder / "result.json").is_file():
            self._tracker.submit("publish", trial.folder, self._parent)
        self.payloads[index] = {}  # of a thousand trials, those that are over need no memory

    def _retry(self, index: int, outcome: Outcome) -> None:
        self._live.retry(index, outcome.message or str(value(outcome.result, "failure", "message")))
        if not outcome.failure:  # it was recorded as failed; say that this very failure is tried again
            record = load_record(self._jobs[index].trial.folder)
            self.payloads[index] = {**self.payloads[index], "retry": tries_of(record)}


def _transient(outcome: Outcome) -> bool:
    """Tell whether a trial that ended so may go well next time: its process was killed, or the machine hiccuped."""
    return outcome.failure == "killed" or bool(value(outcome.result, "failure", "transient"))


def _recorded(trial: Trial, outcome: Outcome) -> Mapping[str, Any]:
    """Return the record that a trial's job left; write one if it left none."""
    known = trial.record()
    if outcome.failure and (known is None or known["status"] != "finished"):  # it may have died after its work was done
        record_failure(trial, outcome.failure, outcome.message)
    try:
        return load_record(trial.folder)
    except (FileNotFoundError, DamagedRecordError):
        record_failure(trial, "code", "its module, data or weights changed while the sweep ran; repeat the command")
        return load_record(trial.folder)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the sweep as Ctrl-C does; a second Ctrl-C ends it without any ceremony."""
    import os
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    asked = False

    def stop(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            show_cursor()
            os._exit(130)  # the workers see that the driver is gone, and go too
        asked = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if not asked:  # else the closing words must stay interruptible too
            for number, handler in before.items():
                signal.signal(number, handler)
