"""This machine's processor: name, clock, relevant instruction sets; and its free memory. No torch."""

from __future__ import annotations

import platform
from contextlib import suppress
from functools import cache
from pathlib import Path
from statistics import fmean

# Instructions that decide how fast matrices are multiplied, and in which precision; named as Linux names them.
MATTERING = (
    *("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16"),
    *("asimd", "asimdhp", "bf16", "sve", "sve2"),
)


def cpuinfo(*fields: str) -> list[str]:
    """Return the values of these fields in /proc/cpuinfo, one a core; empty where the system has no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    pairs = (line.partition(":") for line in lines)
    return [value.strip() for name, _, value in pairs if name.strip() in fields]


def processor_name() -> str:
    """Return the name of this machine's processor as its maker calls it."""
    return next(iter(cpuinfo("model name")), "") or platform.processor() or platform.machine()


def cpu_mhz() -> float | None:
    """Return the mean frequency of the cores now, in MHz; None where the system does not report it."""
    paths = Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq/scaling_cur_freq")
    frequencies: list[float] = []
    with suppress(OSError, ValueError):
        frequencies = [int(path.read_text(encoding="ascii")) / 1e3 for path in paths]
        frequencies = frequencies or [float(value) for value in cpuinfo("cpu MHz")]
    return round(fmean(frequencies), 1) if frequencies else None


@cache
def instruction_sets() -> tuple[str, ...]:
    """Return those of `MATTERING` that this processor has, in this order; empty where that is not known."""
    flags = next(iter(cpuinfo("flags", "Features")), "").split()
    return tuple(name for name in MATTERING if name in flags)


def available_memory_gb() -> float:
    """Return the memory that processes could still take, of this machine or of the container that we are in, in GB."""
    import psutil

    available = float(psutil.virtual_memory().available)
    try:
        group = Path("/sys/fs/cgroup")
        limit = float((group / "memory.max").read_text(encoding="ascii"))
        used = float((group / "memory.current").read_text(encoding="ascii"))
        cached = [
            line.split()[1]
            for line in (group / "memory.stat").read_text(encoding="ascii").splitlines()
            if line.startswith("inactive_file ")
        ]  # released when other processes need it
        available = min(available, limit - used + float(cached[0] if cached else 0))
    except (OSError, ValueError):  # "max": no limit
        pass
    return max(available, 0.0) / 1e9


def total_memory_gb() -> float:
    """Return the main memory of this machine, or of the container that this process runs in, in GB."""
    import psutil

    total = float(psutil.virtual_memory().total)
    with suppress(OSError, ValueError):  # "max": no limit
        total = min(total, float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return total / 1e9
