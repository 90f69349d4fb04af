"""Find runs of ours in a store: by their id, else by their tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_run(client: Any, run_id: str, tag: str, value: str) -> bool:
    """Tell whether there is a run of this id with this tag: the file that names the run may come from elsewhere."""
    from mlflow.exceptions import MlflowException

    try:
        run = client.get_run(run_id)
    except MlflowException as error:
        if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):  # the latter: no run's id at all
            return False
        raise
    return bool(run.info.lifecycle_stage == "active" and run.data.tags.get(tag, value) == value)


def find_run(client: Any, experiment: str, tags: Mapping[str, str]) -> str | None:
    """Return the id of a run that has these tags, None where there is none."""
    words = " and ".join(f"tags.`{tag}` = '{value}'" for tag, value in tags.items())
    runs = client.search_runs([experiment], words, max_results=1)
    return str(runs[0].info.run_id) if runs else None
