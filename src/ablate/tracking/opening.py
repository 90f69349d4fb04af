"""Opening MLflow's store, which the first command makes: whole or not at all, also with several commands at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ablate.tracking.address import with_driver
from ablate.tracking.inputs import one_at_a_time


def open_client(address: str, root: Path) -> Any:
    """Return MLflow's client of the store at a tracking URI, for an output folder; a new database gets its tables."""
    from mlflow import MlflowClient

    place = _sqlite_file(address)
    home = root if place is None else place.parent
    home.mkdir(parents=True, exist_ok=True)
    with one_at_a_time(home):
        if place is not None and not place.exists():
            _make(place)
        client = MlflowClient(tracking_uri=with_driver(address))
        client.search_experiments(max_results=1)  # only a question opens the store, and makes a server's tables
    return client


def _sqlite_file(address: str) -> Path | None:
    from sqlalchemy.engine import make_url

    if not address.startswith("sqlite"):
        return None
    file = make_url(address).database
    return Path(file) if file and file != ":memory:" and not file.startswith("file:") else None


def _make(place: Path) -> None:
    """Make MLflow's tables in a file beside, which then gets the name.

    MLflow makes them in dozens of steps that SQLite does not take back. Two processes that take them in the same file,
    or one that is killed in the middle, leave a store that no MLflow can open again.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    draft = place.with_name(f".{place.name}.draft")
    draft.unlink(missing_ok=True)
    SqlAlchemyStore(f"sqlite:///{draft}", str(place.parent / "mlartifacts")).engine.dispose()
    draft.rename(place)
