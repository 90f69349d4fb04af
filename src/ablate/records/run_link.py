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
        signature: The trial's; None in a file of an older version.
        store_made: When MLflow's experiment was created, ms since 1970: a store that was deleted and created again has
            the same address, but not this run. None in a file of an older version.
    """

    run_id: str | None = None
    uri: str | None = None
    state: str | None = None
    sweeps: tuple[str, ...] = ABSENT
    signature: str | None = None
    store_made: int | None = None
