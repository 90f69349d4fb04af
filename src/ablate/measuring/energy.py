"""GPU energy of a code section, by NVML: that of the whole board, whichever processes use it."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ablate.measuring.gpu import Gpu, open_nvml

if TYPE_CHECKING:
    import torch

MILLIJOULES = 3.6e9  # in a kWh
EVERY = 0.5  # seconds between two samples of the power, where a board does not count its energy


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
        self._counters: list[Callable[[], float | None]] = []  # mJ since some moment, one for each GPU
        self._begun: list[float] | None = None

    def start(self) -> None:
        """Measure from now on; where NVML or a GPU does not answer, `kwh` will be None."""
        self._begun = None
        if not self._uuids:
            return
        nvml = open_nvml(self._library)
        self._counters = [_energy_counter(Gpu.of_uuid(uuid, nvml)) for uuid in self._uuids]
        self._begun = self._read()

    def kwh(self) -> float | None:
        """Return the energy since `start` in kWh, or None where it is not known.

        Once a GPU does not answer, or its counter was reset, it stays unknown.
        """
        if self._begun is None:
            return None
        now = self._read()
        used = [] if now is None else [end - start for end, start in zip(now, self._begun, strict=True)]
        if not used or min(used) < 0:
            self._begun = None
            return None
        return sum(used) / MILLIJOULES

    def _read(self) -> list[float] | None:
        """Return the counters in mJ; None where one does not answer."""
        readings = [read() for read in self._counters]
        answered = [reading for reading in readings if reading is not None]
        return answered if len(answered) == len(readings) else None


def gpu_uuids(device: torch.device, processes: int = 1) -> list[str]:
    """Return the UUIDs of the GPUs that a training uses; none on another device or where torch does not report them.

    Args:
        device: This process's.
        processes: Of a distributed training, each on its own GPU.
    """
    if device.type != "cuda":
        return []
    import torch

    numbers = range(processes) if processes > 1 else [device.index or 0]
    try:
        return [f"GPU-{torch.cuda.get_device_properties(number).uuid}" for number in numbers]
    except (AttributeError, AssertionError, RuntimeError):
        return []


def _energy_counter(gpu: Gpu) -> Callable[[], float | None]:
    """Return what reads the energy of one GPU: its counter, else (before Volta) the integral of its power."""
    return gpu.energy if gpu.energy() is not None else _PowerIntegral(gpu.power).read


class _PowerIntegral:
    """Integrates power over time, by trapezoids between two samples.

    Args:
        sample: Returns the power now, mW.
        every: Seconds between two samples.
    """

    def __init__(self, sample: Callable[[], float | None], every: float = EVERY) -> None:
        self._sample = sample
        self._lock = threading.Lock()
        self._energy = 0.0  # mJ
        self._time, self._power = time.monotonic(), sample()
        threading.Thread(target=_poll, args=(weakref.ref(self), every), daemon=True).start()

    def read(self) -> float | None:
        """Return the energy so far, mJ; None from the first sample on that is missing."""
        with self._lock:
            now, power = time.monotonic(), self._sample()
            if power is None or self._power is None:
                self._power = None
                return None
            self._energy += (now - self._time) * (power + self._power) / 2
            self._time, self._power = now, power
            return self._energy


def _poll(integral: weakref.ref[_PowerIntegral], every: float) -> None:
    """Sample the power until the integral is no longer referenced."""
    while True:
        time.sleep(every)
        power = integral()
        if power is None or power.read() is None:
            return
        del power
