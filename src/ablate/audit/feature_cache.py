"""Features of images by the SHA-256 of their files, kept in the cache: an audit that was stopped goes on from there."""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from ablate.audit.features import SIDE, VERSION, ImageFeatures
from ablate.data.cache import cache_dir

_WAIT: Final = 20.0  # seconds for another audit that writes


class FeatureCache:
    """Features that were computed before. Where the file is damaged or cannot be written, there are none."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or cache_dir() / "audit" / f"features-{VERSION}-{SIDE}.sqlite"
        self._database = self._opened()

    def get(self, digest: str) -> ImageFeatures | None:
        """Return the features of an image by the SHA-256 of its file; None where they are not kept."""
        if self._database is None:
            return None
        with suppress(sqlite3.Error, ValueError, struct.error):
            row = self._database.execute("SELECT features FROM images WHERE digest = ?", (digest,)).fetchone()
            return None if row is None else ImageFeatures.unpacked(row[0])
        return None

    def put(self, features: Mapping[str, ImageFeatures]) -> None:
        """Keep features by the SHA-256 of their files."""
        if self._database is not None:
            rows = [(digest, each.packed()) for digest, each in features.items()]
            with suppress(sqlite3.Error), self._database:
                self._database.executemany("INSERT OR REPLACE INTO images VALUES (?, ?)", rows)

    def close(self) -> None:
        """Close the file."""
        if self._database is not None:
            self._database.close()

    def _opened(self) -> sqlite3.Connection | None:
        for again in (False, True):
            try:
                if again:
                    self.path.unlink(missing_ok=True)
                self.path.parent.mkdir(parents=True, exist_ok=True)
                database = sqlite3.connect(self.path, timeout=_WAIT)
                database.execute("CREATE TABLE IF NOT EXISTS images (digest TEXT PRIMARY KEY, features BLOB)")
                return database
            except sqlite3.OperationalError:  # it cannot be written, or another audit holds it
                return None
            except sqlite3.DatabaseError:  # damaged
                continue
            except OSError:
                return None
        return None
