"""The source that a module's class stands on: which files it is, and their hash; nothing is imported for it.

What was read is kept for as long as no file or folder that it came from changes, so that a grid of a thousand trials
reads and parses each module once, and a process that lives long still notices an edit.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.config import ConfigError
from ablate.files import FileState, file_state


@dataclass(frozen=True)
class ModuleSource:
    """The source of one class.

    Attributes:
        files: The file of the class, then all files beside and below it that it imports, sorted.
        sha256: Hash of their contents in this order.
        tree: The syntax tree of the first file.
    """

    files: tuple[Path, ...]
    sha256: str
    tree: ast.Module


@dataclass(frozen=True)
class _Read:
    """What was read of a class, and the state of everything that it depends on."""

    source: ModuleSource
    states: tuple[tuple[Path, FileState | None], ...]

    def is_current(self) -> bool:
        """Tell whether no file or folder has changed since."""
        return all(file_state(path) == state for path, state in self.states)


_known: dict[tuple[str, ...], _Read] = {}  # by dotted path and sys.path, which says where it leads


def module_source(target: str) -> ModuleSource:
    """Return the source of the class at a dotted path; read again only where a file or folder of it has changed.

    Raises:
        ConfigError: There is no such Python module, or one of its files is no Python.
    """
    key = (target, str(Path.cwd()), *sys.path)
    known = _known.get(key)
    if known is None or not known.is_current():
        known = _known[key] = _read(target)
    return known.source


def source_file(target: str) -> Path:
    """Return the source file of the class at a dotted path.

    Raises:
        ConfigError: There is no such Python module.
    """
    home = target.rpartition(".")[0]
    try:
        spec = importlib.util.find_spec(home) if home else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ConfigError(
            f"module._target_: '{target}' cannot be found; it must be package.module.Class, importable from here"
        )
    return Path(spec.origin)


def _read(target: str) -> _Read:
    """Read a class's files; their state is taken before, so that an edit meanwhile is noticed the next time."""
    first = source_file(target)
    package = target.rpartition(".")[0].rpartition(".")[0]
    states: dict[Path, FileState | None] = {}
    contents: dict[Path, bytes] = {}
    trees: dict[Path, ast.Module] = {}
    files = [first]
    for path in files:  # it grows meanwhile: what is imported imports in turn
        _note(states, (path, path.parent))
        contents[path] = path.read_bytes()
        trees[path] = _parse(path, contents[path])
        for other in _imported(trees[path], path, first.parent, f"{package}." if package else ""):
            if other not in files:
                files.append(other)
    files = [first, *sorted(files[1:])]
    sha256 = hashlib.sha256(b"".join(contents[path] for path in files)).hexdigest()
    return _Read(ModuleSource(tuple(files), sha256, trees[first]), tuple(states.items()))


def _note(states: dict[Path, FileState | None], paths: Iterable[Path]) -> None:
    """Take the state of files, and of folders, in which a file that appears may be imported instead of another."""
    for path in paths:
        if path not in states:
            states[path] = file_state(path)


def _imported(tree: ast.Module, path: Path, home: Path, package: str) -> Iterator[Path]:
    """Yield the files in `home`, the folder of a package, that a file imports; without importing anything."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" if node.module else alias.name for alias in node.names]
            start = [path, *path.parents][node.level] if node.level else home
        elif isinstance(node, ast.Import):
            names, start = [alias.name for alias in node.names], home
        else:
            continue
        for name in names:
            if start is home and not name.startswith(package):
                continue
            place = start
            for part in name.removeprefix(package if start is home else "").split("."):
                place = place / part
                for file in (place.with_name(f"{part}.py"), place / "__init__.py"):
                    if file.is_relative_to(home) and file.is_file():
                        yield file


def _parse(path: Path, content: bytes) -> ast.Module:
    try:
        return ast.parse(content, filename=str(path))
    except SyntaxError as error:
        raise ConfigError(f"module._target_: {path.name}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # a null byte
        raise ConfigError(f"module._target_: {path.name}: {error}") from error
