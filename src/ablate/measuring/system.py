"""What the machine does while a trial trains: processor, memory, disk, network, GPUs, every few seconds, to a file.

The samples bear MLflow's own names, so that its page of system metrics shows them; a training knows nothing of MLflow.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PERIOD = 10.0  # seconds between two samples
MEGABYTE = 1e6

Probe = Callable[[], dict[str, float]]


@contextmanager
def watching(path: Path, period: float = PERIOD, device: str = "auto") -> Iterator[None]:
    """Append a sample to a file at once, then every `period` seconds, and a last one at the end.

    Samples of an earlier part of the same training stay; theirs are the first steps. Nothing that goes wrong here
    reaches the training.

    Args:
        path: A file of JSON lines: `time` (seconds since 1970), `step` (from 0), and values under MLflow's names.
        period: Seconds; 0 takes no samples at all.
        device: Where the training runs: cpu, GPU numbers as PyTorch counts them, or auto for all it can see.
    """
    if period <= 0:
        yield
        return
    over = threading.Event()
    thread = threading.Thread(target=_sample, args=(path, period, device, over), name="system", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=5)  # a driver that hangs must not keep a trained network from being recorded


def _sample(path: Path, period: float, device: str, over: threading.Event) -> None:
    with contextlib.suppress(Exception):  # such as a psutil that cannot read this machine
        probes = [machine_probe(), *gpu_probes(device)]
        step = _go_on(path)
        over.wait(0.2)  # the processor's load is that of the time since the probe was made
        while True:
            last = over.is_set()
            sample: dict[str, float] = {"time": time.time(), "step": step}
            for probe in probes:
                with contextlib.suppress(Exception):  # one that fails now may answer the next time
                    sample |= probe()
            with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(sample) + "\n")
                step += 1
            if last:
                return
            over.wait(period)


def machine_probe() -> Probe:
    """Return a function that measures processor, memory, disk and network of this machine."""
    import psutil

    psutil.cpu_percent()  # the next call tells of the time since this one
    before = psutil.net_io_counters()

    def probe() -> dict[str, float]:
        memory, disk, network = psutil.virtual_memory(), psutil.disk_usage(os.sep), psutil.net_io_counters()
        found = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / MEGABYTE,
            "disk_available_megabytes": disk.free / MEGABYTE,
        }
        if network is not None and before is not None:  # psutil says None where there is no network at all
            found["network_receive_megabytes"] = (network.bytes_recv - before.bytes_recv) / MEGABYTE
            found["network_transmit_megabytes"] = (network.bytes_sent - before.bytes_sent) / MEGABYTE
        return {name: round(value, 1) for name, value in found.items()}

    return probe


def gpu_probes(device: str) -> list[Probe]:
    """Return for each GPU that a training uses a function that measures it; none where NVML does not answer."""
    if device == "cpu":
        return []
    try:
        import pynvml

        pynvml.nvmlInit()
        return [_gpu_probe(pynvml, index) for index in used_gpus(device, pynvml.nvmlDeviceGetCount())]
    except Exception:  # no package, no driver, no permission: MLflow then shows none either
        return []


def used_gpus(device: str, count: int) -> list[int]:
    """Return the numbers, as NVML counts, of the GPUs that a training uses.

    Args:
        device: GPU numbers as PyTorch counts them, which sees only what CUDA_VISIBLE_DEVICES names; else all of those.
        count: How many GPUs the machine has.
    """
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = list(range(count)) if named is None else _numbers(named)
    if visible is None:  # names instead of numbers: show every GPU rather than the wrong one
        return list(range(count))
    seen = [index for index in visible if index < count]
    asked = _numbers(device.replace("cuda:", ""))
    return seen if asked is None else [seen[index] for index in asked if index < len(seen)]


def _numbers(words: str) -> list[int] | None:
    """Return the numbers in a list with commas; None where it holds anything else."""
    parts = [word.strip() for word in words.split(",") if word.strip()]
    return [int(part) for part in parts] if all(part.isdigit() for part in parts) else None


def _gpu_probe(nvml: Any, index: int) -> Probe:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)

    def probe() -> dict[str, float]:
        found: dict[str, float] = {}
        with contextlib.suppress(nvml.NVMLError):
            memory = nvml.nvmlDeviceGetMemoryInfo(handle)
            found["memory_usage_percentage"] = 100 * memory.used / memory.total
            found["memory_usage_megabytes"] = memory.used / MEGABYTE
        with contextlib.suppress(nvml.NVMLError):
            found["utilization_percentage"] = nvml.nvmlDeviceGetUtilizationRates(handle).gpu
        with contextlib.suppress(nvml.NVMLError):
            watts = nvml.nvmlDeviceGetPowerUsage(handle) / 1000
            found["power_usage_watts"] = watts
            found["power_usage_percentage"] = 100_000 * watts / nvml.nvmlDeviceGetEnforcedPowerLimit(handle)
        return {f"gpu_{index}_{name}": round(float(value), 1) for name, value in found.items()}

    return probe


def _go_on(path: Path) -> int:
    """Return how many samples a file holds; end a last one that was cut off, so that it spoils no other."""
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")
            return content.count(b"\n") + 1
        return content.count(b"\n")
    except OSError:
        return 0
