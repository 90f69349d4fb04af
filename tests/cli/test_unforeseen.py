"""An error that nobody foresaw is one line, with the path of a log that holds the traceback, and exit code 70."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.__main__ import main
from ablate.safe_text import escaped


def _breaks(words: object) -> int:
    raise LookupError("first line\nsecond line")


@pytest.fixture
def broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Run a command whose verb has a fault; return its exit code and what it prints on standard error."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setitem(__import__("ablate.cli.verbs", fromlist=["VERBS"]).VERBS, "status", _breaks)

    def run(*words: str) -> tuple[int, str]:
        capfd.readouterr()
        return main(["status", *words]), capfd.readouterr().err

    return run


def log_of(line: str) -> Path:
    """The path that a line names."""
    found = re.search(r"\(traceback: (.+)\)$", line.strip())
    assert found, line
    return Path(found[1])


def test_it_is_one_line_and_a_log_in_the_output_folder(tmp_path: Path, broken: Callable[..., tuple[int, str]]) -> None:
    (tmp_path / "multirun").mkdir()
    code, err = broken("mine")
    assert code == 70
    assert err.count("\n") == 1
    assert r"LookupError: first line\nsecond line" in err
    assert "Traceback" not in err
    log = log_of(err)
    assert log.parent == Path("multirun/errors")
    text = log.read_text(encoding="utf-8")
    assert "Traceback (most recent call last)" in text
    assert "in _breaks" in text
    assert "command: ablate status mine" in text
    assert "torch: " in text, "versions are named"


def test_the_log_is_in_the_root_that_was_named(tmp_path: Path, broken: Callable[..., tuple[int, str]]) -> None:
    (tmp_path / "other").mkdir()
    assert log_of(broken("root=other")[1]).parent == Path("other/errors")


def test_the_log_is_a_temporary_file_where_the_root_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., tuple[int, str]]
) -> None:
    (tmp_path / "multirun").write_text("no folder")
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    assert log_of(broken()[1]).parent == tmp_path / "temporary"


def test_the_traceback_is_printed_where_no_log_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: Callable[..., tuple[int, str]]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere/at all"))
        code, err = broken()
    assert code == 70
    assert "Traceback (most recent call last)" in err
    assert "LookupError" in err


def test_it_is_printed_beside_the_line_where_log_messages_are(broken: Callable[..., tuple[int, str]]) -> None:
    code, err = broken("-v")
    assert code == 70
    assert "Traceback (most recent call last)" in err
    assert log_of(err.splitlines()[-1]).is_file()


def test_passwords_are_in_neither(broken: Callable[..., tuple[int, str]]) -> None:
    err = broken("tracking.uri=http://user:secret@host/path")[1]
    text = log_of(err).read_text(encoding="utf-8")
    assert "http://host/path" in text
    assert "secret" not in err + text


def test_the_process_ends_with_70(tmp_path: Path) -> None:
    program = (
        "import sys; from ablate.cli import verbs; verbs.VERBS['plan'] = lambda words: 1 / 0\n"
        "from ablate.__main__ import main; sys.exit(main())"
    )
    command = [sys.executable, "-c", program, "plan", "module=hmha"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 70
    assert ended.stdout == ""
    assert "ZeroDivisionError" in log_of(ended.stderr).read_text(encoding="utf-8")


def test_one_line_shows_what_a_terminal_would_obey() -> None:
    assert escaped("a\nb\x1b[31m\x00\u202eü 名") == r"a\nb\x1b[31m\x00\u202eü 名"


def test_the_middle_of_a_long_text_is_left_out() -> None:
    line = escaped("a" * 5000 + "end")
    assert len(line) < 2100
    assert line.endswith("end")
    assert "[3003 characters]" in line


def test_the_log_does_not_follow_a_link(tmp_path: Path, broken: Callable[..., tuple[int, str]]) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "multirun").mkdir()
    (tmp_path / "multirun" / "errors").symlink_to(tmp_path / "elsewhere")
    code, err = broken("mine")
    assert code == 70
    assert log_of(err).is_file()
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_ctrl_c_before_a_command_has_begun_ends_with_130(
    broken: Callable[..., tuple[int, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(words: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setitem(__import__("ablate.cli.verbs", fromlist=["VERBS"]).VERBS, "status", interrupted)
    assert broken() == (130, "")
