"""Run jobs on the slots of a backend: one job a slot at a time, each in a process that may die.

Common to all backends: filling slots, polling, time limits, retries after a kill. A backend only starts a job on a
slot, stops it, and turns the exception with which it ended into an `Outcome`.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol

from ablate.redaction import without_secrets

LONGEST_WAIT = 30.0  # seconds before a busy job is submitted again; on a cluster each time is a submission
BUSY = "busy"  # returned by a job that another command runs now; it is submitted again later
STALE = "stale"  # returned by a job that needs a new process: this one imported code that has changed since

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Attributes:
        result: What the function returned, or None.
        failure: None, or ``killed`` (the process died), ``out_of_memory`` (it died of that), ``timeout``, or ``code``
            (an exception came out of it).
        message: One line about the failure.
    """

    result: Any = None
    failure: str | None = None
    message: str = ""

    def __str__(self) -> str:
        return f"{self.failure}: {self.message}" if self.failure else "done"


class Backend(Protocol):
    """Where jobs run. A context manager: leaving it ends every process, at once if an exception leaves it."""

    def __enter__(self) -> Backend: ...

    def __exit__(self, *exception: Any) -> None: ...

    def slots(self) -> Sequence[Hashable]:
        """Return the slots that there are now; each takes one job at a time, and its `str` names the device."""

    def submit(self, slot: Any, function: str, payload: Any) -> Future[Outcome]:
        """Start ``package.module:name`` with one argument on a slot (see `attempt`)."""

    def stop(self, slot: Any, future: Future[Outcome]) -> None:
        """End a running job, process and all."""

    def explain(self, error: BaseException) -> Outcome:
        """Return the outcome of a job that ended with this exception."""


@dataclass(frozen=True)
class Limits:
    """What a job may cost.

    Attributes:
        timeout: Seconds that one attempt may take, or None.
        max_retries: How often a job is tried again after its process died, or after what `Observer.transient` names.
        stagger: Seconds between the first starts of two slots, so that they do not all load torch in one moment.
    """

    timeout: float | None = None
    max_retries: int = 1
    stagger: float = 0.0


@dataclass(frozen=True)
class Observer:
    """Callbacks for job events, by the job's index.

    Attributes:
        start: An attempt starts on the slot of this name.
        poll: A job is still running; called every `interval` seconds.
        end: A job has ended for good.
        retry: A job failed with a transient outcome; it will be tried again.
        busy: Another command runs this job; it will be submitted again.
        renew: A job needs a new process and will be submitted again; nothing was tried.
        transient: Whether a job that ended so is worth another attempt.
        is_due: Whether a job that waits is still to be run.
        interval: Seconds between polls.
    """

    start: Callable[[int, str], None] = lambda index, slot: None
    poll: Callable[[int], None] = lambda index: None
    end: Callable[[int, Outcome], None] = lambda index, outcome: None
    retry: Callable[[int, Outcome], None] = lambda index, outcome: None
    busy: Callable[[int], None] = lambda index: None
    renew: Callable[[int], None] = lambda index: None
    transient: Callable[[Outcome], bool] = lambda outcome: outcome.failure == "killed"
    is_due: Callable[[int], bool] = lambda index: True
    interval: float = 0.5


@dataclass
class _Running:
    index: int
    slot: Any
    started: float


@dataclass
class _Queue:
    """The jobs that wait, and how often each has been tried."""

    waiting: deque[int]
    later: list[tuple[float, int]] = field(default_factory=list)
    tries: dict[int, int] = field(default_factory=dict)
    busy: dict[int, int] = field(default_factory=dict)  # how often a job was busy
    renewed: set[int] = field(default_factory=set)  # jobs that were given a new process

    def next(self) -> int | None:
        now = time.monotonic()
        for entry in self.later:
            if entry[0] <= now:
                self.later.remove(entry)
                return entry[1]
        return self.waiting.popleft() if self.waiting else None

    def __bool__(self) -> bool:
        return bool(self.waiting or self.later)


def run_jobs(
    backend: Backend,
    function: str,
    payloads: Sequence[Any],
    observer: Observer | None = None,
    limits: Limits = Limits(),
) -> list[Outcome]:
    """Call a function with each payload, as many at a time as the backend has slots.

    Args:
        backend: Where the jobs run.
        function: ``package.module:name`` of a function of one argument; imported where the job runs.
        payloads: Picklable arguments. Those that the observer appends while jobs run are run too.
        observer: What to call meanwhile.
        limits: Time limit and tries of each job.

    Returns:
        An outcome each, in the order of the payloads.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after the processes are stopped.
    """
    observer = observer or Observer()
    queue = _Queue(deque(range(len(payloads))))
    outcomes: list[Outcome] = [Outcome()] * len(payloads)
    running: dict[Future[Outcome], _Running] = {}
    warm: set[Any] = set()
    last_start = -limits.stagger
    with backend:
        while queue or running:
            queue.waiting = deque(job for job in queue.waiting if observer.is_due(job))
            taken = {job.slot for job in running.values()}
            for slot in [slot for slot in backend.slots() if slot not in taken]:
                if slot not in warm and time.monotonic() - last_start < limits.stagger:
                    break
                index = queue.next()
                if index is None:
                    break
                logger.debug("%s: job %d starts on %s", function, index, slot)
                observer.start(index, str(slot))
                if slot not in warm:
                    warm.add(slot)
                    last_start = time.monotonic()
                future = backend.submit(slot, function, payloads[index])
                running[future] = _Running(index, slot, time.monotonic())
            for future in _ended(running, observer.interval):
                job = running.pop(future)
                outcome = _outcome(backend, future)
                seconds = time.monotonic() - job.started
                logger.debug("%s: job %d on %s ran %.1f s: %s", function, job.index, job.slot, seconds, outcome)
                if outcome.result == STALE:
                    backend.stop(job.slot, future)  # the next job on this slot gets a new process
                _requeue_or_end(job.index, outcome, outcomes, queue, observer, limits)
            for future, job in list(running.items()):
                observer.poll(job.index)
                if limits.timeout is not None and time.monotonic() - job.started > limits.timeout:
                    backend.stop(job.slot, future)
                    del running[future]
                    message = f"it took longer than its limit of {limits.timeout:g} seconds"
                    outcome = Outcome(failure="timeout", message=message)
                    _requeue_or_end(job.index, outcome, outcomes, queue, observer, limits)
            appended = range(len(outcomes), len(payloads))
            queue.waiting.extend(appended)
            outcomes += [Outcome()] * len(appended)
    return outcomes


def call(function: str, payload: Any) -> Any:
    """Import a function by name and call it (runs where the job runs)."""
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)(payload)


def attempt(function: str, payload: Any) -> Outcome:
    """Run a job and return how it ended; an exception as text, because its class may not unpickle in the driver."""
    try:
        return Outcome(result=call(function, payload))
    except Exception as error:
        return exception_outcome(error)


def exception_outcome(error: BaseException) -> Outcome:
    """Return the outcome of a job that raised an exception."""
    return Outcome(failure="code", message=without_secrets(f"{type(error).__name__}: {' '.join(str(error).split())}"))


def _ended(running: dict[Future[Outcome], _Running], interval: float) -> list[Future[Outcome]]:
    if not running:
        time.sleep(interval)
        return []
    return list(wait(running, timeout=interval, return_when=FIRST_COMPLETED).done)


def _outcome(backend: Backend, future: Future[Outcome]) -> Outcome:
    error: BaseException | None
    try:
        error = future.exception()  # not raised: a SystemExit of the user's code would end the driver silently
    except CancelledError as cancelled:
        error = cancelled
    return future.result() if error is None else backend.explain(error)


def _requeue_or_end(
    index: int, outcome: Outcome, outcomes: list[Outcome], queue: _Queue, observer: Observer, limits: Limits
) -> None:
    """Put a job back into the queue, or store its outcome."""
    if outcome.result == BUSY:
        count = queue.busy[index] = queue.busy.get(index, 0) + 1
        queue.later.append((time.monotonic() + min(2 * observer.interval * 2**count, LONGEST_WAIT), index))
        logger.info("job %d: another command runs it; submitted %d times so far", index, count)
        observer.busy(index)
    elif outcome.result == STALE and index not in queue.renewed:
        queue.renewed.add(index)
        queue.waiting.appendleft(index)
        logger.info("job %d: gets a new process, this one has imported code that has changed since", index)
        observer.renew(index)
    elif observer.transient(outcome) and queue.tries.get(index, 0) < limits.max_retries:
        queue.tries[index] = queue.tries.get(index, 0) + 1
        queue.renewed.discard(index)  # the next try may be given to another old process
        queue.waiting.appendleft(index)
        logger.info("job %d: attempt %d failed (%s); tried again", index, queue.tries[index], outcome)
        observer.retry(index, outcome)
    else:
        if outcome.result == STALE:
            outcome = Outcome(failure="code", message="a new process, too, has other code than the files on disk")
        if outcome.failure:
            logger.warning("job %d failed for good: %s", index, outcome)
        outcomes[index] = outcome
        observer.end(index, outcome)
