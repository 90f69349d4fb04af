"""The source that a module's class stands on: which files it is, and their hash; nothing is imported for it.

What was read is kept for as long as no file or folder that it came from changes, so that a grid of a thousand trials
reads and parses each module once, and a process that lives long still notices an edit. What counts, and why, stands in
docs/signatures.md.
"""

from __future__ import annotations

import ast
import hashlib
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from ablate.errors import ConfigError, nearest
from ablate.sources.data_files import content_hash, data_files
from ablate.sources.definitions import LOSSES, OURS, Definition, find_definition, names_of
from ablate.sources.distributions import Distribution, distribution_of, metadata_files
from ablate.sources.python_imports import (
    Imports,
    PythonModule,
    exported,
    find_module,
    find_modules,
    imports_of,
    parse,
    split_target,
)
from ablate.sources.same_source import first_source
from ablate.sources.working_folder import FORKED, code_roots
from ablate.storage.files import FileState, file_state

# Recorded with every trial and compared between a variant and its baseline (`records.code_version`): no part of the
# source of a user's class that imports them.
RECORDED = ("numpy", "torch", "torchvision", "ultralytics")
FEW = 20  # names that a message lists


@dataclass(frozen=True)
class ModuleSource:
    """The source of one class.

    Attributes:
        files: The file that its dotted path names, then every Python file of the user's (or ours) that it imports.
        data: The data files that it stands on, by the name under which they are hashed.
        distributions: The installed distributions that its source comes from or imports.
        definition: The class where it is defined, which may be another file than the one that is named.
        sha256: Hash of all of it; of a class of ours that of the first version that computes the same.
    """

    files: tuple[Path, ...]
    data: tuple[tuple[str, Path], ...]
    distributions: tuple[Distribution, ...]
    definition: Definition
    sha256: str


@dataclass(frozen=True)
class _Read:
    """What was read of a class, and the state of everything that it depends on."""

    source: ModuleSource
    states: tuple[tuple[Path, FileState | None], ...]

    def is_current(self) -> bool:
        """Tell whether no file or folder has changed since."""
        return all(file_state(path) == state for path, state in self.states)


@dataclass
class _Reading:
    """What has been read so far of a class.

    Attributes:
        states: The state of each file and folder, taken before it was read, so that an edit meanwhile is noticed.
        contents: Bytes of each Python file.
        trees: Its syntax tree.
        modules: The modules of the user's (or ours) that were read, by file.
        distributions: Those that the source comes from or imports.
    """

    states: dict[Path, FileState | None] = field(default_factory=dict)
    contents: dict[Path, bytes] = field(default_factory=dict)
    trees: dict[Path, ast.Module] = field(default_factory=dict)
    modules: dict[Path, PythonModule] = field(default_factory=dict)
    distributions: dict[Distribution, None] = field(default_factory=dict)

    def note(self, paths: Iterable[Path]) -> None:
        """Take the state of files, and of folders, in which a file that appears may count as well."""
        for path in paths:
            if path not in self.states:
                self.states[path] = file_state(path)

    def read(self, module: PythonModule) -> None:
        """Read and parse a module's file.

        Raises:
            ConfigError: It cannot be read, or is no Python.
        """
        path = module.path
        self.note((path, path.parent, module.root))
        try:
            self.contents[path] = path.read_bytes()
        except OSError as error:
            raise ConfigError(f"module._target_: {path}: {error.strerror}") from error
        self.trees[path] = parse(path, self.contents[path])


_known: dict[tuple[str, ...], _Read] = {}  # by dotted path and sys.path, which says where it leads


def module_source(target: str) -> ModuleSource:
    """Return the source of the class at a dotted path; read again only where a file or folder of it has changed.

    Raises:
        ConfigError: There is no such Python module or class, or one of its files is no Python.
    """
    key = (target, str(Path.cwd()), *map(str, code_roots()), *sys.path)
    entry = _known.get(key)
    if entry is None or not entry.is_current():
        entry = _known[key] = _read(target)
    return entry.source


def _read(target: str) -> _Read:
    """Read all that a class stands on."""
    home, name = split_target(target)
    first = _named_module(target)
    reading = _Reading()
    reading.note([Path.cwd()])
    if first.is_source:
        reading.read(first)
        definition = find_definition(first, reading.trees[first.path], name)
    else:  # compiled: what it holds is known once it is imported
        definition = Definition(first, ast.Module([], []), None)
    if definition is None:
        valid = names_of(first, reading.trees[first.path])
        few = 0 < len(valid) <= FEW
        holds = f"it has {', '.join(valid)}" if few else f"it has {len(valid)} others" if valid else "it has no class"
        raise ConfigError(f"module._target_: {home} has no class '{name}'; {nearest(name, valid)}{holds}")
    if first.top == "ablate":
        first = definition.module  # whichever way it is named
    distribution = None if first.top == "ablate" else distribution_of(first.top, first.root)
    if distribution is not None:
        return _installed(reading, definition, distribution)
    reading.modules[first.path] = first
    _follow(reading, [first, definition.module])
    others = [path for path in reading.modules if path != first.path]
    files = [first.path, *sorted(others, key=lambda path: _below(path, reading.modules[path].root))]
    pairs = [(module, reading.trees[path]) for path, module in reading.modules.items() if path in reading.trees]
    users = [(module, tree) for module, tree in pairs if module.top != "ablate"]
    data = data_files(users)
    binary = {module.name: path for path, module in reading.modules.items() if not module.is_source}
    named = sorted({**data.files, **binary}.items())
    reading.note([*data.folders, *(path for _, path in named), *metadata_files(reading.distributions)])
    distributions = tuple(sorted(reading.distributions, key=str))
    sources = [path for path in files if path in reading.contents]
    digest = hashlib.sha256(b"".join(reading.contents[path] for path in sources))
    for label, path in named:  # nothing where there is none: then the hash is that of the source alone, as it was
        digest.update(f"\0{label}\0{content_hash(path)}\n".encode())
    for each in distributions:
        digest.update(f"\0{each}\n".encode())
    content = first_source(digest.hexdigest()) if first.top == "ablate" else digest.hexdigest()
    source = ModuleSource(tuple(sources), tuple(named), distributions, definition, content)
    return _Read(source, tuple(reading.states.items()))


def _installed(reading: _Reading, definition: Definition, distribution: Distribution) -> _Read:
    """Return the source of a class of an installed package: its version, and the one file that defines it."""
    path = definition.module.path
    reading.note((path, *metadata_files([distribution])))
    files: list[Path] = []
    binary: list[tuple[str, Path]] = []
    if definition.module.is_source:
        reading.read(definition.module)
        content = reading.contents[path]
        files.append(path)
    else:
        content = content_hash(path).encode()
        binary.append((definition.module.name, path))
    digest = hashlib.sha256(f"{distribution}\n".encode() + content)
    source = ModuleSource(tuple(files), tuple(binary), (distribution,), definition, digest.hexdigest())
    return _Read(source, tuple(reading.states.items()))


def _named_module(target: str) -> PythonModule:
    """Return the module that the dotted path of a class names.

    Raises:
        ConfigError: There is none.
    """
    home = split_target(target)[0]
    module = find_module(home) if home else None
    if module is not None:
        return module
    guess = ""
    parent = home.rpartition(".")[0]
    package = find_module(parent) if parent else None
    if home and (not parent or (package is not None and package.is_package)):
        folder = Path.cwd() if package is None else package.path.parent
        beside = [path.stem for path in folder.glob("*.py") if path.stem.isidentifier()]
        guess = nearest(home, [".".join(filter(None, [parent, name])) for name in beside])
    raise ConfigError(
        f"module._target_: '{target}' cannot be found; {guess}it must be package.module.Class, importable from here"
    )


def _follow(reading: _Reading, modules: list[PythonModule]) -> None:
    """Read what modules import, and what that imports, as far as it is the user's or ours; note distributions."""
    waiting = list(modules)
    done: set[Path] = set()
    for module in waiting:  # it grows meanwhile
        if module.path in done:
            continue
        done.add(module.path)
        reading.modules[module.path] = module
        if not module.is_source:
            reading.note([module.path])
            continue
        if module.path not in reading.trees:
            reading.read(module)
        tree = reading.trees[module.path]
        imports = imports_of(tree, module)
        ours = module.top == "ablate"
        if not ours:
            packages = [it for it in find_modules(module.name) if it.top != FORKED or it.root in code_roots()]
            waiting += [package for package in packages if package.path not in done]
        for name in _names(imports):
            waiting += _counted(reading, name, ours=ours)
        if imports.computed and module.in_package and not ours:
            waiting += _whole_package(module)


def _names(imports: Imports) -> list[str]:
    """Return what is imported by name, and what star imports bring."""
    names = list(imports.names)
    for base in imports.stars:
        names.append(base)
        module = find_module(base)
        if module is not None and module.is_source:
            tree = parse(module.path, module.path.read_bytes())
            names += [f"{base}.{name}" for name in exported(tree)]
    return names


def _counted(reading: _Reading, name: str, *, ours: bool) -> list[PythonModule]:
    """Return the modules behind an imported name that are part of the source; note a distribution that it is from."""
    top = name.partition(".")[0]
    if top == "ablate":
        return _of_ours(name)
    if ours or not top or top in sys.stdlib_module_names:
        return []
    if top in RECORDED:  # but for what a fork adds to it
        return [] if top != FORKED else [it for it in find_modules(name) if it.root in code_roots()]
    modules = find_modules(name)
    root = modules[0].root if modules else None
    distribution = distribution_of(top, root) if root is not None else None
    if distribution is not None:
        reading.distributions[distribution] = None
        return []
    return modules


def _of_ours(name: str) -> list[PythonModule]:
    """Return our modules behind a name, file by file: without the `__init__.py` that finds all of them."""
    if name.startswith(f"{LOSSES}."):
        return [module for module in find_modules(name) if module.name.startswith(f"{LOSSES}.")]
    if not name.startswith(f"{OURS}."):
        return []
    modules = [module for module in find_modules(name) if module.name.startswith(f"{OURS}.")]
    if modules:
        return modules
    package = find_module(OURS)  # a class that is imported from the package: read the file that defines it
    if package is None:
        return []
    tree = parse(package.path, package.path.read_bytes())
    definition = find_definition(package, tree, name.removeprefix(f"{OURS}."))
    return [definition.module] if definition is not None and definition.module != package else []


def _whole_package(module: PythonModule) -> list[PythonModule]:
    """Return every module in a package's folder: the package imports some whose names are computed."""
    prefix = f"{module.package}." if module.package else ""
    return [
        PythonModule(f"{prefix}{path.stem}", path, module.root)
        for path in sorted(module.path.parent.glob("*.py"))
        if path.stem.isidentifier() and path.name != "__init__.py"
    ]


def _below(path: Path, root: Path) -> tuple[str, ...]:
    """Return what files are sorted by, which is the same wherever the root lies."""
    return path.relative_to(root).parts if path.is_relative_to(root) else path.parts
