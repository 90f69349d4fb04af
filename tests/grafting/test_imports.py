"""Which source of a user's module a process runs is known, also where the file has changed since."""

from __future__ import annotations

import importlib
import os
import py_compile
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ablate.grafting import module_import as imports
from ablate.grafting.construction import load_class
from ablate.sources.module_source import module_source

MINE = "imported_blocks.Block"
SOURCE = "from torch import nn\nfrom imported_helper import SCALE\n\n\nclass Block(nn.Identity):\n    scale = SCALE\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "imported_blocks.py").write_text(SOURCE, encoding="utf-8")
    (tmp_path / "imported_helper.py").write_text("SCALE = 1\n", encoding="utf-8")
    yield tmp_path
    for name in ("imported_blocks", "imported_helper"):
        sys.modules.pop(name, None)


def rewrite(path: Path, content: str) -> None:
    """Write other content of the same size, and set the time of modification back."""
    before = path.stat()
    assert before.st_size == len(content)
    path.write_text(content, encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    importlib.invalidate_caches()


def test_a_process_that_has_imported_nothing_is_up_to_date(folder: Path) -> None:
    assert imports.outdated([MINE]) == []
    rewrite(folder / "imported_helper.py", "SCALE = 2\n")
    assert imports.outdated([MINE]) == []
    assert load_class(MINE).scale == 2


@pytest.mark.parametrize("name", ["imported_blocks.py", "imported_helper.py"])
def test_an_edit_after_the_import_makes_it_outdated(folder: Path, name: str) -> None:
    load_class(MINE)
    trained = imports.imported_source(MINE)
    assert trained == module_source(MINE).sha256

    path = folder / name
    content = path.read_text(encoding="utf-8")
    rewrite(path, content.replace("1", "2").replace("scale = ", "scale  ="))

    assert imports.outdated([MINE]) == [MINE]
    assert imports.imported_source(MINE) == trained, "what this process runs has not changed"
    assert imports.edited_late([MINE]) == [], "nor can it"
    rewrite(path, content)
    assert imports.outdated([MINE]) == []


def test_a_helper_that_another_class_brought_along_counts(folder: Path) -> None:
    (folder / "imported_other.py").write_text(SOURCE, encoding="utf-8")
    load_class(MINE)
    rewrite(folder / "imported_helper.py", "SCALE = 2\n")

    assert imports.outdated(["imported_other.Block"]) == ["imported_other.Block"]


def test_a_module_edited_while_it_is_imported_is_of_unknown_source(folder: Path) -> None:
    text = (
        "from pathlib import Path\nfrom torch import nn\nhere = Path(__file__)\n"
        "here.write_text(here.read_text().replace('size = 1', 'size = 2'))\n"
        "class Block(nn.Identity):\n    size = 1\n"
    )
    (folder / "imported_blocks.py").write_text(text, encoding="utf-8")

    load_class(MINE)

    assert imports.imported_source(MINE) == imports.UNKNOWN
    assert imports.outdated([MINE]) == [MINE]


def test_a_compiled_copy_of_other_content_is_not_imported(folder: Path) -> None:
    helper = folder / "imported_helper.py"
    py_compile.compile(str(helper), doraise=True)
    rewrite(helper, "SCALE = 2\n")
    importlib.import_module("imported_helper")
    assert sys.modules.pop("imported_helper").SCALE == 1, "Python itself does not notice"

    assert load_class(MINE).scale == 2
    assert imports.outdated([MINE]) == []


def test_what_was_imported_before_anybody_looked_counts_where_it_has_not_changed_since(folder: Path) -> None:
    importlib.import_module("imported_blocks")  # just written: it may have been another file before

    assert imports.outdated([MINE]) == [MINE]


def test_what_was_imported_on_another_way_after_an_edit_is_of_unknown_source(folder: Path) -> None:
    assert imports.outdated([MINE]) == []
    rewrite(folder / "imported_helper.py", "SCALE = 2\n")
    importlib.import_module("imported_blocks")  # as loading a checkpoint does

    load_class(MINE)

    assert imports.imported_source(MINE) == imports.UNKNOWN
    assert imports.outdated([MINE]) == [MINE]
