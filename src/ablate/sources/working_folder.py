"""Import from the working folder what a `_target_` names there, what that imports from there, and nothing else.

The folder is not on `sys.path` (`ablate.search_path`): a `wandb.py` that lies in it must not run because a library
looks for wandb. What is installed comes first: a `torch.py` in the folder does not stand in for torch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import FrameType, ModuleType

_named: dict[str, str] = {}  # top-level name that a `_target_` begins with -> the working folder when it was named
_found: dict[str, str] = {}  # top-level name of a module that was found in a working folder -> that folder


def allow(targets: Iterable[str]) -> None:
    """Let the modules of classes at dotted paths be imported from the working folder, where nothing else has them."""
    for target in targets:
        _named[target.partition(".")[0]] = str(Path.cwd())
    if not any(isinstance(finder, _WorkingFolder) for finder in sys.meta_path):
        sys.meta_path.append(_WorkingFolder())


class _WorkingFolder(MetaPathFinder):
    """Python's last finder: it is asked for what is neither built in nor installed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return where a top-level module lies in the working folder, if it may be imported from there."""
        if path is not None:
            return None  # a part of a package is found where the package is
        folder = _named.get(fullname) or _found.get(_importer(sys._getframe(1)))
        spec = PathFinder.find_spec(fullname, [folder]) if folder else None
        if spec is not None and folder:
            _found[fullname] = folder
            if spec.submodule_search_locations is not None:
                spec.submodule_search_locations = list(spec.submodule_search_locations)  # else bound to sys.path
        return spec


def _importer(frame: FrameType | None) -> str:
    """Return the top-level name of the module whose code imports, empty where there is none."""
    while frame is not None:
        top = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if top not in ("importlib", "_frozen_importlib"):
            return top
        frame = frame.f_back
    return ""
