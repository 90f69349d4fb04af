"""MLflow's database that is deleted, damaged, newer, or something else, while results are sent to it."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

SWEEP = ["module=steady", "-m"]
BASELINE, STEADY = NAMES = ["baseline musgd s0", "steady@neck_p5 musgd s0"]


@pytest.mark.fault(
    "`mlflow.db` deleted during a sweep", "training continues; the next command makes a new store and sends all records"
)
def test_deleted_store(quick_shop: Any) -> None:
    driver = quick_shop.start_held(*SWEEP)
    quick_shop.database.unlink()
    quick_shop.unset("slow")
    out, err = driver.communicate(timeout=100)

    assert (driver.returncode, err) == (0, ""), out
    again = quick_shop.run(*SWEEP)
    assert (again.returncode, again.stderr) == (0, "")
    assert "MLflow d" not in again.stdout
    quick_shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "`mlflow.db` truncated or overwritten during a sweep",
    "training continues; one line says to move the file away; then all records are sent to a new one",
)
def test_damaged_store(quick_shop: Any) -> None:
    driver = quick_shop.start_held(*SWEEP)
    quick_shop.database.write_bytes(b"no database" * 500)
    quick_shop.unset("slow")
    out, err = driver.communicate(timeout=100)

    assert (driver.returncode, err) == (0, ""), out
    lines = [line for line in out.splitlines() if "MLflow" in line and "ui" not in line]
    assert len(lines) == 1, lines
    (line,) = lines
    assert "mlflow.db is damaged" in line
    assert "Move it away" in line
    quick_shop.database.unlink()
    again = quick_shop.run(*SWEEP)
    assert (again.returncode, again.stderr) == (0, "")
    quick_shop.assert_all_finished_once(NAMES)


@pytest.mark.fault(
    "`mlflow.db` of a newer schema, or a folder of that name",
    "training continues; one line says what is wrong; once that is mended, all records are sent",
)
def test_other_store(quick_shop: Any) -> None:
    database, aside = quick_shop.database, quick_shop.database.with_suffix(".aside")
    with sqlite3.connect(database) as store:
        (revision,) = store.execute("select version_num from alembic_version").fetchone()
        store.execute("update alembic_version set version_num = 'ffffffffffff'")
    newer = quick_shop.run(*SWEEP)
    with sqlite3.connect(database) as store:
        store.execute("update alembic_version set version_num = ?", [revision])
    database.rename(aside)
    database.mkdir()
    folder = quick_shop.run(*SWEEP)
    database.rmdir()
    aside.rename(database)
    mended = quick_shop.run(*SWEEP)

    for done, words in ((newer, "made by a newer MLflow"), (folder, "MLflow does not answer"), (mended, "")):
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        lines = [line for line in done.stdout.splitlines() if "MLflow" in line and "ui" not in line]
        assert [words in line for line in lines] == ([True] if words else [])
    assert "2 done, 0 to run" in folder.stdout
    quick_shop.assert_all_finished_once(NAMES)
