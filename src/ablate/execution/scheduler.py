"""While trials run: launch them, show and track each epoch as it appears on disk, leave none without a record."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from ablate.console import show_cursor
from ablate.execution.forecast import UNKNOWN, Forecast
from ablate.execution.launch import Launch
from ablate.execution.reconcile import Job
from ablate.execution.run_trial import TrialOutcome, record_failure
from ablate.launching.jobs import Observer, Outcome
from ablate.monitor.attempt import Item
from ablate.monitor.live import Live
from ablate.monitor.time_left import Announcer
from ablate.records.loading import DamagedRecordError, load_record
from ablate.records.trial_record import FINISHED, Failure, TrialRecord
from ablate.study.trial import Trial
from ablate.tracking.store import Store
from ablate.tracking.tracker import Tracker

RUN = "ablate.execution.run_trial:run_job"

logger = logging.getLogger(__name__)


def run_trials(
    jobs: Sequence[Job],
    launch: Launch,
    tracker: Tracker,
    parent: str | None,
    console: Console,
    done: int = 0,
    forecast: Forecast = UNKNOWN,
) -> None:
    """Run trials.

    Args:
        jobs: What runs.
        launch: Where it runs.
        tracker: Hears of epochs and results.
        parent: The sweep's MLflow run.
        console: Where to show it.
        done: How many trials of the sweep were there before.
        forecast: What is known beforehand of the time that they take.

    Raises:
        KeyboardInterrupt: Ctrl-C or SIGTERM; the trials that ran are marked as stopped.
    """
    device = jobs[0].trial.settings.device
    items = [
        Item(
            job.trial.identity.name,
            job.trial.identity.signature,
            job.trial.folder,
            job.trial.settings.train.epochs,
            size=forecast.sizes.get(job.trial.identity.variant_key, 1.0),
            expected=forecast.seconds.get(job.trial.identity.signature),
        )
        for job in jobs
    ]
    announcer = Announcer(forecast.total, rough=forecast.rough)
    live = Live(console, items, done, launch.slots(device), announcer=announcer, why=forecast.why)
    with live, _terminable():
        observer = _TrialObserver(jobs, live, tracker, parent)
        try:
            launch.run(RUN, observer.payloads, device, observer.callbacks())
        except KeyboardInterrupt:
            observer.stopped()
            tracker.settle()
            raise


class _TrialObserver:
    """Shows and tracks the trials of a sweep while their jobs run."""

    def __init__(self, jobs: Sequence[Job], live: Live, tracker: Tracker, parent: str | None) -> None:
        self.payloads = [job.payload for job in jobs]
        self._jobs = jobs
        self._live = live
        self._tracker = tracker
        self._parent = parent
        self._begun: set[int] = set()  # of which MLflow has heard
        self._tried: set[int] = set()

    def callbacks(self) -> Observer:
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
            self._tracker.submit(Store.stop, folder)

    def _start(self, index: int, slot: str) -> None:
        job = self._jobs[index]
        done = job.trial.epochs_done() if index in self._tried else job.epochs_done
        self._tried.add(index)
        logger.info("%s starts on %s, %d epochs are done", job.trial.identity.name, slot, done)
        self._live.start(index, slot, done)

    def _poll(self, index: int) -> None:
        trial, rows = self._jobs[index].trial, self._live.poll(index)
        if rows:
            self._begun.add(index)
            self._tracker.submit(Store.follow, trial.folder, trial.header(), self._parent, rows)

    def _end(self, index: int, outcome: Outcome) -> None:
        trial = self._jobs[index].trial
        self._poll(index)
        self._begun.discard(index)
        try:
            failure = _recorded(trial, outcome).failure
        except OSError as error:  # such as a full disk: the trial counts as interrupted
            failure = Failure(type=outcome.failure or "code", message=f"its record cannot be written: {error}")
        words = f"{failure.type}: {failure.message}" if failure else None
        ended = f"failed: {words}" if failure else "done"
        logger.log(logging.WARNING if failure else logging.INFO, "%s %s", trial.identity.name, ended)
        self._live.end(index, words, trial.folder / failure.log if failure else None)
        if trial.files.result.is_file():
            self._tracker.submit(Store.publish, trial.folder, self._parent)
        self.payloads[index] = {}  # of a thousand trials, those that are over need no memory

    def _retry(self, index: int, outcome: Outcome) -> None:
        failure = _failure_of(outcome)
        self._live.retry(index, outcome.message or (failure.message if failure else ""))
        if not outcome.failure:  # it was recorded as failed; say that this very failure is tried again
            record = load_record(self._jobs[index].trial.folder)
            self.payloads[index] = {**self.payloads[index], "retry": len(record.tries)}


def _transient(outcome: Outcome) -> bool:
    """Tell whether a trial that ended so may go well next time: its process was killed, or the machine hiccuped."""
    failure = _failure_of(outcome)
    return outcome.failure == "killed" or (failure is not None and failure.transient)


def _failure_of(outcome: Outcome) -> Failure | None:
    """Return the failure that a trial has recorded; None where it has recorded none."""
    return outcome.result.failure if isinstance(outcome.result, TrialOutcome) else None


def _recorded(trial: Trial, outcome: Outcome) -> TrialRecord:
    """Return the record that a trial's job left; write one if it left none."""
    known = trial.record()
    if outcome.failure and (known is None or known.status != FINISHED):  # it may have died after its work was done
        record_failure(trial, outcome.failure, outcome.message)
    try:
        return load_record(trial.folder)
    except (FileNotFoundError, DamagedRecordError):
        record_failure(trial, "code", "its process left no record; repeat the command")
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
