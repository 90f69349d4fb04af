"""The tracking store in a process of its own: calls are made in order and never delay or fail a trial.

MLflow alone needs several times the memory of the rest of a driver, and a driver may run for days. Calls that the store
cannot take now are dropped, because everything is on disk and can be sent again.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

from ablate.launching.devices import Slot
from ablate.launching.local import LocalBackend
from ablate.records.store_address import tracking_uri, without_account
from ablate.settings.schema import TrackingSettings
from ablate.tracking.store import Store
from ablate.tracking.store_problems import ProblemKind, Refusal, StoreProblem, problem_of

PATIENCE = 60.0  # seconds to wait for a SQLite store that another process has locked
BACKOFF = 10.0  # seconds before a store that did not answer is called again
SERVE = "ablate.tracking.tracker:serve"
SLOT = Slot("tracker")

P = ParamSpec("P")
R = TypeVar("R")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """A call of a `Store` method, as it is sent to the tracker's process.

    Attributes:
        root, tracking: Of the store to open.
        method: A method of `Store`.
        args: Its arguments after `self`.
        kwargs: Its keyword arguments.
        insist: Whether to make the call even if the store did not answer a moment ago.
    """

    root: Path
    tracking: TrackingSettings
    method: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, object]
    insist: bool = False


@dataclass(frozen=True)
class Answer:
    """The result of a call.

    Attributes:
        result: The method's return value, or None.
        problem: Why the call was not made, or None.
        refusals: The values that the store refused.
    """

    result: Any = None
    problem: StoreProblem | None = None
    refusals: tuple[Refusal, ...] = ()


class Tracker:
    """A store in another process; leaving the context waits for queued calls, unless an exception leaves it.

    Args:
        root: The output folder.
        tracking: Which store it is.

    Attributes:
        problem: Why the last call was not made, or None.
        refusals: The values that the store refused, each once.
    """

    def __init__(self, root: Path, tracking: TrackingSettings) -> None:
        self._root = root
        self._tracking = tracking
        self._backend = LocalBackend([SLOT])
        self._last: Future[Any] | None = None
        self.problem: StoreProblem | None = None
        self.refusals: list[Refusal] = []

    def __enter__(self) -> Tracker:
        self._backend.__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        if exception[0] is None:
            self.settle()
        self._backend.__exit__(*exception)

    def settle(self) -> None:
        """Wait until all queued calls are made."""
        if self._last is not None:
            self._take_answer(self._last)

    def submit(self, method: Callable[Concatenate[Store, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue a call of a `Store` method; it is dropped while the store does not answer."""
        self._send(Call(self._root, self._tracking, method, args, kwargs))

    def ask(self, method: Callable[Concatenate[Store, P], R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Call a `Store` method now and return its result; None where the store does not answer."""
        call = Call(self._root, self._tracking, method, args, kwargs, insist=True)
        result: R | None = self._take_answer(self._send(call))
        return result

    def _send(self, call: Call) -> Future[Any]:
        logger.debug("to the tracking store: %s", call.method.__name__)
        self._last = self._backend.submit(SLOT, SERVE, call)
        self._last.add_done_callback(self._take_answer)
        return self._last

    def _take_answer(self, future: Future[Any]) -> Any:
        try:
            outcome = future.result()
        except Exception as error:  # its process died; the next call gets another one
            outcome = self._backend.explain(error)
        answer: Answer = (
            Answer(problem=StoreProblem(ProblemKind.UNREACHABLE, outcome.message))
            if outcome.failure
            else outcome.result
        )
        if answer.problem is not None and answer.problem != self.problem:
            logger.warning(
                "the tracking store did not take a call: %s: %s", answer.problem.kind, answer.problem.message
            )
        for refusal in answer.refusals:
            logger.warning("the tracking store refused a value: %s", refusal)
        self.problem = answer.problem
        self.refusals = list(dict.fromkeys([*self.refusals, *answer.refusals]))
        return answer.result


_store: Store | None = None  # in the tracker's process
_problem: StoreProblem | None = None  # of the last call that the store did not answer
_next_call = 0.0  # by the monotonic clock: when a store that did not answer may be called again


def serve(call: Call) -> Answer:
    """Call a method of the store; runs in the tracker's process."""
    global _store, _next_call, _problem
    if time.monotonic() < _next_call and not call.insist:
        return Answer(problem=_problem)
    tracking = call.tracking
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if _store is None:
                _store = Store(call.root, tracking.uri, tracking.experiment, tracking.artifacts, tracking.diff)
            return Answer(call.method(_store, *call.args, **call.kwargs), refusals=tuple(_store.take_refusals()))
        except Exception as error:  # the tracker must never cost a trial
            if "database is locked" in str(error) and time.monotonic() < deadline:
                continue  # SQLite itself has waited some seconds
            uri = without_account(tracking.uri) if tracking.uri else tracking_uri(call.root, None)
            _problem = problem_of(error, uri)
            if _store is None or _problem.kind is not ProblemKind.REFUSED:
                _next_call = time.monotonic() + BACKOFF
            return Answer(problem=_problem, refusals=tuple(_store.take_refusals()) if _store else ())
