"""Ultralytics' published checkpoints by name, fetched once into the cache."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from ablate.data.cache import cache_dir
from ablate.data.data_errors import DataError, NotDownloaded

OFFICIAL = re.compile(r"yolo[\w.-]+\.pt")

# Run by another Python, away from the user's settings and folders.
_FETCH = """
import sys
from ultralytics.utils.downloads import attempt_download_asset
attempt_download_asset(sys.argv[1])
"""


def find_weights(weights: str, download: bool = True) -> str:
    """Return the absolute path of a checkpoint: a file, or a published one by name from the cache.

    Raises:
        NotDownloaded: A published checkpoint is not on this machine and `download` is false.
        DataError: There is no such file, it is empty or no plain file, or the download failed.
    """
    path = Path(weights).expanduser().absolute()
    if path.is_file():
        if path.stat().st_size == 0:
            raise DataError(f"model.weights={weights}: the file is empty")
        return str(path)
    if path.is_dir():
        raise DataError(f"model.weights={weights}: it is a folder; a checkpoint is one file")
    if path.exists():
        raise DataError(f"model.weights={weights}: it is no plain file")
    if not OFFICIAL.fullmatch(weights):
        raise DataError(f"model.weights={weights}: no such file")
    cached = cache_dir() / "weights" / weights
    if not cached.is_file():
        if not download:
            raise NotDownloaded(f"model.weights={weights}: not on this machine yet; a run fetches it")
        _fetch(cached)
    return str(cached)


def _fetch(target: Path) -> None:
    """Let Ultralytics download a checkpoint; it is there whole afterwards, or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as work:
        fresh = Path(work) / target.name
        done = subprocess.run(
            [sys.executable, "-P", "-c", _FETCH, str(fresh)],
            cwd=work,
            env={**os.environ, "YOLO_CONFIG_DIR": work},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
        if done.returncode or not fresh.is_file() or fresh.stat().st_size == 0:
            raise DataError(
                f"model.weights={target.name}: the download failed; give a file of yours with model.weights="
            )
        fresh.replace(target)
