"""A module's source is read once for a whole grid, and an edit is noticed whatever the clock says."""

from __future__ import annotations

import ast
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ablate.errors import ConfigError
from ablate.sources.module_source import module_source
from ablate.storage.files import file_sha256

TARGET = "written_by_hand.block.Block"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "written_by_hand", raising=False)  # that of another test
    folder = tmp_path / "written_by_hand"
    folder.mkdir()
    (folder / "__init__.py").write_text("", encoding="utf-8")
    (folder / "block.py").write_text("from .beside import a\nclass Block:\n    pass\n", encoding="utf-8")
    (folder / "beside.py").write_text("a = 1\n", encoding="utf-8")
    return folder


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are parsed from here on."""
    names: list[str] = []
    real = ast.parse

    def counting(source: Any, filename: str = "", *arguments: Any, **options: Any) -> Any:
        names.append(Path(filename).name)
        return real(source, filename, *arguments, **options)

    monkeypatch.setattr(ast, "parse", counting)
    return names


def test_a_module_is_parsed_once_however_often_it_is_asked_for(package: Path, parsed: list[str]) -> None:
    sources = [module_source(TARGET) for _ in range(100)]

    assert parsed == ["block.py", "__init__.py", "beside.py"]
    assert {source.sha256 for source in sources} == {sources[0].sha256}
    assert [path.name for path in sources[0].files] == ["block.py", "__init__.py", "beside.py"]


def test_an_edit_of_equal_length_with_the_old_times_is_noticed(package: Path) -> None:
    before, file = module_source(TARGET).sha256, package / "beside.py"
    times = file.stat()
    file.write_text("a = 2\n", encoding="utf-8")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert module_source(TARGET).sha256 != before


def test_a_file_that_appears_and_one_that_goes_are_noticed(package: Path) -> None:
    before = module_source(TARGET)
    (package / "beside").mkdir()
    (package / "beside" / "__init__.py").write_text("", encoding="utf-8")
    after = module_source(TARGET)
    (package / "beside.py").unlink()

    assert len(after.files) == len(before.files) + 1
    assert "beside.py" not in [path.name for path in module_source(TARGET).files]


def test_of_two_files_of_one_name_the_first_on_the_path_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "lonely_block.py").write_text(f"class Block:\n    '''{name}'''\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "second")
    second = module_source("lonely_block.Block")
    monkeypatch.syspath_prepend(tmp_path / "first")

    assert module_source("lonely_block.Block").sha256 != second.sha256


@pytest.mark.parametrize(
    "content", [b"class Block(:\n", b"class Block:\n    x = '\x00'\n", b"class Block:\n    x = '\xff'\n"]
)
def test_a_file_that_is_no_python_is_a_mistake_of_the_user(package: Path, content: bytes) -> None:
    (package / "block.py").write_bytes(content)

    with pytest.raises(ConfigError, match=r"block\.py"):
        module_source(TARGET)


def test_a_file_s_hash_is_read_again_only_where_it_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, opened = tmp_path / "weights.pt", []
    file.write_bytes(b"one")
    real = Path.open

    def counting(self: Path, *arguments: Any, **options: Any) -> Any:
        opened.append(self)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", counting)
    hashes = [file_sha256(file) for _ in range(5)]
    assert len(opened) == len(set(hashes)) == 1
    times = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert file_sha256(file) != hashes[0]
