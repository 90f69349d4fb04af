"""Open MLflow's store. The first command creates it, whole or not at all, also when several commands start at once."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ablate.records.store_address import artifacts_uri, own_database, sqlite_file, sqlite_uri, with_driver
from ablate.tracking.relocating import relocate
from ablate.tracking.run_inputs import one_at_a_time
from ablate.tracking.ui_description import experiment_tags


def open_client(address: str, root: Path) -> Any:
    """Return MLflow's client of the store at a tracking URI, for an output folder; a new database gets its tables.

    If the folder was moved, the paths in its own store are corrected.
    """
    from mlflow import MlflowClient

    place = sqlite_file(address)
    home = root if place is None else place.parent
    home.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(home):
        if place is not None and not place.exists():
            _create(place)
        if place is not None:
            with closing(sqlite3.connect(place)) as database:  # MLflow tries for minutes to open what is no database
                database.execute("pragma schema_version").fetchone()
        if place == own_database(root):
            relocate(root)
        client = MlflowClient(tracking_uri=with_driver(address))
        client.search_experiments(max_results=1)  # only a query opens the store, and creates a server's tables
    return client


def find_experiment(client: Any, name: str, artifacts: str | None) -> str:
    """Return the id of the experiment of a name; create it, with description and views, where there is none.

    Args:
        client: MLflow's client.
        name: The experiment's name.
        artifacts: Where files of a new experiment go; None leaves that to the server.
    """
    from mlflow.exceptions import MlflowException

    experiment = client.get_experiment_by_name(name)
    now = int(time.time() * 1000)
    if experiment is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts, tags=experiment_tags(now)))
        except MlflowException:  # another command created it just now
            experiment = client.get_experiment_by_name(name)
            if experiment is None:
                raise
    if experiment.lifecycle_stage == "deleted":
        client.restore_experiment(experiment.experiment_id)
    for key, value in experiment_tags(now, experiment.tags).items():
        with suppress(MlflowException):  # a server may refuse a view; the runs do not need it
            client.set_experiment_tag(experiment.experiment_id, key, value)
    return str(experiment.experiment_id)


def _create(place: Path) -> None:
    """Create MLflow's tables in a draft file, then rename it.

    MLflow creates them in dozens of steps that SQLite does not roll back. Two processes that do so in the same file, or
    one that is killed in between, leave a store that no MLflow can open again.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = place.with_name(f".{place.name}.draft")
    draft.unlink(missing_ok=True)
    SqlAlchemyStore(sqlite_uri(draft), artifacts_uri(place.parent)).engine.dispose()
    draft.rename(place)
