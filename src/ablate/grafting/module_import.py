"""Import users' modules, and remember which content of their files this process runs.

Python imports a module once. A process that lives longer than one trial keeps the source that it imported,
whatever is on disk by then; so it is compared here. Python's compiled copies (`__pycache__`) count as current where
size and second of the last change agree, which an edit may leave as they were; such a copy is removed.
"""

from __future__ import annotations

import importlib
import marshal
import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.util import cache_from_source
from pathlib import Path
from types import CodeType, ModuleType

from ablate.errors import ConfigError
from ablate.sources.module_source import ModuleSource, module_source
from ablate.sources.python_imports import split_target
from ablate.sources.working_folder import allow
from ablate.storage.files import file_sha256, file_state

UNKNOWN = "unknown"  # in place of a hash: it is not known which content was imported
_CLOCKS = 2.0  # seconds by which a process's start and a file's time of change may be apart

_contents: dict[Path, str] = {}  # SHA-256 of each file as this process imported it, or is about to
_modules: dict[str, ModuleType] = {}  # by class, as it was imported here
_sources: dict[str, str] = {}  # hash of the whole source of a class when its module was imported
_late: dict[str, tuple[Path, ...]] = {}  # files of a class that were not imported along with it


def import_module_of(target: str) -> ModuleType:
    """Import the module of the class at a dotted path, and remember its source.

    Raises:
        ImportError: There is no such module, or whatever its code raises.
    """
    home = split_target(target)[0]
    allow([target])
    if _is_imported(target) or not note(target):
        return importlib.import_module(home)
    before = module_source(target)
    module = importlib.import_module(home)
    after = module_source(target)
    for path in {*_files(before), *_files(after)}:
        if _contents.get(path) != _sha256(path):
            _contents[path] = UNKNOWN  # edited in this moment
    is_known = after.sha256 == before.sha256 and all(_contents[path] != UNKNOWN for path in _files(after))
    _sources[target] = after.sha256 if is_known else UNKNOWN
    _modules[target] = module
    imported = _imported_among(_files(after))
    _late[target] = tuple(path for path in _files(after) if path not in imported)
    return module


def note(target: str) -> bool:
    """Remember the files of a class as they are, as far as this process has not imported them.

    Returns:
        Whether its files can be found.
    """
    try:
        files = _files(module_source(target))
    except ConfigError:
        return False
    imported = _imported_among(files)
    for path in files:
        if path in _contents and path in imported:
            continue
        wrong_copy = _remove_outdated_copy(path)
        unsure = path in imported and (wrong_copy or _is_younger_than_this_process(path))
        _contents[path] = UNKNOWN if unsure else _sha256(path)
    return True


def outdated(targets: Iterable[str]) -> list[str]:
    """Return the classes whose source on disk is not what this process has imported of it, or would import."""
    return [target for target in targets if _is_outdated(target)]


def imported_source(target: str) -> str | None:
    """Return the hash of a class's source as this process imported it, None where it did not."""
    return _sources[target] if _is_imported(target) else None


def edited_late(targets: Iterable[str]) -> list[str]:
    """Return names of files that changed since their class was imported and that may have been read after that.

    A file that was imported along with its class is none of them: an edit of it has no effect on this process.
    """
    late = dict.fromkeys(path for target in targets for path in _late.get(target, ()))
    return [path.name for path in late if _sha256(path) != _contents.get(path)]


def _is_imported(target: str) -> bool:
    """Tell whether the module of a class is there as it was imported here."""
    module = sys.modules.get(split_target(target)[0])
    return module is not None and module is _modules.get(target)


def _is_outdated(target: str) -> bool:
    if not note(target):
        return False
    source = module_source(target)
    if _is_imported(target) and _sources[target] != source.sha256:
        return True
    return any(_contents[path] != _sha256(path) for path in _files(source))


def _files(source: ModuleSource) -> list[Path]:
    """Return all files that a class stands on: Python files, and data files that they may read at any time."""
    return [path.absolute() for path in (*source.files, *(path for _, path in source.data))]


def _sha256(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError:
        return "missing"


def _imported_among(files: Iterable[Path]) -> set[Path]:
    """Return the source files of modules that this process has imported, of those with a name of these files."""
    names = {path.name for path in files}  # first: there are thousands of modules, and a path takes long to make
    imported = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return {Path(file).absolute() for file in imported if isinstance(file, str) and os.path.basename(file) in names}  # noqa: PTH119


def _is_younger_than_this_process(path: Path) -> bool:
    """Tell whether a file has changed since this process began, so that other content may have been imported."""
    import psutil

    state = file_state(path)
    return state is None or state.changed / 1e9 > psutil.Process().create_time() - _CLOCKS


def _remove_outdated_copy(path: Path) -> bool:
    """Remove Python's compiled copy of a source file where it is of another content but Python would not notice.

    Returns:
        Whether there was such a copy.
    """
    try:
        copy = Path(cache_from_source(path))
        compiled, source, state = copy.read_bytes(), path.read_bytes(), os.stat(path)  # noqa: PTH116
    except (OSError, NotImplementedError, ValueError):
        return False
    flags, seconds, size = (int.from_bytes(compiled[start : start + 4], "little") for start in (4, 8, 12))
    if flags or seconds != int(state.st_mtime) & 0xFFFFFFFF or size != state.st_size & 0xFFFFFFFF:
        return False  # Python looks at the content itself, or notices
    try:
        code = marshal.loads(compiled[16:])
        if isinstance(code, CodeType) and code == compile(source, str(path), "exec", dont_inherit=True):
            return False
    except (ValueError, EOFError, TypeError, SyntaxError):
        pass  # a damaged copy, or a source that does not compile: Python says so itself
    with suppress(OSError):
        copy.unlink()
    return True
