"""Standard output that cannot be written, or is not read to its end, and a working folder that is gone."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from ablate.__main__ import UNREAD, main


@pytest.mark.parametrize("lines", [1, 5000], ids=["in the buffer", "beyond the buffer"])
def test_a_reader_who_leaves_ends_a_command_quietly(
    lines: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr("ablate.cli.help.help_text", lambda: "a line of help\n" * lines)
    with os.fdopen(writer, "w") as unread, monkeypatch.context() as context:
        context.setattr(sys, "stdout", unread)

        assert main(["--help"]) == UNREAD

    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_a_full_disk_under_the_output_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full, monkeypatch.context() as context:
        context.setattr(sys, "stdout", full)

        assert main(["--help"]) == 2

    assert capfd.readouterr().err.splitlines() == ["ablate: standard output: No space left on device"]


@pytest.mark.parametrize(
    ("file", "told"),
    [("/data/x.json", "/data/x.json: No space left on device"), (None, "No space left on device")],
)
def test_a_full_disk_under_a_file_is_not_told_of_the_output(
    file: str | None, told: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full() -> str:
        raise OSError(errno.ENOSPC, "No space left on device", file)

    monkeypatch.setattr("ablate.cli.help.help_text", full)
    assert main(["--help"]) == 2
    assert capfd.readouterr().err.splitlines() == [f"ablate: {told}"]


def test_no_standard_output_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    assert main(["--help"]) == 0


def test_a_working_folder_that_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()

    assert main(["status"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "working folder" in line


@pytest.mark.parametrize("word", ["root=", "data.path=", "model.weights="])
def test_a_path_that_no_system_takes_is_one_line(
    word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(["plan", "data=custom", "data.path=my.yaml", "probe=false", word + 300 * "a"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "too long" in line or "no such" in line


def test_a_word_that_is_no_text_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main([b"root=m\xfc".decode(errors="surrogateescape")]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "no UTF-8" in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["file", "file/below", "/proc", "/proc/below"])
def test_a_cache_that_cannot_be_made_is_one_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / name))

    assert main(["plan", "probe=false"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "ABLATE_CACHE" in line


def test_a_comment_that_zsh_passes_on_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "mysweep", "#", "the", "table"]) == 2
    assert "setopt interactivecomments" in capfd.readouterr().err
