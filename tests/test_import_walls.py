"""The package imports nothing of its surroundings, tests import no benchmarks, and benchmarks import no tests."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Folder -> the folders of this repository that its files may not import.
WALLS = {
    "src": ("tests", "benchmarks", "simulated"),
    "simulated": ("tests", "benchmarks"),
    "tests": ("benchmarks",),
    "benchmarks": ("tests",),
}
SCRIPTS = {file.stem for file in (ROOT / "benchmarks").glob("*.py")}  # which import one another by these names


def imported(file: Path) -> Iterator[str]:
    """Yield the dotted names that a file imports, and those of functions that it has another process import."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)
        elif isinstance(node, ast.Constant) and re.fullmatch(r"[\w.]+:\w+", str(node.value)):
            yield str(node.value).partition(":")[0]


@pytest.mark.parametrize("folder", WALLS)
def test_what_lies_behind_a_wall_is_not_imported(folder: str) -> None:
    forbidden = {*WALLS[folder], *(SCRIPTS if "benchmarks" in WALLS[folder] else ())}
    files = sorted((ROOT / folder).rglob("*.py"))
    crossings = [f"{file.relative_to(ROOT)}: {name}" for file in files for name in imported(file)
                 if name.partition(".")[0] in forbidden]  # fmt: skip
    assert files
    assert not crossings
