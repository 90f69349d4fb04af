"""The MLflow run of a trial's record: `mlflow.json`."""

from __future__ import annotations

from ablate.records.json_struct import ABSENT, JsonStruct


class RunLink(JsonStruct, frozen=True, kw_only=True):
    """Which MLflow run a trial has, and what that run contains.

    Attributes:
        run_id: The run.
        uri: Tracking URI of its store, without account.
        state: "running", "stopped", "complete" or "incomplete".
        sweeps: Names of the sweeps that the run is tagged with.
    """

    run_id: str | None = None
    uri: str | None = None
    state: str | None = None
    sweeps: tuple[str, ...] = ABSENT
