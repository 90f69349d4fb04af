"""Where data sets made or fetched by ablate live on the user's machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from ablate.data.data_errors import DataError


def cache_dir() -> Path:
    """The cache folder: `$ABLATE_CACHE`, else `$XDG_CACHE_HOME/ablate`, else `~/.cache/ablate`."""
    if chosen := os.environ.get("ABLATE_CACHE"):
        return Path(chosen).expanduser().absolute()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache").absolute() / "ablate"


def views_dir() -> Path:
    """The folder of all views of data sets (see `ablate.data.view`) that this user's commands have used here."""
    return cache_dir() / "views"


def is_in_view(path: Path) -> bool:
    """Tell whether a path, as a record names it, is that of a file of a view; no other image of this machine is shown.

    Views consist of links to the user's own images, so links are not looked at.
    """
    try:
        return Path(os.path.normpath(path)).is_relative_to(views_dir())
    except ValueError:
        return False


def make_cache() -> None:
    """Make the cache folder, and the one of views in it: where a folder exists, as `/proc`, one in it may be refused.

    Raises:
        DataError: It cannot be made there.
    """
    folder = cache_dir()
    try:
        views_dir().mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"the cache {folder} cannot be used: {error.strerror}; ABLATE_CACHE=<folder> puts it elsewhere"
        ) from error


def put_folder_in_place(fresh: Path, folder: Path, is_whole: Callable[[Path], bool]) -> None:
    """Rename the finished folder `fresh` to `folder`, in one step.

    A damaged folder of that name makes way; a whole one, from another process, stays and `fresh` is not used.

    Raises:
        OSError: the place cannot be written.
    """
    for _ in range(5):
        try:
            fresh.rename(folder)
            return
        except OSError:
            if is_whole(folder):
                return
            aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            try:
                folder.rename(aside)  # onto an empty folder, in one step
            except FileNotFoundError:
                pass  # another process moved it
            finally:
                shutil.rmtree(aside, ignore_errors=True)
    raise OSError(f"cannot write {folder}")
