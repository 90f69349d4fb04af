"""The data files that a module's source stands on: tables, weights, kernels.

Two rules. Of a package every file counts that lies in the folder of a module that is read, or in a folder below that
holds no Python (`assets/`, `weights/`); caches, documents and logs do not. And anywhere a file counts that the source
names in its text: ``Path(__file__).parent / "tables" / "gauss.npy"``, ``f"table_{size}.json"``, ``"*.npy"``. A single
file in a working folder has the second rule only, since a data set may lie beside it.
"""

from __future__ import annotations

import ast
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from ablate.sources.python_imports import PythonModule
from ablate.storage.files import file_sha256
from ablate.storage.layout import OutputFolder

MOST_FILES = 256  # of one folder tree; of a larger one only those count that the source names
MOST_BYTES = 256 * 2**20
WHOLE_BYTES = 2**30  # of a larger file the size, the first and the last MiB are hashed
_PIECE = 2**20

_LEFT_OUT = {".py", ".pyc", ".pyo", ".pyi", ".md", ".rst", ".ipynb", ".html", ".log", ".o", ".d", ".tmp", ".bak",
             ".orig", ".rej", ".swp", ".nbi", ".nbc", ".typed", ".lock"}  # fmt: skip
_LEFT_OUT_NAMES = {"LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS", "CHANGELOG", "README", "TODO", "Makefile"}
_LEFT_OUT_FOLDERS = {"build", "dist", "multirun", "outputs", "runs", "mlruns", "mlartifacts", "wandb", "node_modules"}
_C_SUFFIXES = {".c", ".cc", ".cpp", ".cxx", ".cu", ".cuh", ".h", ".hpp", ".inl"}
_INCLUDE = re.compile(rb'^\s*#\s*include\s+"([^"\n]+)"', re.MULTILINE)
_FORMATTED = re.compile(r"\{[^{}]*\}|%[-#0 +]*\d*(?:\.\d+)?[diouxXeEfFgGcrsa]")
_LONGEST = 200  # characters of a text that may be a path


@dataclass
class DataFiles:
    """Files that count, and the folders that were looked through for them.

    Attributes:
        files: By the name under which a file enters the hash: its path below the root, or as the source has it.
        folders: Where a new file may count as well.
    """

    files: dict[str, Path] = field(default_factory=dict)
    folders: dict[Path, None] = field(default_factory=dict)

    def add(self, path: Path, root: Path, label: str | None = None) -> None:
        """Count a file, and what it includes if it is C."""
        name = label or (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
        if name in self.files:
            return
        self.files[name] = path
        for included in _included(path):
            self.add(included, root)


def data_files(modules: Iterable[tuple[PythonModule, ast.Module]]) -> DataFiles:
    """Return the data files of modules of the user's, given with their syntax trees."""
    data = DataFiles()
    sources = {module.path for module, _ in modules}
    for folder, root in dict.fromkeys((module.path.parent, module.root) for module, _ in modules if module.in_package):
        for path in _of_package(folder, data):
            data.add(path, root)
    for module, tree in modules:
        texts = _Texts.of(tree, module.path)
        for folder in _bases(module):
            data.folders[folder] = None
            for path in _named(folder, texts):
                if path not in sources:
                    data.add(path, module.root)
        for text in texts.paths:
            path = Path(text).expanduser()
            if path.is_file() and path.absolute() not in [*sources, *data.files.values()]:
                data.add(path.absolute(), module.root, None if path.absolute().is_relative_to(module.root) else text)
    return data


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hex digits; of a very large one that of its size and its two ends."""
    size = path.stat().st_size
    if size <= WHOLE_BYTES:
        return file_sha256(path)
    with path.open("rb") as file:
        ends = file.read(_PIECE)
        file.seek(size - _PIECE)
        return hashlib.sha256(f"{size}:".encode() + ends + file.read(_PIECE)).hexdigest()


@dataclass(frozen=True)
class _Texts:
    """The texts of a source that may name files.

    Attributes:
        words: Names of files and folders as they are.
        patterns: Names with `*` where the source computes a part.
        paths: Texts that may be whole paths, absolute or from the working folder.
    """

    words: frozenset[str]
    patterns: tuple[str, ...]
    paths: tuple[str, ...]

    @classmethod
    def of(cls, tree: ast.Module, path: Path) -> _Texts:
        """Return the texts of a syntax tree; `path` is its file, whose name `with_suffix` changes."""
        words: set[str] = set()
        patterns: set[str] = set()
        paths: dict[str, None] = {}
        for node in ast.walk(tree):
            text = _pattern(node)
            if text is None or len(text) > _LONGEST or "\n" in text:
                continue
            if "*" not in text and re.search(r"[./]", text):
                paths[text] = None
            for part in re.split(r"[/\\]", text):
                if "*" in part or "?" in part:
                    patterns.add(part)
                elif part.startswith(".") and part.strip("."):
                    words |= {part, path.stem + part}
                elif part:
                    words.add(part)
        telling = [pattern for pattern in sorted(patterns) if len(re.sub(r"[*?.]", "", pattern)) >= 2]
        return cls(frozenset(words), tuple(telling), tuple(paths))

    def match(self, name: str) -> bool:
        """Tell whether the source names a file or folder of this name."""
        return name in self.words or any(fnmatchcase(name, pattern) for pattern in self.patterns)


def _pattern(node: ast.AST) -> str | None:
    """Return the text that an expression makes, with `*` for what is computed; None where it makes none."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return _FORMATTED.sub("*", node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_pattern(value) or "*" for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _pattern(node.left), _pattern(node.right)
        return None if left is None and right is None else f"{left or '*'}{right or '*'}"
    return None


def _bases(module: PythonModule) -> list[Path]:
    """Return the folders that a source's texts may start from: its own, and those above it up to its root."""
    home = module.path.parent
    above = [folder for folder in home.parents if folder.is_relative_to(module.root)]
    return [home, *(above if home.is_relative_to(module.root) else [])]


def _named(folder: Path, texts: _Texts, depth: int = 8) -> Iterator[Path]:
    """Yield the files of a folder that a source names, and those in folders that it names."""
    for entry in _entries(folder):
        if not texts.match(entry.name):
            continue
        path = Path(entry.path)
        if entry.is_file():
            yield path
        elif entry.is_dir() and depth and not _is_left_out(path):
            inside = list(_named(path, texts, depth - 1))
            yield from inside or _bounded(path for path in _below(path, with_python=True))


def _of_package(folder: Path, data: DataFiles) -> list[Path]:
    """Return the data files of a package's folder and of the folders below it that hold no Python."""
    data.folders[folder] = None
    below = []
    for path in _below(folder, with_python=False):
        below.append(path)
        data.folders[path.parent] = None
        if len(below) > MOST_FILES:
            break
    return _bounded(below)


def _below(folder: Path, *, with_python: bool) -> Iterator[Path]:
    """Yield the data files of a folder and those below it."""
    entries = _entries(folder)
    yield from (Path(entry.path) for entry in entries if entry.is_file() and _is_data(entry.name))
    for entry in entries:
        path = Path(entry.path)
        if not entry.is_dir(follow_symlinks=False) or _is_left_out(path):
            continue
        if with_python or not any(inner.name.endswith(".py") for inner in _entries(path)):
            yield from _below(path, with_python=with_python)


def _bounded(paths: Iterable[Path]) -> list[Path]:
    """Return the paths, or none where they are too many or too large."""
    taken: list[Path] = []
    size = 0
    for path in paths:
        taken.append(path)
        size += path.stat().st_size
        if len(taken) > MOST_FILES or size > MOST_BYTES:
            return []
    return taken


def _is_data(name: str) -> bool:
    if name.startswith(".") or name.endswith("~") or name in _LEFT_OUT_NAMES:
        return False
    return Path(name).suffix.lower() not in _LEFT_OUT


def _is_left_out(folder: Path) -> bool:
    """Tell whether a folder holds caches or results: of tools, or of a sweep of ours, which grow as it runs."""
    name = folder.name
    if name.startswith((".", "__pycache__")) or name in _LEFT_OUT_FOLDERS:
        return True
    output = OutputFolder(folder)
    return output.trials.is_dir() or output.database.is_file()


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []


def _included(path: Path) -> list[Path]:
    if path.suffix not in _C_SUFFIXES:
        return []
    try:
        names = _INCLUDE.findall(path.read_bytes())
    except OSError:
        return []
    places = [path.parent / name.decode(errors="replace") for name in names]
    return [Path(os.path.normpath(place)) for place in places if place.is_file()]
