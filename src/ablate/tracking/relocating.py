"""An output folder that was moved: correct the paths in its own store.

MLflow stores the absolute path of every run's files. After a move it would look for them, and write new ones, where
the folder was before.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import msgspec

from ablate.records.loading import load_run_link, save_run_link
from ablate.records.store_address import artifacts_uri, own_database, sqlite_file, sqlite_uri
from ablate.storage.layout import ARTIFACTS, OutputFolder

PLACES = (  # MLflow's tables and columns with paths of files
    ("experiments", "artifact_location"),
    ("runs", "artifact_uri"),
    ("logged_models", "artifact_location"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
)
PATIENCE = 20.0  # seconds to wait for a database that somebody else writes to


def relocate(root: Path) -> list[Path]:
    """Rewrite the places in the store of an output folder that was moved or copied, in one transaction.

    The caller keeps other commands away (`one_at_a_time`). Only the folder's own SQLite file is changed, and of it only
    places below the `mlartifacts` of a former root.

    Returns:
        The former roots; empty where nothing was moved.

    Raises:
        sqlite3.Error: The file is no store of MLflow, or cannot be written.
    """
    database = own_database(root)
    if not database.is_file():
        return []
    with closing(_connect(database)) as connection:
        former = _former(connection, root)
        if former:
            _correct_links(root, [place for place, _ in former])
            _rewrite(connection, [prefix for _, prefix in former], root)
    return list(dict.fromkeys(place for place, _ in former))


def _connect(database: Path) -> sqlite3.Connection:
    uri = f"file:{quote(str(database))}?mode=rw"
    return sqlite3.connect(uri, uri=True, timeout=PATIENCE, isolation_level=None)


def _former(connection: sqlite3.Connection, root: Path) -> list[tuple[Path, str]]:
    """Return the roots that experiments were in and that are not this one, and how their places begin."""
    if ("experiments", "artifact_location") not in _columns(connection):
        return []
    here = OutputFolder(root.absolute()).artifacts
    folders: dict[str, Path] = {}
    for (place,) in connection.execute("select distinct artifact_location from experiments"):
        prefix = _prefix(str(place))
        if prefix is not None:
            folders[prefix] = _path(prefix)
    return [
        (path.parent, prefix)
        for prefix, path in folders.items()
        if path != here and not _is_same(path.parent, root) and (here.exists() or not path.exists())
    ]


def _prefix(place: str) -> str | None:
    """Return the start of a place up to a root's folder of files: ours, or one that MLflow numbered below it."""
    if urlsplit(place).scheme not in ("", "file"):
        return None
    start, name, rest = place.rpartition(f"/{ARTIFACTS}")
    return f"{start}{name}" if name and (not rest or rest.lstrip("/").isdigit()) else None


def _path(place: str) -> Path:
    return Path(unquote(place.partition(":")[2].replace("///", "/", 1))) if place.startswith("file:") else Path(place)


def _is_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _rewrite(connection: sqlite3.Connection, prefixes: Iterable[str], root: Path) -> None:
    columns = _columns(connection)
    connection.execute("begin immediate")
    try:
        for prefix in prefixes:
            place = artifacts_uri(root) if prefix.startswith("file:") else str(OutputFolder(root.absolute()).artifacts)
            for table, column in PLACES:
                if (table, column) in columns:
                    connection.execute(
                        f"update {table} set {column} = ? || substr({column}, ?) "
                        f"where {column} = ? or substr({column}, 1, ?) = ?",
                        (place, len(prefix) + 1, prefix, len(prefix) + 1, f"{prefix}/"),
                    )
        connection.execute("commit")
    except BaseException:
        connection.execute("rollback")
        raise


def _columns(connection: sqlite3.Connection) -> set[tuple[str, str]]:
    """Return those of `PLACES` that this version of the tables has."""
    tables = {table for table, _ in PLACES}
    return {(table, str(row[1])) for table in tables for row in connection.execute(f"pragma table_info({table})")}


def _correct_links(root: Path, former: Iterable[Path]) -> None:
    """Write the store's new place into the trials' links, so that nothing is sent again."""
    before = {own_database(place) for place in former}
    for trial in OutputFolder(root.absolute()).trial_folders():
        link = load_run_link(trial)
        if link.uri and sqlite_file(link.uri) in before:
            save_run_link(trial, msgspec.structs.replace(link, uri=sqlite_uri(own_database(root))))


def last_experiment(database: Path) -> str:
    """Return the id of the experiment that was written to last. Raises sqlite3.Error where that cannot be told."""
    with closing(_connect(database)) as connection:
        row = connection.execute("select experiment_id from runs order by start_time desc limit 1").fetchone()
    return str(row[0]) if row else "0"
