"""Python modules as files: where a dotted name lies, and what a file imports."""

from __future__ import annotations

import ast
import importlib.util
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

from ablate.errors import ConfigError
from ablate.sources.working_folder import FORKED, code_root_of, code_roots, forked_file

_IMPORTERS = ("import_module", "__import__")  # called with a module's name
_LISTERS = ("iter_modules", "walk_packages")  # whose result decides what is imported


@dataclass(frozen=True)
class PythonModule:
    """A module and its file.

    Attributes:
        name: Dotted name.
        path: Its ``.py`` file, or the file of an extension module.
        root: The folder in which its top-level name lies: of `sys.path`, of an editable install, or the working folder.
    """

    name: str
    path: Path
    root: Path

    @property
    def top(self) -> str:
        """The top-level name, such as ``timm`` of ``timm.layers.cbam``."""
        return self.name.partition(".")[0]

    @property
    def is_source(self) -> bool:
        """Whether it is a Python file, not an extension module."""
        return self.path.suffix == ".py"

    @property
    def is_package(self) -> bool:
        """Whether it is the ``__init__.py`` of a package."""
        return self.path.name == "__init__.py"

    @property
    def in_package(self) -> bool:
        """Whether its folder is a package's, with or without an ``__init__.py``; not a folder of single files."""
        return self.is_package or "." in self.name

    @property
    def package(self) -> str:
        """Dotted name that relative imports start from; empty for a single file."""
        return self.name if self.is_package else self.name.rpartition(".")[0]


@dataclass(frozen=True)
class Imports:
    """What a file imports, wherever in it.

    Attributes:
        names: Dotted names; the last part may be a class or function of a module.
        stars: Modules of which everything is imported.
        computed: Whether it also imports modules whose names its text does not hold.
    """

    names: tuple[str, ...]
    stars: tuple[str, ...]
    computed: bool


@lru_cache(maxsize=16)  # classes of one package stand on the same few files; a tree takes much memory
def parse(path: Path, content: bytes) -> ast.Module:
    """Return a file's syntax tree, which nobody changes.

    Raises:
        ConfigError: It is no Python.
    """
    try:
        return ast.parse(content, filename=str(path))
    except SyntaxError as error:
        raise ConfigError(f"module._target_: {path.name}, line {error.lineno}: {error.msg}") from error
    except ValueError as error:  # a null byte
        raise ConfigError(f"module._target_: {path.name}: {error}") from error


def find_modules(name: str) -> list[PythonModule]:
    """Return the modules that importing a dotted name runs, outermost first.

    Parts after the last module (a class, a function) are left alone. Where a package and a file have one name, both
    are returned, the package first.
    """
    top, *rest = name.split(".")
    if not all(part.isidentifier() for part in (top, *rest)):
        return []
    root, folders, modules = _find_top(top)
    if root is None:
        return []
    dotted = top
    for part in rest:
        dotted = f"{dotted}.{part}"
        files = [file for folder in folders for file in _files_of(folder, part)]
        if not files and top == FORKED and (forked := forked_file(dotted)) is not None:
            root, folders, files = _root_of(forked, root), [], [forked]
            modules.append(PythonModule(dotted, forked, root))
            folders = [forked.parent] if forked.name == "__init__.py" else []
            continue
        folders = [folder / part for folder in folders if (folder / part).is_dir()]
        modules += [PythonModule(dotted, file, root) for file in files]
        if not files and not folders:
            break
    return modules


def find_module(name: str) -> PythonModule | None:
    """Return the module of exactly this dotted name, or None."""
    return next((module for module in find_modules(name) if module.name == name), None)


def split_target(target: str) -> tuple[str, str]:
    """Return the module of a dotted path, and the name in it: a class, or with a dot what is an attribute of one."""
    home, _, name = target.rpartition(".")
    parts = home.split(".")
    for count in range(len(parts), 0, -1):
        inner = ".".join(parts[:count])
        if find_module(inner) is not None:
            return inner, ".".join([*parts[count:], name])
    return home, name


def imports_of(tree: ast.Module, module: PythonModule) -> Imports:
    """Return what a module imports, in functions and `try` blocks too."""
    names: dict[str, None] = {}
    stars: dict[str, None] = {}
    computed = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = absolute_name("." * node.level + (node.module or ""), module.package)
            if any(alias.name == "*" for alias in node.names):
                stars[base] = None
            names |= dict.fromkeys(f"{base}.{alias.name}" for alias in node.names if alias.name != "*")
        elif isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
            argument = node.args[0] if node.args else None
            if called in _LISTERS:
                computed = True
            elif called in _IMPORTERS and isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                names[absolute_name(argument.value, module.package)] = None
            elif called in _IMPORTERS:
                computed = True
    return Imports(tuple(names), tuple(stars), computed)


def absolute_name(name: str, package: str) -> str:
    """Return the dotted name that a name with leading dots means in a package."""
    level = len(name) - len(name.lstrip("."))
    if level == 0:
        return name
    start = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*start, *filter(None, [name[level:]])])


def exported(tree: ast.Module) -> list[str]:
    """Return the names in a module's ``__all__``, as far as they are written out."""
    names: list[str] = []
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
            values = ast.walk(node.value) if isinstance(node, ast.Assign | ast.AugAssign) else []
            names += [item.value for item in values if isinstance(item, ast.Constant) and isinstance(item.value, str)]
    return names


def _find_top(top: str) -> tuple[Path | None, list[Path], list[PythonModule]]:
    """Return the root of a top-level name, the folders of its submodules, and the files that importing it runs.

    The working folder comes last, as where it is imported (`ablate.sources.working_folder`).
    """
    portions: list[Path] = []  # of a namespace package, which has no __init__.py
    for entry in dict.fromkeys(sys.path):
        root = Path(entry or os.curdir).absolute()
        if _files_of(root, top):
            return _find_in(root, top)
        if (root / top).is_dir():
            portions.append(root / top)
    if portions:
        return portions[0].parent, portions, []
    if (named := code_root_of(top)) is not None:
        return _find_in(named, top)
    found = _from_finders(top)
    return found if found[0] is not None else _find_in(Path.cwd(), top)


def _root_of(file: Path, default: Path) -> Path:
    """Return the folder of named code that a file lies in."""
    return next((root for root in code_roots() if file.is_relative_to(root)), default)


def _find_in(root: Path, top: str) -> tuple[Path | None, list[Path], list[PythonModule]]:
    """Look for a top-level name in a folder, as `_find_top` does in all of `sys.path`."""
    files = _files_of(root, top)
    folders = [root / top] if (root / top).is_dir() else []
    return (root, folders, [PythonModule(top, file, root) for file in files]) if files or folders else (None, [], [])


def _from_finders(top: str) -> tuple[Path | None, list[Path], list[PythonModule]]:
    """Ask the other finders, such as that of an editable install; a top-level name is found without being imported."""
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError, AttributeError):
        return None, [], []
    if spec is None:
        return None, [], []
    folders = [Path(folder) for folder in spec.submodule_search_locations or []]
    files = [Path(spec.origin)] if spec.has_location and spec.origin and Path(spec.origin).is_file() else []
    if not files and not folders:
        return None, [], []
    root = folders[0].parent if folders else files[0].parent
    return root, folders, [PythonModule(top, file, root) for file in files]


def _files_of(folder: Path, name: str) -> Iterator[Path] | list[Path]:
    """Return the files that a name means in a folder, the one that Python would take first."""
    places = [folder / name / "__init__.py", folder / f"{name}.py"]
    places[1:1] = [folder / f"{name}{suffix}" for suffix in EXTENSION_SUFFIXES]
    return [place for place in places if place.is_file()]
