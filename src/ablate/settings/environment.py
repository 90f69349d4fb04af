"""Environment variables for third-party libraries, set before their import: nothing of the user's is changed."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from ablate.data.cache import cache_dir

CPU_THREADS = "ABLATE_CPU_THREADS"  # threads of this process's work on the CPU, set by the user or by a launcher
CORES = "ABLATE_CORES"  # in place of it, where no number is set: every core
SHARING = "ABLATE_TRIALS_AT_A_TIME"  # set where a launcher has chosen the number of threads, and the user has not
WAIT_POLICY, INTEL_WAIT = "OMP_WAIT_POLICY", "KMP_BLOCKTIME"


def user_threads() -> int | None:
    """Return the number of threads that the user has set (ABLATE_CPU_THREADS, else OMP_NUM_THREADS), or None."""
    threads = os.environ.get(CPU_THREADS)
    if not threads and not os.environ.get(CORES):
        # Ultralytics sets OMP_NUM_THREADS to 1 when it is imported; `prepare` has kept the user's number.
        threads = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return max(int(threads), 1) if threads and threads.isdigit() else None


def cpu_threads() -> int:
    """Return how many threads work on the CPU may use: the user's number, else one for every core of this process."""
    return user_threads() or visible_cores()


def visible_cores() -> int:
    """Return how many cores this process may use: those it may run on, less where its container has a CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(min([cores, *(math.ceil(quota) for quota in cpu_quotas())]), 1)


def cpu_quotas(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> Iterator[float]:
    """Yield the CPU quotas, in cores, of this process's control group (version 2) and of those above it."""
    try:
        group = membership.read_text(encoding="utf-8").partition("0::/")[2].partition("\n")[0]
    except OSError:
        return
    folder = root / group
    for place in (folder, *folder.parents):
        if place.is_relative_to(root):
            with suppress(OSError, ValueError):  # no quota: there is no such file, or it begins with "max"
                quota, period = (place / "cpu.max").read_text(encoding="ascii").split()
                yield int(quota) / int(period)


def passive_waiting(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables with which OpenMP's threads sleep at barriers, without those that the user has set.

    GNU's and Intel's runtimes spin there, which takes the core from other processes. They read these
    variables when they are loaded, so a process must have them before it imports torch.
    """
    if environment.get(WAIT_POLICY):
        return {}
    return {WAIT_POLICY: "passive"} | ({} if environment.get(INTEL_WAIT) else {INTEL_WAIT: "0"})


def prepare() -> None:
    """Keep Ultralytics, MLflow and matplotlib away from the user's global settings, and off the network.

    Ultralytics writes a settings file on import and installs missing packages by itself; MLflow reports its use.
    Values that the user has set win.
    """
    variables = {
        "YOLO_CONFIG_DIR": str(cache_dir() / "ultralytics"),
        "YOLO_AUTOINSTALL": "false",
        "YOLO_VERBOSE": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MPLBACKEND": "Agg",
        "GIT_PYTHON_REFRESH": "quiet",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
        **passive_waiting(os.environ),
    }
    threads = user_threads()
    variables |= {CORES: str(visible_cores())} if threads is None else {CPU_THREADS: str(threads)}
    for name, value in variables.items():
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
