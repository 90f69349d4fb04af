"""Run the trials of a sweep: launch them, show and track each epoch as it appears on disk, record every failure."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Protocol

from rich.console import Console

from ablate.console import show_cursor
from ablate.errors import ConfigError
from ablate.execution.forecast import UNKNOWN, Forecast
from ablate.execution.launch import Launch
from ablate.execution.reconcile import Job
from ablate.execution.run_trial import RUN, record_failure
from ablate.execution.trial_job import TrialJob, TrialOutcome
from ablate.launching.jobs import Observer, Outcome
from ablate.monitor.attempt import Item
from ablate.monitor.live import Live
from ablate.monitor.time_left import Announcer
from ablate.records.loading import DamagedRecordError, load_record
from ablate.records.trial_record import FINISHED, Failure, TrialRecord
from ablate.settings.metric import METRICS
from ablate.storage.files import file_state
from ablate.study.trial import Trial
from ablate.tracking.store import Store
from ablate.tracking.tracker import Tracker

logger = logging.getLogger(__name__)


class Queue(Protocol):
    """Decides while trials run which further ones do."""

    def ended(self, trial: Trial) -> Sequence[Job]:
        """Return the trials to add after this one has ended."""

    def is_due(self, trial: Trial) -> bool:
        """Tell whether a trial that waits is still to run."""


def run_trials(
    jobs: Sequence[Job],
    launch: Launch,
    tracker: Tracker,
    parent: str | None,
    console: Console,
    done: int = 0,
    forecast: Forecast = UNKNOWN,
    queue: Queue | None = None,
) -> None:
    """Run trials.

    Args:
        jobs: What runs.
        launch: Where it runs.
        tracker: Gets epochs and results.
        parent: The sweep's MLflow run.
        console: Where to show it.
        done: How many trials of the sweep have finished before.
        forecast: The expected time of the trials.
        queue: Decides which further trials run; None where all are known.

    Raises:
        ConfigError: The output folder was moved or deleted.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the trials that ran are marked as stopped.
    """
    device = jobs[0].trial.settings.device
    items = [_item(job, forecast) for job in jobs]
    announcer = Announcer(forecast.total, rough=forecast.rough)
    metric = METRICS[jobs[0].trial.settings.command.metric]
    live = Live(console, items, done, launch.slots(device), announcer=announcer, why=forecast.why, metric=metric)
    with live, _terminable():
        observer = _TrialObserver(jobs, live, tracker, parent, queue, forecast)
        try:
            launch.run(RUN, observer.payloads, device, observer.callbacks())
        except KeyboardInterrupt:
            observer.stopped()
            tracker.settle()
            raise


def _item(job: Job, forecast: Forecast) -> Item:
    identity = job.trial.identity
    return Item(
        identity.name,
        identity.signature,
        job.trial.folder,
        job.trial.settings.train.epochs,
        size=forecast.sizes.get(identity.variant_key, 1.0),
        expected=forecast.seconds.get(identity.signature),
    )


class _TrialObserver:
    """Shows and tracks the trials of a sweep while their jobs run."""

    def __init__(
        self,
        jobs: Sequence[Job],
        live: Live,
        tracker: Tracker,
        parent: str | None,
        queue: Queue | None,
        forecast: Forecast,
    ) -> None:
        self.payloads: list[TrialJob | None] = [job.for_worker() for job in jobs]
        self._jobs = list(jobs)
        self._queue = queue
        self._forecast = forecast
        self._live = live
        self._tracker = tracker
        self._parent = parent
        self._begun: set[int] = set()  # trials whose epochs were sent to MLflow
        self._tried: set[int] = set()
        self._root = jobs[0].trial.files.root.path
        self._root_state = file_state(self._root)

    def callbacks(self) -> Observer:
        return Observer(
            start=self._start,
            poll=self._poll,
            end=self._end,
            retry=self._retry,
            busy=self._busy,
            renew=self._live.renew,
            transient=_transient,
            is_due=lambda index: self.payloads[index] is not None,
        )

    def stopped(self) -> None:
        """Mark every trial that ran as stopped."""
        for index in self._begun:
            self._tracker.submit(Store.stop, self._jobs[index].trial.folder)

    def _start(self, index: int, slot: str) -> None:
        self._check_root()
        job = self._jobs[index]
        done = job.trial.epochs_done() if index in self._tried else job.epochs_done
        self._tried.add(index)
        logger.info("%s starts on %s, %d epochs are done", job.trial.identity.name, slot, done)
        self._live.start(index, slot, done)

    def _poll(self, index: int) -> None:
        self._check_root()
        self._drop_what_is_not_due()
        trial, rows = self._jobs[index].trial, self._live.poll(index)
        if rows:
            self._begun.add(index)
            self._tracker.submit(Store.follow, trial.folder, trial.header(), self._parent, rows)

    def _busy(self, index: int) -> None:
        self._check_root()  # a worker that finds its lock gone says that the trial is another's
        self._live.busy(index)

    def _check_root(self) -> None:
        """Raise ConfigError where the output folder is no longer there: results would go to another one of its name."""
        before, now = self._root_state, file_state(self._root)
        if before is not None and (now is None or now.inode != before.inode):
            raise ConfigError(
                f"root={self._root}: it was moved or deleted, so the sweep has stopped; put it back, or name its new "
                "place with root=, and repeat the command"
            )

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
        self.payloads[index] = None  # frees the memory of trials that have ended
        if self._queue is not None:
            further = self._queue.ended(trial)
            self._jobs += further
            self.payloads += [job.for_worker() for job in further]
            self._live.add([_item(job, self._forecast) for job in further])
            self._drop_what_is_not_due()

    def _drop_what_is_not_due(self) -> None:
        """Take trials out of the queue that need not run any more."""
        for index, job in enumerate(self._jobs) if self._queue is not None else ():
            if self.payloads[index] is None or index in self._tried:
                continue
            if self._queue is not None and not self._queue.is_due(job.trial):
                self.payloads[index] = None
                self._live.drop(index)

    def _retry(self, index: int, outcome: Outcome) -> None:
        failure = _failure_of(outcome)
        self._live.retry(index, outcome.message or (failure.message if failure else ""))
        job = self.payloads[index]
        if job is not None and not outcome.failure:  # it was recorded as failed: exactly this failure is tried again
            record = load_record(self._jobs[index].trial.folder)
            self.payloads[index] = replace(job, retry=len(record.tries))


def _transient(outcome: Outcome) -> bool:
    """Tell whether a trial may succeed when it is repeated: its process was killed, or the machine was at fault."""
    failure = _failure_of(outcome)
    return outcome.failure == "killed" or (failure is not None and failure.transient)


def _failure_of(outcome: Outcome) -> Failure | None:
    """Return the failure that a trial's worker has recorded, if any."""
    return outcome.result.failure if isinstance(outcome.result, TrialOutcome) else None


def _recorded(trial: Trial, outcome: Outcome) -> TrialRecord:
    """Return the record of a trial whose job has ended; write one if the job left none."""
    record = trial.record()
    if outcome.failure and (record is None or record.status != FINISHED):  # it may have died after recording
        record_failure(trial, outcome.failure, outcome.message)
    try:
        return load_record(trial.folder)
    except (FileNotFoundError, DamagedRecordError):
        record_failure(trial, "code", "its process left no record; repeat the command")
        return load_record(trial.folder)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the sweep as Ctrl-C does; a second signal ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    stopping = False

    def stop(number: int, frame: object) -> None:
        nonlocal stopping
        if stopping:
            show_cursor()
            os._exit(130)  # the workers notice that the driver is gone, and end
        stopping = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        if not stopping:  # else the end of the sweep stays interruptible too
            for number, handler in before.items():
                signal.signal(number, handler)
