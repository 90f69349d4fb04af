"""A folder may be moved, copied, and be called anything: its store goes along."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from tests.factories import make_record

from ablate.records import store_address as address
from ablate.records.loading import load_run_link
from ablate.records.store_address import own_database, sqlite_file, sqlite_uri, tracking_uri
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import TrialFolder
from ablate.tracking.relocating import last_experiment, relocate
from ablate.tracking.store import Store

NAMES = [
    "a b", "50%", "50%25", "run#2", "ü[v2]", "what?x=1", "a&user=me", "m@il:3@x", "semi;colon", "it's", 'quo"te',
    "back\\slash", "-dash", "trailing ", " leading", "new\nline", "star*", "$HOME", "~x", "人",
    "file:x?mode=memory", "a+b", "%2e%2e", "mlartifacts",
]  # fmt: skip


def record(index: int) -> dict[str, Any]:
    return make_record(signature=f"{index:02x}" * 32, name=f"trial {index}")


def trial(root: Path, index: int) -> Path:
    folder = root / "trials" / str(record(index)["signature"])
    atomic_write_json(folder / "result.json", record(index))
    return folder


def close(store: Store) -> None:
    store._client._tracking_client.store.engine.dispose()


def places(root: Path) -> set[str]:
    """All that the database says of where files are."""
    queries = ("select artifact_location from experiments", "select artifact_uri from runs")
    with closing(sqlite3.connect(f"file:{quote(str(root / 'mlflow.db'))}?mode=ro", uri=True)) as database:
        return {place for query in queries for (place,) in database.execute(query)}


def artifact(store: Store, run_id: str) -> str:
    folder = Path(store._client.download_artifacts(run_id, "result.json"))
    return folder.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["a b", "50%25", "run#2", "ü[v2]", "what?x=1", "a&user=me", "m@il:3@x", "new\nline"])
def test_a_folder_of_any_name_holds_its_store(tmp_path: Path, new_root: Callable[[Path], Path], name: str) -> None:
    root = new_root(tmp_path / name)
    folder = trial(root, 1)
    store = Store(root)
    run_id = store.publish(folder)
    assert run_id is not None
    assert store.take_refusals() == []
    assert '"trial 1"' in artifact(store, run_id)
    close(store)

    assert last_experiment(own_database(root)) == store._experiment
    assert sorted(path.name for path in tmp_path.iterdir()) == [name]
    assert (root / "mlartifacts" / store._experiment / run_id / "artifacts" / "result.json").is_file() or (
        root / "mlartifacts" / run_id / "artifacts" / "result.json"
    ).is_file()
    again = Store(root)
    assert again.publish_missing(root) == []
    close(again)


def test_a_store_is_made_in_a_folder_of_any_name(tmp_path: Path) -> None:
    root = tmp_path / "what?x=1#%25"
    store = Store(root)
    assert store.publish(trial(root, 1)) is not None
    close(store)
    assert own_database(root).is_file()


@pytest.mark.parametrize("name", NAMES)
def test_the_uri_of_a_file_names_that_file(name: str) -> None:
    file = Path("/tmp") / name / "mlflow.db"
    assert sqlite_file(sqlite_uri(file)) == file
    assert sqlite_file(tracking_uri(file.parent, None)) == file


@pytest.mark.parametrize("decodes", [True, False])
@pytest.mark.parametrize("name", NAMES)
def test_the_uri_of_a_file_suits_each_sqlalchemy(name: str, decodes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(address, "_decodes_paths", lambda: decodes)
    file = Path("/tmp") / name / "mlflow.db"
    assert sqlite_file(sqlite_uri(file)) == file


@pytest.mark.parametrize("name", NAMES)
def test_sqlalchemy_opens_the_file_that_the_uri_is_of(tmp_path: Path, name: str) -> None:
    from sqlalchemy import create_engine

    file = tmp_path / name / "mlflow.db"
    file.parent.mkdir()
    engine = create_engine(sqlite_uri(file))
    with engine.begin() as connection:
        connection.exec_driver_sql("create table t (x)")
    engine.dispose()
    assert file.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_is_no_file_of_sqlite_is_none() -> None:
    for uri in (
        "http://h:5000",
        "postgresql://h/db",
        "sqlite://",
        "sqlite:///:memory:",
        "sqlite:///file:x?mode=memory",
    ):
        assert sqlite_file(uri) is None
    assert tracking_uri(Path("/tmp"), "http://h") == "http://h"
    assert sqlite_uri(Path("/tmp/a b/mlflow.db")) == "sqlite:////tmp/a b/mlflow.db", "links of earlier versions hold"


@pytest.mark.parametrize(
    ("before", "after"), [("old", "new"), ("a b#1", "50%?x"), ("same/mlartifacts", "new/mlartifacts")]
)
def test_a_moved_folder_is_recorded_in_its_new_place(
    tmp_path: Path, new_root: Callable[[Path], Path], before: str, after: str
) -> None:
    old, new = new_root(tmp_path / before), tmp_path / after
    first = Store(old)
    run_id = first.publish(trial(old, 1))
    close(first)
    new.parent.mkdir(exist_ok=True)
    old.rename(new)

    store = Store(new)
    assert store.publish_missing(new) == [], "the links know the new place"
    assert '"trial 1"' in artifact(store, str(run_id))
    assert store.publish(trial(new, 2)) is not None
    close(store)
    assert not old.exists()
    assert all(place.startswith(((tmp_path / after).as_uri(), str(tmp_path / after))) for place in places(new))
    assert load_run_link(TrialFolder(new / "trials" / ("01" * 32))).uri == store.uri
    assert relocate(new) == []


def test_a_copied_folder_and_its_original_are_two(tmp_path: Path, new_root: Callable[[Path], Path]) -> None:
    old, new = new_root(tmp_path / "old"), tmp_path / "new"
    store = Store(old)
    store.publish(trial(old, 1))
    close(store)
    before = places(old)
    shutil.copytree(old, new)

    assert relocate(new) == [old]
    assert all("/new/mlartifacts" in place for place in places(new))
    assert places(old) == before
    assert relocate(old) == []


def test_a_link_to_the_folder_is_no_move(tmp_path: Path, new_root: Callable[[Path], Path]) -> None:
    root = new_root(tmp_path / "real")
    store = Store(root)
    store.publish(trial(root, 1))
    close(store)
    (tmp_path / "link").symlink_to(root)

    assert relocate(tmp_path / "link") == []
    other = Store(tmp_path / "link")
    assert other.publish_missing(tmp_path / "link") == []
    close(other)


def test_places_elsewhere_are_left_alone(tmp_path: Path, new_root: Callable[[Path], Path]) -> None:
    old = new_root(tmp_path / "old")
    store = Store(old)
    for name, place in (("bucket", "s3://b/mlartifacts"), ("disk", (tmp_path / "disk" / "runs").as_uri())):
        store._client.create_experiment(name, artifact_location=place)
    close(store)
    old.rename(tmp_path / "new")
    relocate(tmp_path / "new")

    assert {"s3://b/mlartifacts", (tmp_path / "disk" / "runs").as_uri()} <= places(tmp_path / "new")
    assert not any("/old/" in place for place in places(tmp_path / "new"))


def test_a_rewriting_that_fails_changes_nothing(tmp_path: Path, new_root: Callable[[Path], Path]) -> None:
    old = new_root(tmp_path / "old")
    store = Store(old)
    store.publish(trial(old, 1))
    close(store)
    with closing(sqlite3.connect(old / "mlflow.db")) as database:
        database.execute("create trigger t before update on runs begin select raise(abort, 'no'); end")
    before = places(old)
    old.rename(tmp_path / "new")

    with pytest.raises(sqlite3.Error):
        relocate(tmp_path / "new")
    assert places(tmp_path / "new") == before


def test_a_folder_without_a_store_has_nothing_to_rewrite(tmp_path: Path) -> None:
    assert relocate(tmp_path) == []
    (tmp_path / "mlflow.db").write_bytes(b"")
    assert relocate(tmp_path) == []
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    with pytest.raises(sqlite3.DatabaseError):
        relocate(tmp_path)
