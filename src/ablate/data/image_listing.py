"""The images that a folder or a list (.txt) holds, whatever a stranger's data file may point at.

A folder that is no data set (`/`, `/proc`), links that lead round and round, and files without an end (a pipe, a
device) are answered; nothing waits for them, and no image of them is opened here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from ablate.data.data_errors import DataError
from ablate.data.images import IMAGE_SUFFIXES
from ablate.errors import count

MOST_FOLDERS: Final = 10_000  # with fewer images than folders among them: no data set
MOST_AGAIN: Final = 200  # folders reached a second time, by links
MOST_LIST_BYTES: Final = 2**30


def images_in(entry: Path) -> Iterator[str]:
    """Yield the absolute paths of the images in a folder (with subfolders) or a .txt list, or of the one image.

    Raises:
        DataError: the folder is no data set's; or the list cannot be read, or names what does not exist.
    """
    if entry.is_dir():
        yield from (path for path in files_below(entry) if _is_image(path))
    elif _is_image(entry.name):
        yield str(entry)
    else:
        yield from _listed(entry)


def files_below(top: Path) -> Iterator[str]:
    """Yield the absolute paths of the files below a folder, but for hidden ones; no link to a folder above is followed.

    Raises:
        DataError: there are far more folders than images, or links lead to the same folders again and again.
    """
    above: dict[str, tuple[str, ...]] = {
        str(top): (os.path.realpath(top),)
    }  # real paths of a folder and of those that lead to it
    reached: set[str] = set()
    again = images = 0
    for folders, (folder, below, names) in enumerate(os.walk(top, followlinks=True), start=1):
        trail = above.pop(folder)
        again += trail[-1] in reached
        reached.add(trail[-1])
        images += sum(map(_is_image, names))
        if again > MOST_AGAIN:
            raise DataError(f"{top}: its links lead to the same folders again and again ({trail[-1]})")
        if folders > MOST_FOLDERS and images < folders:
            holds = f"more than {MOST_FOLDERS:,} folders, but {count(images, 'image')} in the first of them"
            raise DataError(f"{top}: it has {holds}; name the folder of the images themselves")
        for name in list(below):
            path = os.path.join(folder, name)  # noqa: PTH118 - as os.walk writes it, below / too
            real = os.path.realpath(path) if os.path.islink(path) else os.path.join(trail[-1], name)  # noqa: PTH114, PTH118
            if name.startswith(".") or real in trail:
                below.remove(name)
            else:
                above[path] = (*trail, real)
        yield from (os.path.join(folder, name) for name in names if not name.startswith("."))  # noqa: PTH118


def suffix_of(name: str) -> str:
    """Return what follows the last dot of a file's name, in lower case; empty where there is no dot."""
    _, dot, suffix = name.rpartition(".")
    return suffix.lower() if dot else ""


def bounded_content(path: Path, most: int) -> bytes:
    """Return the content of an ordinary file of at most so many bytes.

    Raises:
        DataError: it is something else (a folder, a pipe, a device), larger, or cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else opening a pipe waits for its other end
        with open(descriptor, "rb") as file:  # noqa: PTH123
            state = os.fstat(descriptor)
            is_file = stat.S_ISREG(state.st_mode)
            content = file.read(most + 1) if is_file and state.st_size <= most else None
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror})") from error
    if not is_file:
        raise DataError(f"{path}: it is no file but a {_kind(state.st_mode)}")
    if content is None or len(content) > most:
        raise DataError(f"{path}: the file is larger than {most / 2**20:,.0f} MiB")
    return content


def _kind(mode: int) -> str:
    kinds = {stat.S_IFDIR: "folder", stat.S_IFIFO: "pipe", stat.S_IFCHR: "device", stat.S_IFBLK: "device"}
    return kinds.get(stat.S_IFMT(mode), "socket")


def _listed(entry: Path) -> Iterator[str]:
    try:
        lines = bounded_content(entry, MOST_LIST_BYTES).decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{entry}: the list of images cannot be read: it is no UTF-8 text") from error
    for number, line in enumerate(lines, start=1):
        name = line.strip()
        if not name or not _is_image(name):
            continue
        # Ultralytics: `./` is beside the list, anything else is from here; we then look beside the list, too.
        bases = [entry.parent] if name.startswith("./") else [Path.cwd(), entry.parent]
        paths = [os.path.abspath(base / name) for base in bases]  # noqa: PTH100
        image = next((path for path in paths if os.path.isfile(path)), None)  # noqa: PTH113
        if image is None:
            raise DataError(f"{entry}, line {number}: image {paths[0]} does not exist")
        yield image


def _is_image(name: str) -> bool:
    return suffix_of(name) in IMAGE_SUFFIXES
