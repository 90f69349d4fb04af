"""File locks that name their owner and end with it.

The system's own lock on the file (flock) decides on one machine: it is free the moment its owner dies, however that
happens, and no clock is asked. Where machines share a folder whose file system keeps such locks to each machine, the
owner's heartbeat decides: a counter in the file; a waiter compares it using its own monotonic clock. The counter has
bytes of its own: an owner that was stopped between a look at the file and its next heartbeat, and whose lock was taken
over meanwhile, must not write its name over its successor's. They are blanks, so that the file is JSON. The content of
the file is for people and for that case only; damage to it frees nobody's lock.
"""

from __future__ import annotations

import fcntl
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import msgspec

from ablate.errors import AblateError
from ablate.storage.confined import open_own, open_plain

BEAT = 5.0  # seconds between heartbeats
DEAD = 60.0  # seconds without one, after which an owner on another machine counts as dead

NAME = 512  # bytes of the file that name the owner; the counter of its heartbeats follows, in binary digits
_TO_BLANKS, _TO_DIGITS = bytes.maketrans(b"01", b" \t"), bytes.maketrans(b" \t", b"01")


class Owner(msgspec.Struct, frozen=True):
    """The process that holds a lock, as the lock's file says; None where the file is damaged or does not say.

    Attributes:
        host: Its machine.
        pid: Its process id.
        since: When it took the lock, seconds since 1970.
        device: What it uses.
        beat: Its heartbeats so far.
    """

    host: str | None = None
    pid: int | None = None
    since: float | None = None
    device: str | None = None
    beat: int = 0

    def is_same(self, other: Owner) -> bool:
        """Tell whether both are the same process with the same lock, at whatever heartbeat."""
        return (self.host, self.pid, self.since) == (other.host, other.pid, other.since)


class Held(AblateError):
    """Another living process, `owner`, holds the lock."""

    def __init__(self, owner: Owner) -> None:
        super().__init__(f"held by process {owner.pid or '?'} on {owner.host or '?'}")
        self.owner = owner


class Lease:
    """A lock that this process has taken.

    Args:
        path: The lock's file.
        file: The same, open and locked.
        owner: This process.
    """

    def __init__(self, path: Path, file: IO[bytes], owner: Owner) -> None:
        self._path = path
        self._file = file
        self._owner = owner

    def check(self) -> None:
        """See that the lock is still this process's.

        Raises:
            Held: It is not: another machine counted this process as dead, because it was stopped, and took the lock; it
                may have ended its work since. Or the folder was moved or deleted.
        """
        try:
            with open_plain(self._path) as now:  # opened anew: a file system of several machines may keep old content
                is_there = os.path.samestat(os.fstat(now.fileno()), os.fstat(self._file.fileno()))
                owner = _named(now) if is_there else Owner()
        except OSError:
            owner = Owner()
        if owner is not None and not owner.is_same(self._owner):
            raise Held(owner)

    def beat(self, stop: threading.Event) -> None:
        """Count up in the file until told to stop, or until the lock is lost."""
        count = 0
        with suppress(Held):
            while not stop.wait(BEAT):
                self.check()
                count += 1
                with suppress(OSError):
                    os.pwrite(self._file.fileno(), f"{count:032b}".encode().translate(_TO_BLANKS), NAME)

    def end(self) -> None:
        """Take the owner's name out of the file."""
        with suppress(OSError, Held):  # a full disk must not hide how the work ended
            self.check()
            _write(self._file, b"{}")


_watched: dict[Path, tuple[Owner, float]] = {}  # a foreign owner at its last heartbeat, and when that was seen


@contextmanager
def lock(path: Path, device: str | None = None) -> Iterator[Lease]:
    """Hold the lock at `path` while the block runs.

    Args:
        path: The lock's file; it is made, and stays.
        device: What its owner uses, for people.

    Raises:
        Held: A living process holds it. An owner on another machine counts as alive until no heartbeat was seen for a
            minute, so try again.
        OSError: The file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_own(path) as file:
        is_ours, owner = _take(file), _read(file)
        if not is_ours or (_is_foreign(owner) and not _is_dead(path, owner)):
            raise Held(owner)
        _watched.pop(path, None)
        stop = threading.Event()
        ours = Owner(socket.gethostname(), os.getpid(), time.time(), device)
        _write(file, msgspec.json.encode(ours))
        lease = Lease(path, file, ours)
        heart = threading.Thread(target=lease.beat, args=(stop,), daemon=True, name="heartbeat")
        heart.start()
        try:
            yield lease
        finally:
            stop.set()
            heart.join()
            lease.end()


def held(path: Path) -> Owner | None:
    """Return the owner of a lock while it lives; None where nobody holds it."""
    try:
        with open_plain(path) as file:
            owner = _read(file)
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return owner
            # One read cannot see a heartbeat: the file's age, by the clock of the disk that wrote it, stands for it.
            fresh = time.time() - os.fstat(file.fileno()).st_mtime < DEAD
            return owner if _is_foreign(owner) and fresh else None
    except OSError:
        return None


def owner_of(path: Path) -> Owner:
    """Return the owner that a lock's file names, whether or not it still holds the lock."""
    try:
        with open_plain(path) as file:
            return _read(file)
    except OSError:
        return Owner()


def _take(file: IO[bytes]) -> bool:
    """Take the system's lock, and return whether that was possible; `held` takes it for a moment, and is waited for."""
    for attempt in range(3):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05 * (attempt < 2))
        else:
            return True
    return False


def _read(file: IO[bytes]) -> Owner:
    return _named(file) or Owner()


def _named(file: IO[bytes]) -> Owner | None:
    """Return the owner in the file, a nameless one where an owner took its name out; None where the file is damaged."""
    try:
        content = os.pread(file.fileno(), 2 * NAME, 0)
        owner = msgspec.json.decode(content[:NAME], type=Owner)
        beats = content[NAME:].translate(_TO_DIGITS)
        return msgspec.structs.replace(owner, beat=int(beats, 2) if beats else owner.beat)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None


def _write(file: IO[bytes], text: bytes) -> None:
    os.pwrite(file.fileno(), text.ljust(NAME), 0)
    os.ftruncate(file.fileno(), NAME)


def _is_foreign(owner: Owner) -> bool:
    return owner.host is not None and owner.host != socket.gethostname()


def _is_dead(path: Path, owner: Owner) -> bool:
    """Return whether no heartbeat of a foreign owner was seen for long enough."""
    now = time.monotonic()
    last, seen = _watched.get(path, (None, now))
    if last != owner:
        _watched[path] = (owner, now)
        return False
    return now - seen > DEAD
