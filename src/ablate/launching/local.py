"""Jobs on this machine: a pool of one worker process a slot, so that a crash costs one job and the slot comes back."""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablate.launching.devices import SLOT, Slot
from ablate.launching.jobs import Limits, Observer, Outcome, attempt, exception_outcome, run_jobs

TOO_LARGE = 77  # exit code of a worker that has grown beyond its limit
ONCE = Limits(max_retries=0)

logger = logging.getLogger(__name__)


class LocalBackend:
    """Worker processes of this machine.

    A worker is started when its slot is first used, stays warm between jobs, is replaced when it dies, and dies with
    the driver.

    Args:
        slots: Where jobs run, and with which environment.
        memory_gb: Resident memory that a worker with its children may use, or None.
    """

    def __init__(self, slots: Sequence[Slot], memory_gb: float | None = None) -> None:
        self._slots = list(slots)
        self._memory_gb = memory_gb
        self._pools: dict[Slot, Any] = {}
        self._workers: dict[Slot, Future[int]] = {}  # process ids; each leads a process group of its own
        self._kills = 0

    def __enter__(self) -> LocalBackend:
        self._kills = _kernel_kills()
        return self

    def __exit__(self, kind: Any, *rest: Any) -> None:
        for slot in list(self._pools) if kind is not None else []:
            self.stop(slot)
        for pool in self._pools.values():
            pool.close()
        for pool in self._pools.values():
            with suppress(TimeoutError):
                pool.join(timeout=10)
        self._pools.clear()

    def slots(self) -> list[Slot]:
        """Return the slots; they do not change."""
        return self._slots

    def submit(self, slot: Slot, function: str, payload: Any) -> Future[Outcome]:
        """Start a job in the slot's worker."""
        from pebble import ProcessPool

        if slot in self._pools and not self._pools[slot].active:
            self.stop(slot)  # its worker died while it had nothing to do
        if slot not in self._pools:
            logger.debug("a worker process for slot %s: %s", slot, dict(slot.environment))
            self._pools[slot] = ProcessPool(
                max_workers=1,
                context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
                initargs=[{**slot.environment, SLOT: slot.name}, os.getpid(), self._memory_gb],
            )
        self._workers[slot] = self._pools[slot].schedule(os.getpid)
        future: Future[Outcome] = self._pools[slot].schedule(_attempt, args=[slot.environment, function, payload])
        return future

    def stop(self, slot: Slot, future: Future[Outcome] | None = None) -> None:
        """End a slot's job and its worker; the next job gets a new one."""
        logger.debug("the worker process of slot %s is stopped", slot)
        pool, worker = self._pools.pop(slot), self._workers.pop(slot)
        if worker.done() and not worker.cancelled() and worker.exception() is None:
            _kill_group(worker.result())
        pool.stop()
        with suppress(TimeoutError):
            pool.join(timeout=10)

    def explain(self, error: BaseException) -> Outcome:
        """Return the outcome of an exception: of the job, or of its process that died."""
        from pebble import ProcessExpired

        if isinstance(error, BrokenProcessPool):
            return Outcome(failure="killed", message="the worker process died before the job began")
        if not isinstance(error, ProcessExpired):
            return exception_outcome(error)
        if error.pid:
            _kill_group(error.pid)  # what the dead worker had started: distributed trainings, data loaders
        if error.exitcode == TOO_LARGE:
            message = f"the worker process grew beyond its limit of {self._memory_gb:g} GB"
            return Outcome(failure="out_of_memory", message=message)
        before, self._kills = self._kills, _kernel_kills()
        if error.exitcode == -signal.SIGKILL and self._kills > before:
            return Outcome(failure="out_of_memory", message="the system ended the worker process for lack of memory")
        return Outcome(failure="killed", message=f"the worker process died ({_exit_text(error.exitcode)})")


def run_in_worker(
    function: str, payloads: Sequence[Any], observer: Observer | None = None, limits: Limits = ONCE
) -> list[Outcome]:
    """Call a function with each payload in one warm worker process, one after the other (see `jobs.run_jobs`)."""
    return run_jobs(LocalBackend([Slot("worker")]), function, payloads, observer, limits)


def _start_worker(environment: Mapping[str, str], driver: int, memory_gb: float | None) -> None:
    """Set up a new worker: environment, signals, memory limit (runs in the worker)."""
    os.environ.update(environment)
    os.setsid()  # whatever it starts can be ended with it
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when a worker ends
    with suppress(OSError):  # if memory runs out, the system should kill a worker and not the driver
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    threading.Thread(target=_end_with_driver, args=(driver, memory_gb), daemon=True, name="end with driver").start()


def _attempt(environment: Mapping[str, str], function: str, payload: Any) -> Outcome:
    """Run a job with its slot's environment: a warm worker may get another number of threads (runs in the worker)."""
    os.environ.update(environment)
    return attempt(function, payload)


def _end_with_driver(driver: int, memory_gb: float | None) -> None:
    """End this process when its driver is gone or when it exceeds its memory limit."""
    while os.getppid() == driver:
        if memory_gb is not None and _resident_gb() > memory_gb:
            print(f"ended: more than {memory_gb:g} GB of memory in use", file=sys.stderr, flush=True)  # noqa: T201
            _end(TOO_LARGE)
        time.sleep(0.5)
    _end(1)


def _resident_gb() -> float:
    import psutil

    total = 0
    worker = psutil.Process()
    for process in [worker, *worker.children(recursive=True)]:
        with suppress(psutil.Error):
            total += process.memory_info().rss
    return total / 1e9


def _end(code: int) -> None:
    """End this process at once, and those that it started."""
    import psutil

    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os._exit(code)


def _kill_group(leader: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)


def _kernel_kills() -> int:
    """Return how many processes of this control group the system has ended for lack of memory; 0 where unknown."""
    try:
        text = Path("/sys/fs/cgroup/memory.events").read_text(encoding="ascii")
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))


def _exit_text(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"exit code {code}"
