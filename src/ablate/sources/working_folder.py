"""Import from the working folder what a `_target_` names there, what that imports from there, and nothing else.

A folder that the user names as the home of classes (`allow_code`) is treated in the same way. Where it holds a package
`ultralytics`, a fork with files of its own, those files are found as parts of the installed one, which is not changed:
relative imports of a fork's file reach the installed layers. A file that both have is found as ``<name>__fork``.

The folder is not on `sys.path` (`ablate.search_path`): a `wandb.py` that lies in it must not run because a library
looks for wandb. What is installed comes first: a `torch.py` in the folder does not stand in for torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from importlib.util import spec_from_file_location
from pathlib import Path
from types import FrameType, ModuleType

_named: dict[str, str] = {}  # top-level name that a `_target_` begins with -> the working folder when it was named
_roots: dict[Path, None] = {}  # folders that hold code which the user has named, the last one named at the end
FORKED = "ultralytics"  # the package whose forks are taken apart
OF_FORK = "__fork"  # ends the name of a module that the installed package has too
_found: dict[str, str] = {}  # top-level name of a module that was found in a working folder -> that folder


def allow(targets: Iterable[str]) -> None:
    """Let the modules of classes at dotted paths be imported from the working folder, where nothing else has them."""
    for target in targets:
        top = target.partition(".")[0]
        _named[top] = str(code_root_of(top) or Path.cwd())
    _install()


def allow_code(root: Path) -> None:
    """Let classes that the user names be imported from a folder: the one that holds their file or package.

    A folder that Python imports from anyway stays what it is: of what is installed there the version counts.
    """
    if root.resolve() in {Path(entry).resolve() for entry in sys.path if entry}:
        return
    _roots.pop(root, None)
    _roots[root] = None
    _install()


def code_roots() -> tuple[Path, ...]:
    """Return the folders of named code, the last one named first."""
    return tuple(reversed(_roots))


def code_root_of(top: str) -> Path | None:
    """Return the folder of named code that holds a top-level name."""
    places = ((root, root / top, root / f"{top}.py") for root in code_roots())
    return next((root for root, folder, file in places if folder.is_dir() or file.is_file()), None)


def forked_file(name: str) -> Path | None:
    """Return the file of a fork that a dotted name of the forked package means where the installed one lacks it."""
    parts = name.split(".")
    if parts[0] != FORKED or len(parts) < 2:
        return None
    for root in code_roots():
        folder = root.joinpath(*parts[:-1])
        last = parts[-1].removesuffix(OF_FORK)
        places = (
            [folder / f"{last}.py"] if last != parts[-1] else [folder / last / "__init__.py", folder / f"{last}.py"]
        )
        if file := next((place for place in places if place.is_file()), None):
            return file
    return None


def _install() -> None:
    if not any(isinstance(finder, _WorkingFolder) for finder in sys.meta_path):
        sys.meta_path.append(_WorkingFolder())


class _WorkingFolder(MetaPathFinder):
    """Python's last finder: it is asked for what is neither built in nor installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a top-level module lies in the working folder, if it may be imported from there."""
        if path is not None:  # a part of a package is found where the package is
            return _forked_spec(fullname)
        folder = _named.get(fullname) or _found.get(_importer(sys._getframe(1)))
        spec = PathFinder.find_spec(fullname, [folder]) if folder else None
        if spec is not None and folder:
            _found[fullname] = folder
            if spec.submodule_search_locations is not None:
                spec.submodule_search_locations = list(spec.submodule_search_locations)  # else bound to sys.path
        return spec


def _forked_spec(name: str) -> ModuleSpec | None:
    file = forked_file(name)
    if file is None:
        return None
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    return spec_from_file_location(name, file, submodule_search_locations=folders)


def _importer(frame: FrameType | None) -> str:
    """Return the top-level name of the module whose code imports, empty where there is none."""
    while frame is not None:
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if top not in ("importlib", "_frozen_importlib"):
            return top
        frame = frame.f_back
    return ""
