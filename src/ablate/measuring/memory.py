"""Peak memory of a code section in this process."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import re
from pathlib import Path


class PeakMemory:
    """Peak memory since construction: of the CUDA allocator on a GPU, of the process on a CPU (Linux only).

    Args:
        cuda: Whether the work runs on a CUDA device.
    """

    def __init__(self, cuda: bool) -> None:
        self._cuda = cuda
        _return_free_memory()
        if cuda:
            import torch

            torch.cuda.empty_cache()  # blocks left by an earlier training would count as reserved by this one
            torch.cuda.reset_peak_memory_stats()
            return
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM, see proc(5)
            self._is_reset = True
        except OSError:
            self._is_reset = False

    def gigabytes(self) -> float | None:
        """Return the peak in GB (1e9 bytes), or None where the system does not report it."""
        if self._cuda:
            import torch

            return float(torch.cuda.max_memory_reserved()) / 1e9
        if not self._is_reset:
            return None
        match = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(encoding="ascii"))
        return int(match[1]) * 1024 / 1e9 if match else None


def _return_free_memory() -> None:
    """Return memory that was freed before to the system; it would count as this section's."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # not glibc
        ctypes.CDLL("libc.so.6").malloc_trim(0)
