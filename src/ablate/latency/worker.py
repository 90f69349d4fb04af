"""The job of a worker process: load a sweep's networks, run them in every setting, tell what was seen."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ablate.errors import ConfigError
from ablate.latency.backends import (
    TYPES,
    Forward,
    Unusable,
    channels_of,
    deploy,
    head_of,
    memory_format,
    prepare,
    reference,
    uses_events,
    verify,
)
from ablate.latency.latency_settings import Setting
from ablate.latency.pipeline import Pipeline, drawn_pictures, read_pictures
from ablate.latency.timing import Runner, Stopwatch, one_line, run_rounds
from ablate.launching.devices import no_such_gpu
from ablate.measuring import machine as surroundings
from ablate.records.checkpoint_origin import checkpoint_signature
from ablate.records.records import short

if TYPE_CHECKING:
    from torch import Tensor, nn

PICTURES = 8  # pictures that the pipeline takes in turn


@dataclass(frozen=True)
class Plan:
    """How long to measure, and where.

    Attributes:
        device: A torch device.
        rounds: That count.
        warmup: Rounds before them at least.
        warmup_max: Rounds before them at most.
        threads: Of PyTorch and ONNX Runtime on the processor.
        seed: Of the order and of the images.
        pictures: For the pipeline: files of real ones; drawn ones where there are none.
    """

    device: str = "cpu"
    rounds: int = 50
    warmup: int = 10
    warmup_max: int = 40
    threads: int = 1
    seed: int = 0
    pictures: Sequence[str] = ()


@dataclass
class _Ready:
    """A network in one backend, precision and batch: how to run it, or why it cannot be."""

    forward: Forward | None = None
    difference: float | None = None
    reason: str | None = None


def measure_checkpoints(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Measure trained checkpoints.

    Args:
        payload: ``networks`` {key: {"checkpoint", "signature" (of its trial), "imgsz", "head"}}, ``settings`` (each
            as `Setting.plain`), ``busy`` ("flag" or "refuse"), ``plan`` (fields of `Plan`; ``threads`` may be None:
            all that this process may use), ``progress`` (a file to write it to, or None).

    Returns:
        As `measure_networks`.

    Raises:
        ConfigError: There is no such device, or it is busy and was to be refused.
    """
    from ablate.settings.environment import cpu_threads, output_to
    from ablate.settings.environment import prepare as prepare_environment

    prepare_environment()
    with output_to(Path(os.devnull)):
        plan = Plan(**{**payload["plan"], "threads": payload["plan"].get("threads") or cpu_threads()})
        _check_device(plan.device)
        before, reasons = surroundings.busy_before(plan.device)
        _refuse(payload["busy"], reasons)
        networks, unreadable = _load(payload["networks"])
        if not networks:
            raise ConfigError(f"no checkpoint can be measured: {next(iter(unreadable.values()))}")
        settings = [Setting(**words) for words in payload["settings"]]
        found = measure_networks(networks, settings, plan, on_progress=_to_file(payload.get("progress")))
        _refuse(payload["busy"], found["flags"])
    for setting in found["settings"]:
        for key, reason in unreadable.items():
            setting["networks"][key] = {"parts": [], "difference": None, "reason": reason}
    return {**found, "facts": {**found["facts"], **before}, "flags": [*reasons, *found["flags"]]}


def _load(entries: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, tuple[nn.Module, int]], dict[str, str]]:
    """Return the deployed networks with their image sizes, and why the others cannot be loaded."""
    from ultralytics.nn.tasks import load_checkpoint

    networks: dict[str, tuple[nn.Module, int]] = {}
    unreadable: dict[str, str] = {}
    for key, entry in entries.items():
        writer = checkpoint_signature(Path(entry["checkpoint"]))
        if writer not in (None, entry.get("signature", writer)):
            unreadable[key] = f"the checkpoint is of another trial, {short(writer)}"
            continue
        try:
            networks[key] = deploy(load_checkpoint(entry["checkpoint"])[0], entry["head"]), int(entry["imgsz"])
        except Exception as error:  # a damaged file may raise anything
            unreadable[key] = f"the checkpoint cannot be loaded: {one_line(error)}"
    return networks, unreadable


def measure_networks(
    networks: Mapping[str, tuple[nn.Module, int]],
    settings: Sequence[Setting],
    plan: Plan,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, Any]:
    """Measure deployed networks in every setting, all of them interleaved in each.

    Args:
        networks: By key, a network as `backends.deploy` leaves it and the side of its square input in pixels.
        settings: In which to measure.
        plan: How long, and where.
        on_progress: Called with (what, rounds done, rounds in all).

    Returns:
        ``{"facts", "flags", "settings": [{"setting", "facts", "unsteady", "networks"}]}``, where ``networks`` has by
        key ``{"parts", "difference", "reason"}``; ``parts`` holds for each round the milliseconds of the network, or
        of the pipeline's three parts.
    """
    torch.set_num_threads(plan.threads)
    largest = max(size for _, size in networks.values())
    pictures = {channels: read_pictures(plan.pictures[:PICTURES], channels) for channels in _channels(networks)}
    real = all(pictures.values())
    pictures = {c: read or drawn_pictures(PICTURES, largest, plan.seed, c) for c, read in pictures.items()}
    facts = {**surroundings.describe(plan.device), "head": _head(networks)}
    start = surroundings.state(plan.device)
    if plan.device.startswith("cuda"):
        torch.zeros(1, device=plan.device)  # so that NVML lists us from the beginning, whatever our number is to it
    present = surroundings.gpu_processes(plan.device)
    progress = _Progress(on_progress, len(settings) * (plan.warmup + plan.rounds))
    results: dict[Setting, dict[str, Any]] = {}
    others = surroundings.OthersLoad(watching=False)
    groups = dict.fromkeys((setting.backend, setting.precision, setting.batch) for setting in settings)
    for backend, precision, batch in groups:
        progress.say(f"preparing {backend}, {precision}, batch {batch}")
        ready = {key: _make_ready(*entry, backend, precision, batch, plan) for key, entry in networks.items()}
        for setting in settings:
            if (setting.backend, setting.precision, setting.batch) == (backend, precision, batch):
                progress.say(str(setting))
                results[setting] = _measure(networks, ready, setting, plan, pictures, progress, others)
                results[setting]["facts"]["pictures"] = (
                    None
                    if setting.scope == "network"
                    else f"{len(next(iter(pictures.values())))} {'of the data' if real else 'drawn'}"
                )
    share = others.share()
    end = surroundings.state(plan.device)
    facts |= {f"{name}_before": value for name, value in start.items()}
    facts |= {f"{name}_after": value for name, value in end.items()}
    facts["others_cpu_during"] = round(share, 3)
    leaving = surroundings.gpu_processes(plan.device)
    newcomers = None if present is None or leaving is None else len(leaving - present - {os.getpid()})
    if plan.device.startswith("cuda"):
        facts["gpu_newcomers_during"] = newcomers
    return {
        "facts": facts,
        "flags": surroundings.busy_during(share, newcomers or 0),
        "settings": [results[setting] for setting in settings],
    }


def _make_ready(network: nn.Module, size: int, backend: str, precision: str, batch: int, plan: Plan) -> _Ready:
    """Prepare one network, and see that it computes what it did in fp32 and eager mode."""
    channels = channels_of(network)
    example, other = (_image(batch, channels, size, seed).to(plan.device) for seed in (plan.seed, plan.seed + 1))
    try:
        forward = prepare(network, backend, precision, example, threads=plan.threads)
        difference = verify(forward, reference(network, other), other, precision)
    except Unusable as error:
        return _Ready(reason=str(error))
    return _Ready(forward, difference)


def _measure(
    networks: Mapping[str, tuple[nn.Module, int]],
    ready: Mapping[str, _Ready],
    setting: Setting,
    plan: Plan,
    pictures: Mapping[int, Sequence[Any]],
    progress: _Progress,
    others: surroundings.OthersLoad,
) -> dict[str, Any]:
    """Time what is ready in one setting; watch others during the rounds that count."""
    clock = Stopwatch(plan.device, events=uses_events(setting.backend))
    runners: dict[str, Runner] = {}
    for key, (network, size) in networks.items():
        forward = ready[key].forward
        if forward is None:
            continue
        if setting.scope == "network":
            image = _image(setting.batch, channels_of(network), size, plan.seed).to(
                plan.device, TYPES[setting.precision]
            )
            runners[key] = _forward_runner(clock, forward, image)
        else:
            runners[key] = Pipeline(network, forward, pictures[channels_of(network)], size, setting, plan.device)
    with torch.inference_mode():
        found = run_rounds(
            runners,
            rounds=plan.rounds,
            warmup=plan.warmup,
            warmup_max=plan.warmup_max,
            seed=plan.seed,
            on_round=progress.round,
            on_start=others.resume,
        )
    others.pause()
    progress.end(plan.warmup + plan.rounds)
    sizes = sorted({size for _, size in networks.values()})
    return {
        "setting": setting.plain(),
        "facts": {
            "imgsz": sizes[0] if len(sizes) == 1 else sizes,
            "warmup": found.warmup,
            "warmed_up": not found.unsteady if found.warmup else None,  # nothing warmed up can be neither
            "clock": clock.clock,
            "memory_format": memory_format(setting.backend, plan.device),
        },
        "unsteady": found.unsteady,
        "networks": {
            key: {
                "parts": [list(parts) for parts in found.parts.get(key, [])],
                "difference": ready[key].difference,
                "reason": ready[key].reason or found.failures.get(key),
            }
            for key in networks
        },
    }


def _forward_runner(clock: Stopwatch, forward: Forward, image: Tensor) -> Runner:
    return lambda turn: (clock.time(lambda: forward(image)),)


def _image(batch: int, channels: int, size: int, seed: int) -> Tensor:
    return torch.rand(batch, channels, size, size, generator=torch.Generator().manual_seed(seed))


def _channels(networks: Mapping[str, tuple[nn.Module, int]]) -> set[int]:
    return {channels_of(network) for network, _ in networks.values()}


def _head(networks: Mapping[str, tuple[nn.Module, int]]) -> str:
    return "; ".join(dict.fromkeys(head_of(network) for network, _ in networks.values()))


def _check_device(device: str) -> None:
    count = torch.cuda.device_count()
    if device.startswith("cuda") and int(device.partition(":")[2] or 0) >= count:
        raise ConfigError(no_such_gpu(f"device={device}", count))


def _refuse(busy: str, reasons: Sequence[str]) -> None:
    if busy == "refuse" and reasons:
        raise ConfigError(f"the device is busy, and latency.busy=refuse: {'; '.join(reasons)}")


class _Progress:
    """Adds up the rounds of all settings."""

    def __init__(self, heard: Callable[[str, int, int], None] | None, total: int) -> None:
        self._heard = heard or (lambda what, done, total: None)
        self._what, self._base, self._total = "", 0, total

    def say(self, what: str) -> None:
        self._what = what
        self._heard(what, self._base, self._total)

    def round(self, done: int, total: int) -> None:
        self._heard(self._what, self._base + done, max(self._total, self._base + total))

    def end(self, rounds: int) -> None:
        self._base += rounds


def _to_file(path: str | None) -> Callable[[str, int, int], None] | None:
    """Return what writes progress to a file, whole, a few times a second."""
    if path is None:
        return None
    last = [0.0]

    def write(what: str, done: int, total: int) -> None:
        if time.monotonic() - last[0] < 0.25:
            return
        last[0] = time.monotonic()
        with suppress(OSError):  # a display is not worth a measurement
            beside = Path(f"{path}.new")
            beside.write_text(json.dumps({"what": what, "done": done, "total": total}), encoding="utf-8")
            beside.replace(path)

    return write
