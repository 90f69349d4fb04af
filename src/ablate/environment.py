"""What third-party libraries must be told before they are imported: users' machines are theirs."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ablate.data.cache import cache_dir

CPU_THREADS = "ABLATE_CPU_THREADS"


def cpu_threads() -> int:
    """Return how many threads work on the CPU may use: OMP_NUM_THREADS, else every core of this process."""
    # Ultralytics sets OMP_NUM_THREADS to 1 when it is imported; `prepare` has kept what the user asked for.
    return max(int(os.environ.get(CPU_THREADS) or os.environ.get("OMP_NUM_THREADS", "").split(",")[0] or _cores()), 1)


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
    # Ultralytics sets OMP_NUM_THREADS to 1 when it is imported; what the user asked for is kept here.
    own[CPU_THREADS] = os.environ.get("OMP_NUM_THREADS") or str(_cores())
    for name, value in own.items():
        os.environ.setdefault(name, value)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
