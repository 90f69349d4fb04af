"""What a latency was measured among: the device, its clocks and driver, threads, load, and who else used it."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ablate.measuring.processor import cpu_mhz, processor_name

if TYPE_CHECKING:
    import torch

BUSY = 0.1  # share of the processor's time that others may take
BUSY_GPU = 5  # per cent of the time that a GPU may be in use before we use it


def device_name(device: torch.device | str) -> str:
    """Return the name of a device as its maker calls it."""
    if str(device).startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    return processor_name()


def describe(device: str) -> dict[str, Any]:
    """Return what does not change while measuring: device, versions, threads, clocks at most."""
    import torch

    facts: dict[str, Any] = {
        "device": device,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
    if device.startswith("cuda"):
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
        with _Gpu(device) as gpu:
            facts |= gpu.facts()
    return facts


def state(device: str) -> dict[str, Any]:
    """Return what may change while measuring: load average and clocks, now."""
    facts: dict[str, Any] = {
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "cpu_mhz": cpu_mhz(),
    }
    if device.startswith("cuda"):
        with _Gpu(device) as gpu:
            facts |= gpu.clocks()
    return facts


class OthersLoad:
    """The share of the processor's time that other processes, and the machine below a virtual one, take.

    A compiler that we start is another process too: pause while there may be one.

    Args:
        watching: Watch from now on; else from `resume` on.
    """

    def __init__(self, *, watching: bool = True) -> None:
        self._watching = watching
        self._others = self._elapsed = 0.0  # seconds, of what was watched before
        self._start = self._now()

    def resume(self) -> None:
        """Watch from now on."""
        self.pause()
        self._start = self._now()
        self._watching = True

    def pause(self) -> None:
        """Watch no more."""
        self._others, self._elapsed = self._seen()
        self._watching = False

    def share(self) -> float:
        """Return the share, from 0 to 1, of all cores' time while it watched."""
        import psutil

        others, elapsed = self._seen()
        return min(max(others / max(elapsed * (psutil.cpu_count() or 1), 1e-9), 0.0), 1.0)

    def _seen(self) -> tuple[float, float]:
        """Return seconds of others' work and of the clock, of all that was watched so far."""
        if not self._watching:
            return self._others, self._elapsed
        busy, own, elapsed = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return self._others + busy - own, self._elapsed + elapsed

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Return seconds so far: of all cores' work, of this process's, of the clock."""
        import psutil

        times = psutil.cpu_times()
        # Waiting for a disk is no work; the time of guests is part of "user" already.
        busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        own = psutil.Process().cpu_times()
        return busy, own.user + own.system, time.perf_counter()


def busy_before(device: str, seconds: float = 1.0) -> tuple[dict[str, Any], list[str]]:
    """Look for somebody else on a device that we are about to use.

    Returns:
        Facts for the protocol, and in words what keeps the device busy.
    """
    others = OthersLoad()
    time.sleep(seconds)
    share = others.share()
    facts: dict[str, Any] = {"others_cpu_before": round(share, 3)}
    reasons = [_of_processor(share, "before the measurement")] if share > BUSY else []
    if device.startswith("cuda"):
        with _Gpu(device) as gpu:
            used, processes = gpu.use()
        facts |= {"gpu_use_before": used, "gpu_processes": processes}
        if used is None and processes is None:
            reasons.append("whether others use the GPU is not known: NVML does not answer (pip install nvidia-ml-py)")
        if used is not None and used > BUSY_GPU:
            reasons.append(f"the GPU was in use for {used} % of the time before the measurement")
        if processes:
            reasons.append(f"{processes} other process{'es' * (processes > 1)} used the GPU")
    return facts, reasons


def gpu_processes(device: str) -> frozenset[int] | None:
    """Return the numbers of the processes that compute on a GPU now; None where that is not known or it is no GPU.

    With a CUDA context of our own we are among them, though in a container under a number that is not ours.
    """
    if not device.startswith("cuda"):
        return None
    with _Gpu(device) as gpu:
        return gpu.processes()


def busy_during(share: float, newcomers: int = 0) -> list[str]:
    """Return in words what kept the device busy beside us while measuring.

    Args:
        share: Of the processor's time, that others took.
        newcomers: Processes on the GPU at the end that were not there at the beginning.
    """
    reasons = [_of_processor(share, "during the measurement")] if share > BUSY else []
    if newcomers:
        reasons.append(f"{newcomers} other process{'es' * (newcomers > 1)} came to the GPU during the measurement")
    return reasons


def _of_processor(share: float, when: str) -> str:
    return f"other processes took {share:.0%} of the processor's time {when}; up to {BUSY:.0%} is let pass"


class _Gpu:
    """A GPU as NVML sees it; every question has no answer where NVML has none."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._nvml: Any = None
        self._handle: Any = None

    def __enter__(self) -> _Gpu:
        import torch

        with suppress(Exception):  # no driver, no library, no permission: then nothing is known
            import pynvml

            pynvml.nvmlInit()
            self._nvml = pynvml
            identity = str(torch.cuda.get_device_properties(self._device).uuid)
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
        return self

    def __exit__(self, *exception: object) -> None:
        if self._nvml is not None:
            with suppress(Exception):
                self._nvml.nvmlShutdown()

    def _ask(self, question: Any) -> Any:
        if self._handle is None:
            return None
        with suppress(Exception):  # NVML raises for whatever a card does not support
            return question(self._nvml, self._handle)
        return None

    def facts(self) -> dict[str, Any]:
        return {
            "driver": self._ask(lambda nvml, card: _text(nvml.nvmlSystemGetDriverVersion())),
            "gpu_mhz_max": self._ask(lambda nvml, card: nvml.nvmlDeviceGetMaxClockInfo(card, nvml.NVML_CLOCK_SM)),
            "gpu_power_limit_w": self._ask(lambda nvml, card: nvml.nvmlDeviceGetEnforcedPowerLimit(card) / 1e3),
        }

    def clocks(self) -> dict[str, Any]:
        return {
            "gpu_mhz": self._ask(lambda nvml, card: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM)),
            "gpu_memory_mhz": self._ask(lambda nvml, card: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_MEM)),
            "gpu_celsius": self._ask(lambda nvml, card: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU)),
        }

    def use(self) -> tuple[int | None, int | None]:
        """Return the GPU's use in per cent and how many other processes compute on it; None where unknown."""
        used = self._ask(lambda nvml, card: int(nvml.nvmlDeviceGetUtilizationRates(card).gpu))
        listed = self.processes()
        # Where processes have numbers of their own (containers), ours is not among those listed.
        return used, None if listed is None else len(listed - {os.getpid()})

    def processes(self) -> frozenset[int] | None:
        """Return the numbers of the processes that compute on it; None where unknown."""
        listed = self._ask(lambda nvml, card: nvml.nvmlDeviceGetComputeRunningProcesses(card))
        return None if listed is None else frozenset(int(process.pid) for process in listed)


def _text(found: Any) -> str:
    return found.decode() if isinstance(found, bytes) else str(found)
