"""Run jobs on this machine, one after the other, in a worker process that a crash cannot take the driver along with."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any

_watching = False  # in a worker: whether somebody looks after the driver


@dataclass(frozen=True)
class Outcome:
    """How one job ended.

    Attributes:
        result: What the function returned, or None.
        failure: None, or ``killed`` (the process died), ``timeout``, or ``code`` (an exception came out of it).
        message: One line about the failure.
    """

    result: Any = None
    failure: str | None = None
    message: str = ""


def run_jobs(
    function: str,
    payloads: Sequence[Any],
    *,
    on_start: Callable[[int], None] = lambda index: None,
    on_poll: Callable[[int], None] = lambda index: None,
    on_end: Callable[[int, Outcome], None] = lambda index, outcome: None,
    timeout: float | None = None,
    interval: float = 0.5,
) -> list[Outcome]:
    """Call a function with each payload in a warm worker process; a dead worker costs one job and is replaced.

    Args:
        function: ``package.module:name`` of a function of one argument; imported in the worker.
        payloads: Picklable arguments.
        on_start: Called with the job's index before it starts.
        on_poll: Called with the index of the running job every `interval` seconds.
        on_end: Called with the index and its outcome.
        timeout: Seconds that a job may take, or None.
        interval: Seconds between polls.

    Raises:
        KeyboardInterrupt: On Ctrl-C, after the worker is stopped.
    """
    outcomes = []
    with _worker() as pool:
        for index, payload in enumerate(payloads):
            on_start(index)
            future = pool.schedule(call, args=[function, payload], timeout=timeout)
            outcome = _wait(future, lambda index=index: on_poll(index), interval)  # type: ignore[misc]
            on_end(index, outcome)
            outcomes.append(outcome)
    return outcomes


def call(function: str, payload: Any) -> Any:
    """Import a function by name and call it (runs in the worker)."""
    _die_with(os.getppid())
    home, _, name = function.partition(":")
    return getattr(import_module(home), name)(payload)


def _die_with(parent: int) -> None:
    """End this process when its parent is gone: a driver that was killed must leave no training behind."""
    global _watching
    if _watching:
        return
    _watching = True

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="die-with-driver").start()


@contextmanager
def _worker() -> Iterator[Any]:
    """Yield a pool of one worker; leave no process behind, however the block ends."""
    from pebble import ProcessPool

    pool = ProcessPool(max_workers=1, context=multiprocessing.get_context("spawn"))
    try:
        yield pool
        pool.close()
        pool.join(timeout=10)
    except BaseException:
        pool.stop()
        pool.join(timeout=10)
        raise


def _wait(future: Any, poll: Callable[[], None], interval: float) -> Outcome:
    from concurrent.futures import wait

    from pebble import ProcessExpired

    while not wait([future], timeout=interval).done:
        poll()
    try:
        return Outcome(result=future.result())
    except ProcessExpired as error:
        code = error.exitcode
        return Outcome(failure="killed", message=f"the worker process died ({_exit_words(code)})")
    except FutureTimeout:
        return Outcome(failure="timeout", message="the job took longer than its time limit")
    except Exception as error:
        return Outcome(failure="code", message=f"{type(error).__name__}: {' '.join(str(error).split())}")


def _exit_words(code: int | None) -> str:
    if code is not None and code < 0:
        import signal

        return f"signal {-code}, {signal.Signals(-code).name}"
    return f"exit code {code}"
