"""Opening MLflow's store, which the first command makes: whole or not at all, also with several commands at once."""

from __future__ import annotations

import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from ablate.records.store_address import artifacts_uri, own_database, sqlite_file, sqlite_uri, with_driver
from ablate.tracking.relocating import relocate
from ablate.tracking.run_inputs import one_at_a_time
from ablate.tracking.ui_description import experiment_tags


def open_client(address: str, root: Path) -> Any:
    """Return MLflow's client of the store at a tracking URI, for an output folder; a new database gets its tables.

    The folder's own store is told where it is, if the folder was moved.
    """
    from mlflow import MlflowClient

    place = sqlite_file(address)
    home = root if place is None else place.parent
    home.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(home):
        if place is not None and not place.exists():
            _make(place)
        if place == own_database(root):
            relocate(root)
        client = MlflowClient(tracking_uri=with_driver(address))
        client.search_experiments(max_results=1)  # only a question opens the store, and makes a server's tables
    return client


def find_experiment(client: Any, name: str, artifacts: str | None) -> str:
    """Return the id of the experiment of a name, which is made where there is none, with its description and views.

    Args:
        client: MLflow's client.
        name: The experiment's name.
        artifacts: Where files of a new one go; None leaves that to the server.
    """
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(name)
    now = int(time.time() * 1000)
    if found is None:
        try:
            return str(client.create_experiment(name, artifact_location=artifacts, tags=experiment_tags(now)))
        except MlflowException:  # another command made it in this moment
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key, value in experiment_tags(now, found.tags).items():
        with suppress(MlflowException):  # a server may refuse a view; the runs are what matters
            client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)


def _make(place: Path) -> None:
    """Make MLflow's tables in a file beside, which then gets the name.

    MLflow makes them in dozens of steps that SQLite does not take back. Two processes that take them in the same file,
    or one that is killed in the middle, leave a store that no MLflow can open again.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = place.with_name(f".{place.name}.draft")
    draft.unlink(missing_ok=True)
    SqlAlchemyStore(sqlite_uri(draft), artifacts_uri(place.parent)).engine.dispose()
    draft.rename(place)
