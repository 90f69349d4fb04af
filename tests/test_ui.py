"""`ablate ui` says in one line why it cannot serve."""

from __future__ import annotations

import socket
import sqlite3
from pathlib import Path

import pytest

from ablate.cli import verbs


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An output folder with the tables that are looked at before anything is served."""
    with sqlite3.connect(tmp_path / "mlflow.db") as database:
        database.execute("create table runs (experiment_id integer, start_time integer)")
    return tmp_path


@pytest.mark.parametrize("port", ["0", "-1", "65536", "99999", "5e3", "five", "", "٣"])
def test_a_port_that_is_none_is_refused(root: Path, port: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verbs.ui([f"root={root}", f"--port={port}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "from 1 to 65535" in line


def test_a_port_that_is_in_use_is_refused_and_a_free_one_proposed(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert verbs.ui([f"root={root}", f"--port={port}"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"--port={port}: it is in use" in line
    assert 0 < int(line.rpartition("--port=")[2]) != port


def test_a_file_that_is_no_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"no database" * 100)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    assert verbs.ui([f"root={tmp_path}", f"--port={port}"]) == 2
    assert "is not MLflow's store" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["50% [v2]", "it's", "a b", "back\\slash", "'quoted'"])
def test_a_root_may_be_written_as_hydra_wants_it(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    quoted = str(root).replace("\\", "\\\\").replace("'", "\\'")
    assert verbs._root([f"root={root}"]) == root
    assert verbs._root([f"root='{quoted}'"]) == root
