"""This machine's processor: its name, what of its instructions matter here, and the memory that is free. No torch."""

from __future__ import annotations

from functools import cache
from pathlib import Path

# Instructions that decide how fast matrices are multiplied, and in which precision; named as Linux names them.
MATTERING = (
    *("avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "avx512_vnni", "amx_tile", "amx_bf16"),
    *("asimd", "asimdhp", "bf16", "sve", "sve2"),
)


@cache
def instruction_sets() -> tuple[str, ...]:
    """Return those of `MATTERING` that this processor has, in their order; empty where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ()
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
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
        ]  # given back when somebody needs it
        available = min(available, limit - used + float(cached[0] if cached else 0))
    except (OSError, ValueError):  # "max": no limit
        pass
    return max(available, 0.0) / 1e9
