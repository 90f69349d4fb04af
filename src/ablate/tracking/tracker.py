"""The tracking store at arm's length: in a process of its own, in order, and never in the way of a trial.

MLflow alone needs several times the memory of the rest of a driver, and a driver may run for days. What the store
cannot take now is dropped, because all of it is on disk and can be sent again.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.launching.devices import Slot
from ablate.launching.local import LocalBackend
from ablate.records.store_address import tracking_uri, without_account
from ablate.tracking.store import Store
from ablate.tracking.store_problems import ProblemKind, Refusal, StoreProblem, problem_of

PATIENCE = 60.0  # seconds to wait for a SQLite store that somebody else has locked
BACKOFF = 10.0  # seconds before a store that did not answer is asked again
SERVE = "ablate.tracking.tracker:serve"
SLOT = Slot("tracker")


@dataclass(frozen=True)
class Answer:
    """What became of a call.

    Attributes:
        result: What the method returned, or None.
        problem: Why it was not done, or None.
        refusals: What the store did not take of what was sent.
    """

    result: Any = None
    problem: StoreProblem | None = None
    refusals: tuple[Refusal, ...] = ()


class Tracker:
    """A store in another process; leaving the context waits for what is queued, unless an exception leaves it.

    Args:
        root: The output folder.
        tracking: The configuration's `tracking`: uri, experiment, artifacts.

    Attributes:
        problem: What is wrong with the store, or None; of the last call.
        refusals: What the store did not take of records, each once, whatever else went well.
    """

    def __init__(self, root: Path, tracking: Mapping[str, Any]) -> None:
        self._opening = (root, tracking["uri"], tracking["experiment"], tracking["artifacts"])
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
        """Wait until all that is queued is done."""
        if self._last is not None:
            self._heard(self._last)

    def submit(self, method: str, *arguments: Any, insist: bool = False) -> Future[Any]:
        """Queue a call of a `Store` method; it is dropped while the store does not answer, unless one insists."""
        call = {"opening": self._opening, "method": method, "arguments": arguments, "insist": insist}
        self._last = self._backend.submit(SLOT, SERVE, call)
        self._last.add_done_callback(self._heard)
        return self._last

    def ask(self, method: str, *arguments: Any) -> Any:
        """Call a `Store` method now, and return its result; None where the store does not answer."""
        return self._heard(self.submit(method, *arguments, insist=True))

    def _heard(self, future: Future[Any]) -> Any:
        try:
            outcome = future.result()
        except Exception as error:  # its process died; the next call gets another one
            outcome = self._backend.explain(error)
        answer: Answer = (
            Answer(problem=StoreProblem(ProblemKind.UNREACHABLE, outcome.message))
            if outcome.failure
            else outcome.result
        )
        self.problem = answer.problem
        self.refusals = list(dict.fromkeys([*self.refusals, *answer.refusals]))
        return answer.result


_store: Store | None = None  # in the tracker's process
_problem: StoreProblem | None = None  # why it did not answer
_again = 0.0  # by the monotonic clock: when a store that did not answer may be asked again


def serve(call: Mapping[str, Any]) -> Answer:
    """Call a method of the store; runs in the tracker's process."""
    global _store, _again, _problem
    if time.monotonic() < _again and not call["insist"]:
        return Answer(problem=_problem)
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if _store is None:
                _store = Store(*call["opening"])
            return Answer(getattr(_store, call["method"])(*call["arguments"]), refusals=tuple(_store.take_refusals()))
        except Exception as error:  # the tracker must never cost a trial
            if "database is locked" in str(error) and time.monotonic() < deadline:
                continue  # SQLite itself has waited some seconds
            root, uri = call["opening"][:2]
            _problem = problem_of(error, without_account(uri) if uri else tracking_uri(root, None))
            if _store is None or _problem.kind is not ProblemKind.REFUSED:
                _again = time.monotonic() + BACKOFF
            return Answer(problem=_problem, refusals=tuple(_store.take_refusals()) if _store else ())
