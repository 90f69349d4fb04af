"""A GPU as NVML reports it. What NVML cannot answer is None: no library, no driver, no permission, an older card."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class GpuMemory(NamedTuple):
    """Memory of a GPU, bytes."""

    used: float
    total: float


class Gpu:
    """A GPU in NVML.

    Args:
        nvml: The module `pynvml`, initialised (see `open_nvml`); None answers nothing.
        handle: Returns the GPU's handle, given the module.
    """

    def __init__(self, nvml: Any, handle: Callable[[Any], Any]) -> None:
        self._nvml = nvml
        self._handle: Any = None
        with suppress(Exception):  # there is no such GPU
            self._handle = None if nvml is None else handle(nvml)

    @classmethod
    def of_uuid(cls, uuid: str, nvml: Any) -> Gpu:
        """Return the GPU of a UUID such as ``GPU-8a1c...``."""
        return cls(nvml, lambda library: library.nvmlDeviceGetHandleByUUID(uuid))

    @classmethod
    def of_index(cls, index: int, nvml: Any) -> Gpu:
        """Return the GPU of an index as NVML counts, which may differ from CUDA's."""
        return cls(nvml, lambda library: library.nvmlDeviceGetHandleByIndex(index))

    @classmethod
    def of_device(cls, device: str) -> Gpu:
        """Return the GPU of a torch device such as ``cuda:0``."""
        import torch

        with suppress(Exception):
            return cls.of_uuid(f"GPU-{torch.cuda.get_device_properties(device).uuid}", open_nvml())
        return cls(None, lambda library: None)

    def energy(self) -> float | None:
        """Return the energy since the driver was loaded, mJ; GPUs before Volta do not count it."""
        return self._answer(lambda nvml, handle: float(nvml.nvmlDeviceGetTotalEnergyConsumption(handle)))

    def power(self) -> float | None:
        """Return the power now, mW."""
        return self._answer(lambda nvml, handle: float(nvml.nvmlDeviceGetPowerUsage(handle)))

    def power_limit(self) -> float | None:
        """Return the power limit that is in force, mW."""
        return self._answer(lambda nvml, handle: float(nvml.nvmlDeviceGetEnforcedPowerLimit(handle)))

    def memory(self) -> GpuMemory | None:
        """Return the memory in use and in all."""

        def read(nvml: Any, handle: Any) -> GpuMemory:
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            return GpuMemory(float(memory.used), float(memory.total))

        return self._answer(read)

    def utilization(self) -> int | None:
        """Return the share of time in use just now, per cent."""
        return self._answer(lambda nvml, handle: int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu))

    def clock(self) -> int | None:
        """Return the clock of the multiprocessors now, MHz."""
        return self._answer(lambda nvml, handle: int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)))

    def memory_clock(self) -> int | None:
        """Return the clock of the memory now, MHz."""
        return self._answer(lambda nvml, handle: int(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)))

    def highest_clock(self) -> int | None:
        """Return the highest clock of the multiprocessors, MHz."""
        return self._answer(lambda nvml, handle: int(nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)))

    def temperature(self) -> int | None:
        """Return the temperature of the chip, degrees Celsius."""
        return self._answer(lambda nvml, handle: int(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)))

    def processes(self) -> frozenset[int] | None:
        """Return the ids of the processes that compute on it; in a container they are numbered differently."""

        def read(nvml: Any, handle: Any) -> frozenset[int]:
            return frozenset(int(process.pid) for process in nvml.nvmlDeviceGetComputeRunningProcesses(handle))

        return self._answer(read)

    def driver(self) -> str | None:
        """Return the version of the driver."""

        def read(nvml: Any, handle: Any) -> str:
            version = nvml.nvmlSystemGetDriverVersion()
            return version.decode() if isinstance(version, bytes) else str(version)

        return self._answer(read)

    def _answer(self, query: Callable[[Any, Any], T]) -> T | None:
        if self._handle is None:
            return None
        with suppress(Exception):  # NVML raises for whatever a card does not support, and if the GPU is lost
            return query(self._nvml, self._handle)
        return None


def open_nvml(library: Any = None) -> Any:
    """Return the module `pynvml`, initialised, or another one with its functions; None where NVML does not answer."""
    with suppress(Exception):
        nvml = library or import_module("pynvml")
        nvml.nvmlInit()
        return nvml
    return None


def gpu_count(nvml: Any) -> int:
    """Return how many GPUs the machine has, by NVML as `open_nvml` returns it."""
    with suppress(Exception):
        return int(nvml.nvmlDeviceGetCount())
    return 0
