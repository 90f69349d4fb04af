"""Which vector instructions a measurement was made with: those of the processor, or fewer where libraries must not."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Mapping
from pathlib import Path

LEVELS = ("SSE", "AVX", "AVX2", "AVX-512", "AMX")  # each has what those before it have
FLAGS = {"amx_bf16": "AMX", "avx512f": "AVX-512", "avx2": "AVX2", "avx": "AVX"}  # of /proc/cpuinfo
LIMITS = {  # by library the environment variables that limit it
    "ATen": ("ATEN_CPU_CAPABILITY",),
    "oneDNN": ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA"),
    "MKL": ("MKL_ENABLE_INSTRUCTIONS",),
}
FORCE_AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}


def instruction_set() -> str:
    """Return what the libraries of this process use, such as "AVX-512" or "AVX2, forced on an AVX-512 processor"."""
    return describe(flags(), os.environ)


def flags() -> list[str]:
    """Return the processor's features under Linux' names; empty where they are not known."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])


def describe(features: Iterable[str], environment: Mapping[str, str]) -> str:
    """Name the instruction set of a processor with these features under this environment."""
    known = set(features)
    processor = next((level for flag, level in FLAGS.items() if flag in known), None)
    if processor is None:
        return "SSE" if "sse2" in known else platform.machine() or "unknown"
    used = {}
    for library, names in LIMITS.items():
        limit = next((limited for name in names if (limited := _level(environment.get(name, "")))), processor)
        used[library] = min(processor, limit, key=LEVELS.index)
    if len(set(used.values())) == 1:
        level = used["ATen"]
        return level if level == processor else f"{level}, forced on an {processor} processor"
    lower = ", ".join(f"{library} held to {level}" for library, level in used.items() if level != processor)
    return f"{processor}, {lower}"


def _level(limit: str) -> str | None:
    """Return the level that a library's own name of it means; None where it sets no limit."""
    name = limit.upper()
    if "AMX" in name:
        return "AMX"
    if name.startswith(("AVX512", "AVX10")):
        return "AVX-512"
    if name.startswith("AVX2"):
        return "AVX2"
    if name.startswith("AVX"):
        return "AVX"
    return "SSE" if name.startswith("SSE") else None
