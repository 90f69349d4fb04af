"""Sending what belongs to a run: in few requests, and so that one value that is refused costs only itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ablate import __version__
from ablate.tracking.mlflow_payload import MAX_TAG, NOT_RECORDED
from ablate.tracking.store_problems import Refusal, is_local, is_unreachable, reason_of

LIMITS = (800, 100, 100)  # metrics, parameters, tags in one request; MLflow allows 1000 of all kinds together
KINDS = ("metric", "parameter", "tag")
PROBE = "ablate.version"  # every run of ours has this tag
LARGEST = 2**63 - 1  # of a step or a time in a database

_Batch = tuple[list[Any], list[Any], list[Any]]  # metrics, parameters, tags


class Sender:
    """Sends to runs of a store; what is refused is kept in `refusals` instead of being raised.

    Args:
        client: MLflow's client.

    Attributes:
        refusals: What was not taken since they were last looked at (`take`).
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self.refusals: list[Refusal] = []

    def take(self) -> list[Refusal]:
        """Return the refusals so far, and clear them."""
        taken, self.refusals = self.refusals, []
        return taken

    def attempt(self, record: str, what: str, action: Callable[..., Any], *arguments: Any) -> Any:
        """Do one step of sending a record; a refusal of it is kept, and None returned.

        Raises:
            Exception: Nobody answers, so that no other step would do better.
        """
        try:
            return action(*arguments)
        except Exception as error:
            if is_unreachable(error) and not is_local(error):
                raise
            self.refusals.append(Refusal(record, what, reason_of(error), again=is_local(error)))
            return None

    def tag_refusals(self, run: Any, record: str, before: int) -> None:
        """List in a tag of a run what the store has refused since there were so many refusals; else remove the tag."""
        run_id, refusals = run.info.run_id, self.refusals[before:]
        if refusals:
            text = "; ".join(f"{refusal.what}: {refusal.reason}" for refusal in refusals)[:MAX_TAG]
            self.attempt(record, f"the tag {NOT_RECORDED}", self._client.set_tag, run_id, NOT_RECORDED, text)
        elif NOT_RECORDED in run.data.tags:
            self.attempt(record, f"the tag {NOT_RECORDED}", self._client.delete_tag, run_id, NOT_RECORDED)

    def send(
        self,
        run_id: str,
        record: str,
        metrics: Sequence[Any] = (),
        params: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log metrics, parameters and tags in as few requests as MLflow's limits allow.

        Args:
            run_id: The run.
            record: What the run is of, for refusals.
            metrics: MLflow's `Metric`s.
            params: Parameters that the run does not have.
            tags: Tags.

        Raises:
            Exception: The store does not answer, or does not take anything for this run.
        """
        from mlflow.entities import Param, RunTag

        rest = list(metrics), [Param(*p) for p in (params or {}).items()], [RunTag(*t) for t in (tags or {}).items()]
        while any(rest):
            first = tuple(part[:limit] for part, limit in zip(rest, LIMITS, strict=True))
            self._send(run_id, record, first)  # type: ignore[arg-type]
            rest = rest[0][LIMITS[0] :], rest[1][LIMITS[1] :], rest[2][LIMITS[2] :]

    def _send(self, run_id: str, record: str, batch: _Batch) -> None:
        """Send a batch; where it is refused its halves, down to what it is refused for."""
        try:
            if any(not abs(metric.step) <= LARGEST or not 0 <= metric.timestamp <= LARGEST for metric in batch[0]):
                raise ValueError("its step or time is no 64 bit number")
            self._client.log_batch(run_id, *batch)
        except Exception as error:
            if is_unreachable(error):
                raise
            count = sum(map(len, batch))
            if count == 1:
                self._client.set_tag(run_id, PROBE, __version__)  # raises where the run is refused, not the value
                kind, value = next((kind, part[0]) for kind, part in zip(KINDS, batch, strict=True) if part)
                self.refusals.append(Refusal(record, f"{kind} {value.key[:80]}", reason_of(error)))
                return
            for half in _halves(batch):
                self._send(run_id, record, half)


def _halves(batch: _Batch) -> list[_Batch]:
    """Two halves of a batch, in its order."""
    values = [(kind, value) for kind, part in enumerate(batch) for value in part]
    middle = len(values) // 2
    halves = []
    for half in (values[:middle], values[middle:]):
        metrics, params, tags = ([value for kind, value in half if kind == index] for index in range(3))
        halves.append((metrics, params, tags))
    return halves
