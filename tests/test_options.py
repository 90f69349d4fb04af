"""Names and files of options are read once for a whole grid, and again where they have changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ablate.settings.schema import option_file, options


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's module file in the working folder."""
    file = tmp_path / "conf" / "module" / "mine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("name: mine\nwidth: 1\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return file


def test_an_option_that_appears_or_goes_is_noticed(own: Path) -> None:
    before = options("module")
    (own.parent / "other.yaml").write_text("name: other\n", encoding="utf-8")
    after = options("module")
    (own.parent / "other.yaml").unlink()

    assert "mine" in before
    assert after == sorted([*before, "other"])
    assert options("module") == before


def test_an_edit_of_equal_length_with_the_old_times_is_noticed(own: Path) -> None:
    times = own.stat()
    assert option_file("module", "mine")["width"] == 1
    own.write_text("name: mine\nwidth: 2\n", encoding="utf-8")
    os.utime(own, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert option_file("module", "mine")["width"] == 2


def test_what_one_caller_changes_another_does_not_see(own: Path) -> None:
    option_file("module", "mine")["width"] = 9
    options("module").clear()

    assert option_file("module", "mine")["width"] == 1
    assert "mine" in options("module")
