"""Files that are whole or not there at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple


class FileState(NamedTuple):
    """What the file system says of a file or folder; any write to it changes this, even where its times are set back.

    Attributes:
        inode: The number of its inode, another one where a file was replaced.
        size: Bytes.
        modified: Time of the last change of its content, ns.
        changed: Time of the last change of its content or of what the file system says of it, ns; cannot be set.
    """

    inode: int
    size: int
    modified: int
    changed: int


def file_state(path: Path) -> FileState | None:
    """Return the state of a file or folder, None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return FileState(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, 64 hex digits; a file is read once as long as its state is the same.

    Raises:
        OSError: It cannot be read.
    """
    return _sha256(path.absolute(), file_state(path))


@lru_cache(maxsize=1024)
def _sha256(path: Path, state: FileState | None) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def atomic_write_bytes(path: Path, content: bytes) -> None:
    """Write a file so that a reader, also after a crash, sees the old content or the new, never a part.

    The folder is created when it is missing. Raises OSError when the disk refuses; its `filename` is set.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # the system names no file that is open already
            error.filename = str(path)
        raise
    with contextlib.suppress(OSError):  # some file systems cannot sync a folder; the rename holds all the same
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def atomic_write_text(path: Path, content: str) -> None:
    """`atomic_write_bytes` of UTF-8 text."""
    atomic_write_bytes(path, content.encode("utf-8"))


def atomic_write_json(path: Path, content: Any) -> None:
    """Write a value as standard JSON, whole or not at all.

    NaN and infinities become null, because JSON has no word for them; arrays and scalars of numpy
    become lists and numbers, paths become text. Anything else that JSON lacks raises TypeError
    before the disk is touched.
    """
    text = json.dumps(_without_nan(content), indent=1, ensure_ascii=False, allow_nan=False)
    atomic_write_text(path, text + "\n")


def _without_nan(content: Any) -> Any:
    """The same value in terms of JSON."""
    if isinstance(content, float):
        return content if math.isfinite(content) else None
    if content is None or isinstance(content, str | int):
        return content
    if isinstance(content, dict):
        return {str(key): _without_nan(item) for key, item in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(item) for item in content]
    if isinstance(content, os.PathLike):
        return os.fspath(content)
    if hasattr(content, "tolist"):  # numpy, without importing it
        return _without_nan(content.tolist())
    raise TypeError(f"a {type(content).__name__} cannot be written as JSON")
