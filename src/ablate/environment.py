"""What third-party libraries must be told before they are imported: users' machines are theirs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def cache_dir() -> Path:
    """Return ablate's cache folder: $ABLATE_CACHE, else the user's cache folder (XDG)."""
    explicit = os.environ.get("ABLATE_CACHE")
    if explicit:
        return Path(explicit).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").expanduser() / "ablate"


def prepare() -> None:
    """Keep Ultralytics, MLflow and matplotlib away from the user's global settings, and off the network.

    Ultralytics writes a settings file on import and installs missing packages by itself; MLflow reports its use.
    Values that the user has set win.
    """
    own = {
        "YOLO_CONFIG_DIR": str(cache_dir() / "ultralytics"),
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MPLBACKEND": "Agg",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }
    for name, value in own.items():
        os.environ.setdefault(name, value)


@contextmanager
def output_to(path: Path) -> Iterator[None]:
    """Send all output of this process, that of libraries and of processes it starts too, to the end of a file."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    with path.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, descriptor in enumerate(saved, start=1):
                os.dup2(descriptor, number)
                os.close(descriptor)
