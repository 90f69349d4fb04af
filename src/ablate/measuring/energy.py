"""Energy of a stretch of work on GPUs, as NVML tells it: that of the whole board, whoever uses it meanwhile."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

MILLIJOULES = 3.6e9  # in a kWh
EVERY = 0.5  # seconds between two looks at the power, where a board keeps no account of its energy


class EnergyMeter:
    """Energy since `start`, of all given GPUs together.

    Args:
        uuids: The GPUs, as in ``GPU-8a1c...``; NVML and CUDA may number them differently. None: there is nothing to
            measure.
        library: NVML, that is the module `pynvml`; None imports it.
    """

    def __init__(self, uuids: Sequence[str], library: Any = None) -> None:
        self._uuids = list(uuids)
        self._library = library
        self._reads: list[Callable[[], float]] = []  # mJ since some moment, one for each GPU
        self._begun: list[float] | None = None

    def start(self) -> None:
        """Measure from now on; where NVML or a GPU does not answer, `kwh` will be None."""
        self._begun = None
        if not self._uuids:
            return
        try:
            nvml = self._library or import_module("pynvml")
            nvml.nvmlInit()
            self._reads = [_reader(nvml, nvml.nvmlDeviceGetHandleByUUID(uuid)) for uuid in self._uuids]
            self._begun = [read() for read in self._reads]
        except Exception:  # no package, no driver, no permission, a GPU that keeps it to itself: nothing is known
            return

    def kwh(self) -> float | None:
        """Return the energy since `start` in kWh, or None where it is not known."""
        if self._begun is None:
            return None
        try:
            taken = [read() - begun for read, begun in zip(self._reads, self._begun, strict=True)]
        except Exception:  # the driver was restarted, a GPU fell off the bus
            self._begun = None
            return None
        if min(taken) < 0:  # the account began anew
            self._begun = None
            return None
        return sum(taken) / MILLIJOULES


def gpu_uuids(device: torch.device, processes: int = 1) -> list[str]:
    """Return the UUIDs of the GPUs that a training uses, none on another device or where torch does not tell.

    Args:
        device: This process's.
        processes: Of a distributed training, each on a GPU of its own.
    """
    if device.type != "cuda":
        return []
    import torch

    numbers = range(processes) if processes > 1 else [device.index or 0]
    try:
        return [f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in numbers]
    except (AttributeError, AssertionError, RuntimeError):
        return []


def _reader(nvml: Any, handle: Any) -> Callable[[], float]:
    """Return what reads the energy of one GPU: its own account, else the sum of what it drew."""
    try:
        nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except nvml.NVMLError:  # before Volta
        return _Power(lambda: float(nvml.nvmlDeviceGetPowerUsage(handle))).read
    return lambda: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle))


class _Power:
    """Adds up power over time, by trapezoids between two looks.

    Args:
        watch: Returns the power now, mW.
        every: Seconds between two looks.
    """

    def __init__(self, watch: Callable[[], float], every: float = EVERY) -> None:
        self._watch = watch
        self._lock = threading.Lock()
        self._energy = 0.0  # mJ
        self._time, self._power = time.monotonic(), watch()
        threading.Thread(target=_look_again, args=(weakref.ref(self), every), daemon=True).start()

    def read(self) -> float:
        """Return the energy so far, mJ."""
        with self._lock:
            now, power = time.monotonic(), self._watch()
            self._energy += (now - self._time) * (power + self._power) / 2
            self._time, self._power = now, power
            return self._energy


def _look_again(meter: weakref.ref[_Power], every: float) -> None:
    """Look at the power again and again, as long as somebody has use for it."""
    while True:
        time.sleep(every)
        power = meter()
        if power is None:
            return
        try:
            power.read()
        except Exception:  # the reader of the result meets the same error, and says so
            return
        del power
