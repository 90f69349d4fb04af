"""Results that take long to compute and depend on nothing but their key: one small file each in the cache folder."""

from __future__ import annotations

import contextlib
from typing import Generic, TypeVar

import msgspec

from ablate.data.cache import cache_dir
from ablate.storage.content_hash import content_hash
from ablate.storage.files import atomic_write_bytes

T = TypeVar("T")


class _Entry(msgspec.Struct):
    """The part of a cache file that is read; the file also holds the key, for people."""

    answer: msgspec.Raw


class Cache(Generic[T]):
    """Results of one type by key.

    A key holds everything that its result depends on. A damaged entry counts as none, and a cache that cannot be
    written costs time only.

    Args:
        name: Its folder within the cache folder.
        kind: The dataclass of its results.
        size: How many results are kept; the oldest are removed first.
    """

    def __init__(self, name: str, kind: type[T], size: int = 2000) -> None:
        self._folder = cache_dir() / name
        self._kind = kind
        self._size = size

    def get(self, key: object) -> T | None:
        """Return the result of a key; None where there is none."""
        try:
            entry = msgspec.json.decode((self._folder / _file_name(key)).read_bytes(), type=_Entry)
            return msgspec.json.decode(entry.answer, type=self._kind)
        except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
            return None

    def put(self, key: object, answer: T) -> None:
        """Store the result of a key."""
        with contextlib.suppress(OSError):
            content = msgspec.json.encode({"key": key, "answer": answer})
            atomic_write_bytes(self._folder / _file_name(key), content)

    def prune(self) -> None:
        """Remove the oldest results beyond the cache's size."""
        with contextlib.suppress(OSError):
            paths = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in paths[self._size :]:
                path.unlink(missing_ok=True)


def _file_name(key: object) -> str:
    return f"{content_hash(key)[:32]}.json"
