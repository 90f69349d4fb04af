"""The option `groups=` of a report: what is no file of groups is refused in one line; the notebook gets the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from ablate.cli.report_command import report_options
from ablate.errors import ConfigError
from ablate.report.notebook import execute

TABLE = "image,group\nimages/val/a.jpg,1\n"


def directory(path: Path) -> None:
    path.mkdir()


def unreadable(path: Path) -> None:
    path.write_text(TABLE)
    path.chmod(0)


def pipe(path: Path) -> None:
    os.mkfifo(path)


BAD: dict[str, tuple[str | bytes | Callable[[Path], None], str]] = {
    "missing.csv": (lambda path: None, "cannot be read"),
    "folder.csv": (directory, "cannot be read"),
    "closed.csv": (unreadable, "cannot be read"),
    "pipe.csv": (pipe, "no plain file"),
    "empty.csv": ("", "columns image and group, not none"),
    "heads.csv": ("image,group\n", "empty"),
    "binary.csv": (bytes(range(256)), "no UTF-8 text"),
    "nul.csv": (b"\0" * 5000, "table of groups"),
    "prose.txt": ("once upon a time, there was no table\n" * 50, "columns image and group"),
    "tabs.tsv": ("image\tgroup\nimages/val/a.jpg\t1\n", "columns image and group"),
    "twice.csv": (TABLE + "images/val/a.jpg,2\n", "line 3: images/val/a.jpg is in the groups 1 and 2"),
    "no-group.csv": (TABLE + "images/val/b.jpg,\n", "line 3: an image and a group are needed"),
    "short.csv": (TABLE + "images/val/b.jpg\n", "line 3"),
    "quote.csv": ('image,group\n"images/val/a.jpg,1\n', "no table of groups"),
    "list.json": ("[1, 2]", "no file of groups"),
    "cut.json": ('{"schema": 1, "groups": {"a', "no file of groups"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_file_of_groups_is_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    content, reason = BAD[name]
    path = tmp_path / name
    if isinstance(content, str | bytes):
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    else:
        content(path)
    if name == "closed.csv" and os.access(path, os.R_OK):  # root reads every file
        refuse = Mock(side_effect=PermissionError(13, "Permission denied"))
        monkeypatch.setattr("ablate.data.groups.read_plain", refuse)
    with pytest.raises(ConfigError, match=reason) as caught:
        report_options([f"groups={path}"])
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 400
    assert message.startswith(f"groups={path}")
    assert "valid: auto, none, or a file of groups" in message


@pytest.mark.parametrize(
    "text", [TABLE, TABLE + "images/val/a.jpg,1\n", '{"schema":1,"source":"me","fingerprint":"","groups":{"a":"1"}}']
)
def test_a_table_is_read_whatever_its_file_is_called(tmp_path: Path, text: str) -> None:
    path = tmp_path / "clips.txt"
    path.write_text(text)
    assert report_options([f"groups={path}"]).groups == str(path)
    assert [report_options([f"groups={word}"]).groups for word in ("auto", "none")] == ["auto", "none"]


def test_a_file_of_this_folder_and_a_link_to_one_elsewhere_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("clips.csv").write_text(TABLE)
    (tmp_path / "patients.csv").write_text(TABLE)
    Path("link.csv").symlink_to(tmp_path / "patients.csv")
    for name in ("clips.csv", "./clips.csv", "../patients.csv", "link.csv"):
        assert report_options([f"groups={name}"]).groups == name


@pytest.mark.parametrize("groups", ["auto", "none", "file"])
def test_the_notebook_gets_the_groups_of_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str
) -> None:
    asked: list[dict[str, Any]] = []

    def execute_notebook(*args: Any, parameters: dict[str, Any], **options: Any) -> Any:
        import nbformat

        asked.append(parameters)
        return nbformat.v4.new_notebook()

    monkeypatch.setitem(
        __import__("sys").modules,
        "papermill",
        SimpleNamespace(execute_notebook=execute_notebook, PapermillExecutionError=RuntimeError),
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    execute(
        tmp_path / "sweeps", tmp_path / "sweeps" / "comparison.ipynb", groups="t.csv" if groups == "file" else groups
    )
    assert asked[0].get("groups") == {"auto": None, "none": "none", "file": "../t.csv"}[groups]
