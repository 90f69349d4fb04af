"""Latency of several networks on one device: interleaved rounds in shuffled order, so that drift hits all alike."""

from __future__ import annotations

import os
import platform
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn


def measure(
    networks: Mapping[str, tuple[nn.Module, int]],
    *,
    device: str = "cpu",
    warmup: int = 10,
    rounds: int = 50,
    baseline: Mapping[str, str | None] | None = None,
    seed: int = 0,
    on_round: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Time one forward pass (network only, batch 1, fp32) of every network in every round.

    Args:
        networks: By key, a deployed (fused) network and the side of its square input image in pixels.
        device: A torch device.
        warmup: Rounds before measuring.
        rounds: Measured rounds.
        baseline: For each key the key that its ratio refers to, or None.
        seed: Of the order of the networks within each round.
        on_round: Called with (round, of) after each.

    Returns:
        ``{"protocol": {...}, "variants": {key: {"latency_ms", "latency_p95_ms", "latency_ratio", "samples_ms"}}}``;
        times in milliseconds, ratios as the median over rounds of this round's ratio.
    """
    target = torch.device(device)
    ready = {key: network.to(target).float().eval() for key, (network, _) in networks.items()}
    sizes = {key: size for key, (_, size) in networks.items()}
    images = {
        size: torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(seed)).to(target)
        for size in sorted(set(sizes.values()))
    }
    order = random.Random(seed)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    times: dict[str, list[float]] = {key: [] for key in ready}
    for turn in range(warmup + rounds):
        keys = list(ready)
        order.shuffle(keys)
        for key in keys:
            elapsed = _time(ready[key], images[sizes[key]])
            if turn >= warmup:
                times[key].append(elapsed)
        if on_round is not None:
            on_round(turn + 1, warmup + rounds)
    return {
        "protocol": {
            "device": str(target),
            "device_name": device_name(target),
            "precision": "fp32",
            "batch": 1,
            "imgsz": next(iter(images)) if len(images) == 1 else list(images),
            "warmup": warmup,
            "rounds": rounds,
            "order": "interleaved, shuffled each round",
            "scope": "network only, batch norms folded",
            "threads": torch.get_num_threads(),
            "load_before": load,
            "torch": torch.__version__,
        },
        "variants": {key: _figures(times, key, (baseline or {}).get(key)) for key in ready},
    }


def measure_checkpoints(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Measure trained checkpoints (a job for a worker process).

    Args:
        payload: `checkpoints` {key: (path, imgsz)}, `baseline` {key: key or None}, `device`, `warmup`, `rounds`.

    Returns:
        As `measure`.
    """
    from ablate.environment import cpu_threads, output_to, prepare

    prepare()
    with output_to(Path(os.devnull)):
        torch.set_num_threads(cpu_threads())
        from ultralytics.nn.tasks import load_checkpoint

        networks = {
            key: (load_checkpoint(path, fuse=True)[0], int(size))
            for key, (path, size) in payload["checkpoints"].items()
        }
    return measure(
        networks,
        device=payload["device"],
        warmup=payload["warmup"],
        rounds=payload["rounds"],
        baseline=payload["baseline"],
    )


def device_name(device: torch.device) -> str:
    """Return the name of a device as its maker calls it."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@torch.inference_mode()
def _time(network: nn.Module, image: torch.Tensor) -> float:
    """Return the milliseconds of one forward pass."""
    if image.is_cuda:
        torch.cuda.set_device(image.device)  # events belong to the current device
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        begin.record()
        network(image)
        end.record()
        torch.cuda.synchronize(image.device)
        return float(begin.elapsed_time(end))
    start = time.perf_counter()
    network(image)
    return (time.perf_counter() - start) * 1e3


def _figures(times: Mapping[str, list[float]], key: str, reference: str | None) -> dict[str, Any]:
    mine = times[key]
    ratio = None
    if reference is not None and reference in times:
        ratio = median(a / b for a, b in zip(mine, times[reference], strict=True))
    ranked = sorted(mine)
    return {
        "latency_ms": median(mine),
        "latency_p95_ms": ranked[min(int(0.95 * len(ranked)), len(ranked) - 1)],
        "latency_ratio": ratio,
        "samples_ms": [round(value, 4) for value in mine],
    }
