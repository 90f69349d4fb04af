"""What takes long to find out and stays true: kept in the cache folder, one small file each."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from ablate.data.cache import cache_dir
from ablate.records.records import load_object
from ablate.storage.files import atomic_write_json


class Cache:
    """Answers by what was asked.

    Whatever an answer depends on must stand in its key. A damaged entry counts as none, and a cache that cannot be
    written costs time only.

    Args:
        name: Its folder within the cache folder.
        keep: How many answers are kept; the oldest go first.
    """

    def __init__(self, name: str, keep: int = 2000) -> None:
        self._folder = cache_dir() / name
        self._keep = keep

    def get(self, key: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the answer to what was asked, if there is one."""
        answer = load_object(self._folder / _file(key)).get("answer")
        return answer if isinstance(answer, dict) else None

    def put(self, key: Mapping[str, Any], answer: Mapping[str, Any]) -> None:
        """Keep an answer of plain values."""
        with contextlib.suppress(OSError):
            atomic_write_json(self._folder / _file(key), {"asked": key, "answer": answer})

    def prune(self) -> None:
        """Drop the oldest answers beyond those that are kept."""
        with contextlib.suppress(OSError):
            found = sorted(self._folder.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
            for path in found[self._keep :]:
                path.unlink(missing_ok=True)


def _file(key: Mapping[str, Any]) -> str:
    text = json.dumps(key, sort_keys=True, ensure_ascii=True)
    return f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"
