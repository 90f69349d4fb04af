"""Find the classes of a user's code by their names, from source alone: nothing is imported.

The code is a file, a package, or a folder, such as a fork of Ultralytics with modules of its own.
"""

from __future__ import annotations

import ast
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ablate.errors import ConfigError
from ablate.sources.definitions import is_network_module
from ablate.sources.distributions import distribution_of
from ablate.sources.module_source import module_source
from ablate.sources.python_imports import find_module, find_modules, split_target
from ablate.sources.working_folder import FORKED, OF_FORK, allow_code

MOST_FILES = 5_000
MOST_BYTES = 4 * 2**20  # of one file
_BUILDER = "tasks.py"  # Ultralytics' file that builds networks: what it imports decides between two of one name


@dataclass(frozen=True)
class Code:
    """A user's code.

    Attributes:
        path: The file or folder that the user named.
        root: The folder that holds its file or package: where Python would look for it.
    """

    path: Path
    root: Path

    @classmethod
    def at(cls, path: Path) -> Code:
        """Return the code at a path.

        Raises:
            ConfigError: There is no such file or folder, or it holds no Python.
        """
        path = path.expanduser().absolute()
        if path.is_file() and path.suffix != ".py":
            raise ConfigError(f"--code={path}: a Python file, a package or a folder of these is needed")
        if not path.exists():
            raise ConfigError(f"--code={path}: no such file or folder")
        fork = next((folder for folder in (path, *path.parents) if _is_fork(folder)), None)
        if fork is not None:  # its folders are parts of the package with or without an __init__.py
            return cls(path, fork.parent)
        root = path if path.is_dir() and not (path / "__init__.py").is_file() else path.parent
        while (root / "__init__.py").is_file():
            root = root.parent  # out of its package
        return cls(path, root)

    def allow(self) -> None:
        """Let the classes that are named be imported from here, in this process."""
        allow_code(self.root)

    def holds(self, target: str) -> bool:
        """Tell whether a dotted path leads into this code; and in an installed package to a class of modules.

        Else a network file of a stranger could have any function called that this machine has. Of a file that does not
        exist whoever looks for it says so.

        Raises:
            ConfigError: An installed package has no such name.
        """
        home = split_target(target)[0]
        if home.partition(".")[0] in sys.stdlib_module_names:
            return False
        module = find_module(home)
        if module is None:
            return True
        if not module.path.resolve().is_relative_to(self.root.resolve()) and not module.path.is_relative_to(self.root):
            return False
        return (
            distribution_of(module.top, module.root) is None
            or is_network_module(module_source(target).definition) is True
        )

    def find(self, names: Iterable[str]) -> dict[str, str]:
        """Return the dotted paths of the classes (or functions that build layers) of these names, as far as they exist.

        A name that several files define is that of the file from which the fork's builder of networks imports it, else
        of the first one by path.

        Raises:
            ConfigError: A name is defined nowhere, and a file with this name in it is no Python.
        """
        wanted = set(names)
        unreadable: dict[str, str] = {}  # name -> why a file that has it in its text cannot be read
        definitions: dict[str, dict[str, None]] = {}
        builders: dict[str, str] = {}
        for file in self._files():
            text = ""
            try:
                text = file.read_text(encoding="utf-8-sig", errors="replace")
                if not any(name in text for name in wanted):
                    continue
                tree = ast.parse(text)
            except (OSError, SyntaxError, ValueError, RecursionError, MemoryError) as error:
                reason = f"{file}{_line_of(error)}: it is no Python that can be read"
                unreadable |= {name: reason for name in wanted if name in text}
                continue  # another file may define it
            if file.name == _BUILDER:
                builders |= _imported(tree, wanted)
                continue
            for name in _defined(tree, wanted):
                definitions.setdefault(name, {})[self._dotted(file)] = None
        targets = {}
        for name, homes in definitions.items():
            preferred = builders.get(name)
            home = next((it for it in homes if it.removesuffix(OF_FORK) == preferred), next(iter(homes)))
            targets[name] = f"{home}.{name}"
        for name, reason in unreadable.items():
            if name not in targets:
                raise ConfigError(f"{reason}, and no other file defines {name}")
        return targets

    def _dotted(self, file: Path) -> str:
        parts = [*file.relative_to(self.root).parent.parts, *([] if file.name == "__init__.py" else [file.stem])]
        name = ".".join(parts)
        if parts[0] == FORKED and any(module.name == name for module in find_modules(name) if module.path != file):
            return name + OF_FORK
        return name

    def _files(self) -> Iterator[Path]:
        """Yield the Python files of the code that can be imported, in the order of their paths.

        Raises:
            ConfigError: There are more than a package has.
        """
        if self.path.is_file():
            yield self.path
            return
        count = 0
        for folder, folders, files in os.walk(self.path):
            folders[:] = sorted(name for name in folders if name.isidentifier() and name != "__pycache__")
            for name in sorted(files):
                file = Path(folder) / name
                if file.suffix != ".py" or not file.stem.isidentifier() or file.stat().st_size > MOST_BYTES:
                    continue
                count += 1
                if count > MOST_FILES:
                    raise ConfigError(f"--code={self.path}: more than {MOST_FILES:,} Python files; name a folder in it")
                yield file


def _line_of(error: BaseException) -> str:
    return f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""


def _is_fork(folder: Path) -> bool:
    """Tell whether a folder is the package of a fork, and not one that holds it under the same name."""
    return folder.name == FORKED and ((folder / "__init__.py").is_file() or (folder / "nn").is_dir())


def _defined(tree: ast.Module, wanted: set[str]) -> Iterator[str]:
    """Yield the names that a file's top level defines: classes, functions, and names that stand for one."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name in wanted:
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.value, ast.Name | ast.Call | ast.Attribute):
            yield from (it.id for it in node.targets if isinstance(it, ast.Name) and it.id in wanted)
        elif isinstance(node, ast.Try | ast.If):
            yield from _defined(ast.Module(node.body, []), wanted)


def _imported(tree: ast.Module, wanted: set[str]) -> dict[str, str]:
    """Return from which module a file imports each name."""
    return {
        alias.asname or alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
        if (alias.asname or alias.name) in wanted
    }
