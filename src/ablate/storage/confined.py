"""Files in a folder that a stranger may have sent: read only as plain files of that folder, and of a bearable size.

A trial or a sweep may come with links to files elsewhere, pipes without an end, names such as `../../key`, and files of
any size. None of them makes ablate read, send or overwrite a file outside of the folder, or wait for ever. A folder's
own parents may be links: `trials` and `sweeps` may lie on another disk.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from ablate.errors import ConfigError

LARGEST: Final = 16 * 2**20  # bytes of a record; real ones have up to some megabytes


def inside(folder: Path, name: str | Path) -> Path | None:
    """Return the path of a file of a folder; None where its name or a link leads out of the folder.

    Args:
        folder: The folder.
        name: The file's path relative to the folder, as a record has it. The file may be missing.
    """
    path = folder / name
    return None if leads_out(path, folder) else path


def leads_out(path: Path, folder: Path) -> bool:
    """Tell whether a path leads out of a folder: by its name, or by a link in the folder."""
    try:
        home = os.path.realpath(folder)
        place = os.path.realpath(path)
        named = os.path.abspath(path)  # noqa: PTH100 - resolve() would follow links
    except (ValueError, OSError):  # a NUL in the name
        return True
    return not (_is_below(place, home) and _is_below(named, os.path.abspath(folder)))  # noqa: PTH100


def _is_below(place: str, home: str) -> bool:
    return place.startswith(home.rstrip(os.sep) + os.sep)


@contextmanager
def open_plain(path: Path, folder: Path | None = None) -> Iterator[IO[bytes]]:
    """Open a plain file for reading; a pipe or a device is not waited for.

    Args:
        path: The file.
        folder: The folder that it may not lead out of; the one that it is in by default.

    Raises:
        OSError: It is missing, no plain file, or leads out of the folder; `strerror` says so.
    """
    if leads_out(path, folder or path.parent):
        raise OSError(errno.ELOOP, "it leads out of its folder", str(path))
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "it is no plain file", str(path))
        yield file


def read_plain(path: Path, folder: Path | None = None, *, most: int = LARGEST) -> bytes:
    """Return the content of a plain file.

    Args:
        path: The file.
        folder: See `open_plain`.
        most: Bytes that it may have.

    Raises:
        OSError: See `open_plain`; or it is larger.
    """
    with open_plain(path, folder) as file:
        size = os.fstat(file.fileno()).st_size
        content = file.read(most + 1) if size <= most else b""
        if size > most or len(content) > most:
            raise OSError(errno.EFBIG, f"it has {max(size, len(content))} bytes; at most {most} are read", str(path))
        return content


def open_own(path: Path) -> IO[bytes]:
    """Open a file of ours for reading and writing, at its start; it is made where it is missing.

    Raises:
        OSError: It cannot be written, or it is a link, a pipe or the like, to which nothing is written.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        file = os.fdopen(os.open(path, flags, 0o666), "r+b", buffering=0)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise OSError(errno.ELOOP, LINK, str(path)) from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, ODD, str(path))
    return file


LINK: Final = "it is a link, and nothing is written through links; remove it"
ODD: Final = "it is no plain file; remove it"


def refuse_links(paths: Iterable[Path]) -> None:
    """Check that each of these files and folders, which are written, is one, or is missing.

    Raises:
        ConfigError: One is a link, to whatever, or a pipe or the like.
    """
    for path in paths:
        if path.is_symlink():
            raise ConfigError(f"{path}: {LINK} (the folders trials, sweeps and mlartifacts themselves may be links)")
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ConfigError(f"{path}: {ODD}")


def leave_plain_files(folder: Path) -> None:
    """Remove from a folder the links that lead out of it, pipes and the like, so that nothing is written to them.

    What links lead to stays as it is. Raises OSError where one cannot be removed.
    """
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            odd = leads_out(path, folder) if path.is_symlink() else not (path.is_file() or path.is_dir())
            if odd:
                path.unlink(missing_ok=True)
