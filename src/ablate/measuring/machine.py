"""Measurement environment: device, clocks, driver, threads, load, and other processes on the device."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, TypeAlias

from ablate.measuring.gpu import Gpu
from ablate.measuring.processor import cpu_mhz, processor_name

if TYPE_CHECKING:
    import torch

Facts: TypeAlias = dict[str, bool | int | float | str | None]
"""Facts of the protocol in `latency.json`, by their names there."""

BUSY = 0.1  # share of the processor's time that others may take
BUSY_GPU = 5  # per cent of the time that a GPU may be in use before we use it


def device_name(device: torch.device | str) -> str:
    """Return the name of a device as its maker calls it."""
    if str(device).startswith("cuda"):
        import torch

        return str(torch.cuda.get_device_name(device))
    return processor_name()


def describe(device: str) -> Facts:
    """Return what does not change while measuring: device, versions, threads, highest clock."""
    import torch

    facts: Facts = {
        "device": device,
        "device_name": device_name(device),
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
    }
    if device.startswith("cuda"):
        facts |= {"cuda": torch.version.cuda, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
        gpu = Gpu.of_device(device)
        facts |= {"driver": gpu.driver(), "gpu_mhz_max": gpu.highest_clock(), "gpu_power_limit_w": _watts(gpu)}
    return facts


def state(device: str) -> Facts:
    """Return what may change while measuring: load average and clocks, now."""
    facts: Facts = {
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
        "cpu_mhz": cpu_mhz(),
    }
    if device.startswith("cuda"):
        gpu = Gpu.of_device(device)
        facts |= {"gpu_mhz": gpu.clock(), "gpu_memory_mhz": gpu.memory_clock(), "gpu_celsius": gpu.temperature()}
    return facts


class OthersLoad:
    """The share of the processor's time that other processes, and the machine below a virtual one, take.

    A compiler that this process starts counts as another process too: pause while there may be one.

    Args:
        watching: Measure from now on; else from `resume` on.
    """

    def __init__(self, *, watching: bool = True) -> None:
        self._watching = watching
        self._others = self._elapsed = 0.0  # seconds, of what was watched before
        self._start = self._now()

    def resume(self) -> None:
        """Measure from now on."""
        self.pause()
        self._start = self._now()
        self._watching = True

    def pause(self) -> None:
        """Stop measuring."""
        self._others, self._elapsed = self._measured()
        self._watching = False

    def share(self) -> float:
        """Return the share, from 0 to 1, of all cores' time while it measured."""
        import psutil

        others, elapsed = self._measured()
        return min(max(others / max(elapsed * (psutil.cpu_count() or 1), 1e-9), 0.0), 1.0)

    def _measured(self) -> tuple[float, float]:
        """Return seconds of others' work and of the clock, of all that was measured so far."""
        if not self._watching:
            return self._others, self._elapsed
        busy, ours, elapsed = (now - then for now, then in zip(self._now(), self._start, strict=True))
        return self._others + busy - ours, self._elapsed + elapsed

    @staticmethod
    def _now() -> tuple[float, float, float]:
        """Return seconds so far: of all cores' work, of this process's, of the clock."""
        import psutil

        times = psutil.cpu_times()
        # Waiting for a disk is no work; the time of guests is part of "user" already.
        busy = sum(getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq", "steal"))
        ours = psutil.Process().cpu_times()
        return busy, ours.user + ours.system, time.perf_counter()


def busy_before(device: str, seconds: float = 1.0) -> tuple[Facts, list[str]]:
    """Look for other processes on a device that is about to be used.

    Returns:
        Facts for the protocol, and one line for each reason why the device is busy.
    """
    others = OthersLoad()
    time.sleep(seconds)
    share = others.share()
    facts: Facts = {"others_cpu_before": round(share, 3)}
    reasons = [_of_processor(share, "before the measurement")] if share > BUSY else []
    if device.startswith("cuda"):
        gpu = Gpu.of_device(device)
        used, listed = gpu.utilization(), gpu.processes()
        # Where processes have numbers of their own (containers), ours is not among those listed.
        processes = None if listed is None else len(listed - {os.getpid()})
        facts |= {"gpu_use_before": used, "gpu_processes": processes}
        if used is None and processes is None:
            reasons.append("whether others use the GPU is not known: NVML does not answer (pip install nvidia-ml-py)")
        if used is not None and used > BUSY_GPU:
            reasons.append(f"the GPU was in use for {used} % of the time before the measurement")
        if processes:
            reasons.append(f"{processes} other process{'es' * (processes > 1)} used the GPU")
    return facts, reasons


def gpu_processes(device: str) -> frozenset[int] | None:
    """Return the ids of the processes that compute on a GPU now; None where that is not known or it is no GPU.

    With a CUDA context this process is among them, though in a container under another id.
    """
    if not device.startswith("cuda"):
        return None
    return Gpu.of_device(device).processes()


def busy_during(share: float, newcomers: int = 0) -> list[str]:
    """Return one line for each reason why the device was busy with other work while measuring.

    Args:
        share: Of the processor's time, that others took.
        newcomers: Processes on the GPU at the end that were not there at the beginning.
    """
    reasons = [_of_processor(share, "during the measurement")] if share > BUSY else []
    if newcomers:
        reasons.append(f"{newcomers} other process{'es' * (newcomers > 1)} came to the GPU during the measurement")
    return reasons


def _of_processor(share: float, when: str) -> str:
    return f"other processes took {share:.0%} of the processor's time {when} (up to {BUSY:.0%} is accepted)"


def _watts(gpu: Gpu) -> float | None:
    limit = gpu.power_limit()
    return None if limit is None else limit / 1e3
