"""System metrics while a trial trains: processor, memory, disk, network and GPUs, sampled periodically to a file.

The samples have MLflow's own names, so that its page of system metrics shows them; a training does not use MLflow.
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

from ablate.measuring.gpu import Gpu, gpu_count, open_nvml

PERIOD = 10.0  # seconds between two samples
MEGABYTE = 1e6

Sampler = Callable[[], dict[str, float]]
"""Returns what is measured now, by MLflow's names."""


@contextmanager
def record_system(path: Path, period: float = PERIOD, device: str = "auto") -> Iterator[None]:
    """Append a sample to a file at once, then every `period` seconds, and a last one at the end.

    Samples of an earlier part of the same training stay, with the first steps. No error in here reaches the training.

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
        thread.join(timeout=5)  # a GPU driver that hangs must not keep a trained network from being recorded


def _sample(path: Path, period: float, device: str, over: threading.Event) -> None:
    with contextlib.suppress(Exception):  # such as a psutil that cannot read this machine
        samplers = [machine_sampler(), *gpu_samplers(device)]
        step = _resume_file(path)
        over.wait(0.2)  # the processor's load is that of the time since the sampler was made
        while True:
            last = over.is_set()
            sample: dict[str, float] = {"time": time.time(), "step": step}
            for measure in samplers:
                with contextlib.suppress(Exception):  # one that fails now may work the next time
                    sample |= measure()
            with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(sample) + "\n")
                step += 1
            if last:
                return
            over.wait(period)


def machine_sampler() -> Sampler:
    """Return a function that measures processor, memory, disk and network of this machine."""
    import psutil

    psutil.cpu_percent()  # the next call covers the time since this one
    before = psutil.net_io_counters()

    def sample() -> dict[str, float]:
        memory, disk, network = psutil.virtual_memory(), psutil.disk_usage(os.sep), psutil.net_io_counters()
        values = {
            "cpu_utilization_percentage": psutil.cpu_percent(),
            "system_memory_usage_megabytes": memory.used / MEGABYTE,
            "system_memory_usage_percentage": 100 * memory.used / memory.total,
            "disk_usage_percentage": disk.percent,
            "disk_usage_megabytes": disk.used / MEGABYTE,
            "disk_available_megabytes": disk.free / MEGABYTE,
        }
        if network is not None and before is not None:  # None where there is no network at all
            values["network_receive_megabytes"] = (network.bytes_recv - before.bytes_recv) / MEGABYTE
            values["network_transmit_megabytes"] = (network.bytes_sent - before.bytes_sent) / MEGABYTE
        return {name: round(value, 1) for name, value in values.items()}

    return sample


def gpu_samplers(device: str) -> list[Sampler]:
    """Return for each GPU that a training uses a function that measures it; none where NVML does not answer."""
    if device == "cpu":
        return []
    nvml = open_nvml()
    return [_gpu_sampler(Gpu.of_index(index, nvml), index) for index in used_gpus(device, gpu_count(nvml))]


def used_gpus(device: str, count: int) -> list[int]:
    """Return the numbers, as NVML counts, of the GPUs that a training uses.

    Args:
        device: GPU numbers as PyTorch counts them, which sees only what CUDA_VISIBLE_DEVICES names; else all of those.
        count: How many GPUs the machine has.
    """
    variable = os.environ.get("CUDA_VISIBLE_DEVICES")
    visible = list(range(count)) if variable is None else _numbers(variable)
    if visible is None:  # names instead of numbers: show every GPU rather than the wrong one
        return list(range(count))
    present = [index for index in visible if index < count]
    requested = _numbers(device.replace("cuda:", ""))
    return present if requested is None else [present[index] for index in requested if index < len(present)]


def _numbers(words: str) -> list[int] | None:
    """Return the numbers in a list with commas; None where it holds anything else."""
    parts = [word.strip() for word in words.split(",") if word.strip()]
    return [int(part) for part in parts] if all(part.isdigit() for part in parts) else None


def _gpu_sampler(gpu: Gpu, index: int) -> Sampler:
    def sample() -> dict[str, float]:
        memory, watts, limit = gpu.memory(), gpu.power(), gpu.power_limit()
        values = {
            "memory_usage_percentage": memory and 100 * memory.used / memory.total,
            "memory_usage_megabytes": memory and memory.used / MEGABYTE,
            "utilization_percentage": gpu.utilization(),
            "power_usage_watts": watts and watts / 1000,
            "power_usage_percentage": watts and limit and 100 * watts / limit,
        }
        return {f"gpu_{index}_{name}": round(float(value), 1) for name, value in values.items() if value is not None}

    return sample


def _resume_file(path: Path) -> int:
    """Return how many samples a file holds; end an incomplete last line, so that the next has its own line."""
    try:
        content = path.read_bytes()
        if content and not content.endswith(b"\n"):
            with path.open("ab") as file:
                file.write(b"\n")
            return content.count(b"\n") + 1
        return content.count(b"\n")
    except OSError:
        return 0
