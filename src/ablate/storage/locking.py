"""Locks that say who holds them, and that a dead owner cannot keep.

The system's own lock on the file (flock) decides on one machine: it is free the moment its owner dies, however that
happens, and no clock is asked. Where machines share a folder whose file system keeps such locks to each machine, the
owner's heartbeat decides: a counter in the file, which somebody who waits sees moving or standing still by his own
monotonic clock. What stands in the file is for people and for that case only; damage to it frees nobody's lock.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

BEAT = 5.0  # seconds between heartbeats
DEAD = 60.0  # seconds without one, after which an owner on another machine counts as dead


class Held(Exception):
    """Somebody else who is alive holds the lock; `owner` is what the lock says of him."""

    def __init__(self, owner: dict[str, Any]) -> None:
        super().__init__(f"held by process {owner.get('pid', '?')} on {owner.get('host', '?')}")
        self.owner = owner


_watched: dict[Path, tuple[Any, float]] = {}  # last beat of a foreign owner, and when it was seen to move


@contextmanager
def lock(path: Path, **facts: Any) -> Iterator[None]:
    """Hold the lock at `path` while the block runs.

    Args:
        path: The lock's file; it is made, and stays.
        facts: What else to say of the owner, such as the device.

    Raises:
        Held: Somebody alive holds it. An owner on another machine counts as alive until its heartbeat has been seen
            standing still for a minute, so ask again.
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with _open(path) as file:
        if not _taken(file):
            raise Held(_read(file))
        owner = _read(file)
        if _is_foreign(owner) and not _stands_still(path, owner):
            raise Held(owner)
        _watched.pop(path, None)
        stop = threading.Event()
        entry = {"host": socket.gethostname(), "pid": os.getpid(), "since": time.time(), **facts}
        _write(file, {**entry, "beat": 0})
        heart = threading.Thread(target=_beat, args=(file, entry, stop), daemon=True, name="heartbeat")
        heart.start()
        try:
            yield
        finally:
            stop.set()
            heart.join()
            with suppress(OSError):  # a full disk must not hide how the work ended
                _write(file, {})


def held(path: Path) -> dict[str, Any] | None:
    """Return what the lock says of its owner while he lives; None where nobody holds it."""
    try:
        with path.open("rb") as file:
            owner = _read(file)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return owner
            # Asked once, one cannot see a beat move: the file's age, by the clock of the disk that wrote it, must do.
            fresh = time.time() - os.fstat(file.fileno()).st_mtime < DEAD
            return owner if _is_foreign(owner) and fresh else None
    except OSError:
        return None


def _taken(file: IO[bytes]) -> bool:
    """Take the system's lock; somebody who only looks whether it is held does so for a moment, and is waited for."""
    for attempt in range(3):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05 * (attempt < 2))
        else:
            return True
    return False


def _open(path: Path) -> IO[bytes]:
    return os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "r+b", buffering=0)


def _read(file: IO[bytes]) -> dict[str, Any]:
    try:
        content = json.loads(os.pread(file.fileno(), 4096, 0))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def _write(file: IO[bytes], content: dict[str, Any]) -> None:
    text = json.dumps(content).encode()
    os.pwrite(file.fileno(), text.ljust(512), 0)
    os.ftruncate(file.fileno(), max(len(text), 512))


def _beat(file: IO[bytes], entry: dict[str, Any], stop: threading.Event) -> None:
    count = 0
    while not stop.wait(BEAT):
        count += 1
        with suppress(OSError):
            _write(file, {**entry, "beat": count})


def _is_foreign(owner: dict[str, Any]) -> bool:
    return bool(owner) and owner.get("host") != socket.gethostname()


def _stands_still(path: Path, owner: dict[str, Any]) -> bool:
    """Tell whether a foreign owner's heart has been seen standing still for long enough."""
    beat = (owner.get("host"), owner.get("pid"), owner.get("beat"))
    now = time.monotonic()
    known = _watched.get(path)
    if known is None or known[0] != beat:
        _watched[path] = (beat, now)
        return False
    return now - known[1] > DEAD
