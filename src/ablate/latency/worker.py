"""The job of a worker process: load a sweep's networks and time them in every setting."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

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
from ablate.latency.measurement_job import (
    Checkpoint,
    MeasurementJob,
    MeasurementOptions,
    NetworkTimes,
    ProcessTimes,
    SettingTimes,
    UntrainedJob,
    UntrainedNetwork,
)
from ablate.latency.pipeline import Pipeline, drawn_pictures, read_pictures
from ablate.latency.timing import Runner, Stopwatch, one_line, run_rounds
from ablate.launching.devices import no_such_gpu
from ablate.measuring import machine
from ablate.records.checkpoint_origin import checkpoint_signature
from ablate.records.trial_record import short
from ablate.settings.environment import cpu_threads, output_to
from ablate.settings.environment import prepare as prepare_environment
from ablate.sources.working_folder import allow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

# The branch of untrained heads. The other one has the same layers, and picks among scores that are all alike before
# training: by rounding, so that its output could not be checked.
HEAD = "one_to_many"
PICTURES = 8  # images that the pipeline takes in turn
_Loaded: TypeAlias = "tuple[dict[str, tuple[nn.Module, int]], dict[str, str]]"  # and by key why others are not


@dataclass
class _Ready:
    """A network in one backend, precision and batch: how to run it, or why it cannot be."""

    forward: Forward | None = None
    difference: float | None = None
    reason: str | None = None


def measure_checkpoints(job: MeasurementJob) -> ProcessTimes:
    """Measure trained checkpoints; runs in a worker.

    Raises:
        ConfigError: There is no such device, none of the checkpoints can be loaded, or the device is busy and was to
            be refused.
    """
    return _measure_all(job, lambda: _load(job.checkpoints), "no checkpoint can be measured")


def measure_untrained(job: UntrainedJob) -> ProcessTimes:
    """Build networks as their trials would start with them, and measure these; runs in a worker.

    Raises:
        ConfigError: As `measure_checkpoints`; or none of the networks can be built.
    """
    return _measure_all(job, lambda: _build(job.networks), "no network can be measured")


def _measure_all(job: MeasurementJob | UntrainedJob, load: Callable[[], _Loaded], problem: str) -> ProcessTimes:
    """Measure what can be loaded; say of the rest why it cannot be, and how others used the device."""
    prepare_environment()
    with output_to(Path(os.devnull)):
        _check_device(job.options.device)
        before, reasons = machine.busy_before(job.options.device)
        _check_quiet(job, reasons)
        networks, unreadable = load()
        if not networks:
            raise ConfigError(f"{problem}: {next(iter(unreadable.values()))}")
        measured = measure_networks(networks, job.settings, job.options, on_progress=_to_file(job.progress))
        _check_quiet(job, measured.flags)
    without_times = {key: NetworkTimes(reason=reason) for key, reason in unreadable.items()}
    settings = [replace(times, networks={**times.networks, **without_times}) for times in measured.settings]
    return ProcessTimes({**measured.facts, **before}, (*reasons, *measured.flags), tuple(settings))


def _build(untrained: Mapping[str, UntrainedNetwork]) -> _Loaded:
    """Return deployed networks with their image sizes, and why the others cannot be built."""
    from ablate.checkpoints.stored_network import read_checkpoint
    from ablate.grafting.imported import allow_code
    from ablate.training.network import build_network, trained_imgsz
    from ablate.training.trainer_arguments import network_yaml

    networks: dict[str, tuple[nn.Module, int]] = {}
    unbuildable: dict[str, str] = {}
    for key, each in untrained.items():
        settings = each.settings
        weights, trust = settings.model.weights, settings.command.trust_weights
        allow(settings.targets)
        try:
            allow_code(settings.grafts)
            network, _, _ = build_network(
                network_yaml(settings),
                classes=len(each.classes),
                channels=each.channels,
                names=dict(enumerate(each.classes)),
                weights=None if weights is None else read_checkpoint(Path(weights), trust=trust).network,
                source=str(weights),
            )
            imgsz = trained_imgsz(network, settings.train.imgsz)
            network = deploy(network, HEAD)
            with torch.inference_mode():  # not every width fits the heads of an attention
                network(torch.zeros(1, each.channels, imgsz, imgsz))
        except Exception as error:  # modules of a user may raise anything
            unbuildable[key] = f"the network cannot be built: {one_line(error)}"
            continue
        networks[key] = network, imgsz
    return networks, unbuildable


def _load(checkpoints: Mapping[str, Checkpoint]) -> _Loaded:
    """Return the deployed networks with their image sizes, and why the others cannot be loaded."""
    from ablate.checkpoints.file_check import UnsafeCheckpoint
    from ablate.checkpoints.stored_network import read_own
    from ablate.grafting.stored_modules import UntrustedModule
    from ablate.training.network import restore

    networks: dict[str, tuple[nn.Module, int]] = {}
    unreadable: dict[str, str] = {}
    for key, checkpoint in checkpoints.items():
        writer = checkpoint_signature(Path(checkpoint.path))
        if writer not in (None, checkpoint.signature or writer):
            unreadable[key] = f"the checkpoint is of another trial, {short(writer)}"
            continue
        allow(checkpoint.targets)
        try:
            stored = read_own(Path(checkpoint.path), checkpoint.targets, trust=checkpoint.trust).network
            network = restore(stored, checkpoint.targets, trust=checkpoint.trust or checkpoint.named)
            networks[key] = deploy(network, checkpoint.head), checkpoint.imgsz
        except Exception as error:  # a damaged file may raise anything
            option = ": trust_weights=true" if isinstance(error, UnsafeCheckpoint | UntrustedModule) else ""
            unreadable[key] = f"the checkpoint cannot be loaded: {one_line(error)}{option}"
    return networks, unreadable


def measure_networks(
    networks: Mapping[str, tuple[nn.Module, int]],
    settings: Sequence[Setting],
    options: MeasurementOptions,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
) -> ProcessTimes:
    """Measure deployed networks in every setting, all of them interleaved in each.

    Args:
        networks: By key, a network as `backends.deploy` leaves it and the side of its square input in pixels.
        settings: In which to measure.
        options: How long, and where.
        on_progress: Called with (what, rounds done, rounds in all).
    """
    device, threads = options.device, options.threads or cpu_threads()
    torch.set_num_threads(threads)
    pictures, are_real = _pictures(networks, options)
    facts = {**machine.describe(device), "head": _head(networks)}
    start = machine.state(device)
    if device.startswith("cuda"):
        torch.zeros(1, device=device)  # so that NVML lists this process from the beginning, whatever its id there
    present = machine.gpu_processes(device)
    progress = _Progress(on_progress, len(settings) * (options.warmup + options.rounds))
    results: dict[Setting, SettingTimes] = {}
    others = machine.OthersLoad(watching=False)
    groups = dict.fromkeys((setting.backend, setting.precision, setting.batch) for setting in settings)
    for backend, precision, batch in groups:
        progress.start(f"preparing {backend}, {precision}, batch {batch}")
        ready = {
            key: _make_ready(*entry, backend, precision, batch, device, threads, options.seed)
            for key, entry in networks.items()
        }
        for setting in settings:
            if (setting.backend, setting.precision, setting.batch) == (backend, precision, batch):
                progress.start(str(setting))
                times = _measure(networks, ready, setting, options, pictures, progress, others)
                if setting.scope == "pipeline":
                    count = len(next(iter(pictures.values())))
                    times = replace(times, pictures=f"{count} {'of the data' if are_real else 'drawn'}")
                results[setting] = times
    share = others.share()
    end = machine.state(device)
    facts |= {f"{name}_before": value for name, value in start.items()}
    facts |= {f"{name}_after": value for name, value in end.items()}
    facts["others_cpu_during"] = round(share, 3)
    leaving = machine.gpu_processes(device)
    newcomers = None if present is None or leaving is None else len(leaving - present - {os.getpid()})
    if device.startswith("cuda"):
        facts["gpu_newcomers_during"] = newcomers
    flags = machine.busy_during(share, newcomers or 0)
    return ProcessTimes(facts, tuple(flags), tuple(results[setting] for setting in settings))


def _pictures(
    networks: Mapping[str, tuple[nn.Module, int]], options: MeasurementOptions
) -> tuple[dict[int, list[NDArray[np.uint8]]], bool]:
    """Return by number of channels the images for the pipeline, and whether they are real ones."""
    largest = max(size for _, size in networks.values())
    files = options.pictures[:PICTURES]
    read = {channels: read_pictures(files, channels) for channels in _channels(networks)}
    drawn = {
        channels: drawn_pictures(PICTURES, largest, options.seed, channels)
        for channels, pictures in read.items()
        if not pictures
    }
    return read | drawn, not drawn


def _make_ready(
    network: nn.Module, size: int, backend: str, precision: str, batch: int, device: str, threads: int, seed: int
) -> _Ready:
    """Prepare one network, and check that it computes what it did in fp32 and eager mode."""
    channels = channels_of(network)
    example, other = (_image(batch, channels, size, number).to(device) for number in (seed, seed + 1))
    try:
        forward = prepare(network, backend, precision, example, threads=threads)
        difference = verify(forward, reference(network, other), other, precision)
    except Unusable as error:
        return _Ready(reason=str(error))
    return _Ready(forward, difference)


def _measure(
    networks: Mapping[str, tuple[nn.Module, int]],
    ready: Mapping[str, _Ready],
    setting: Setting,
    options: MeasurementOptions,
    pictures: Mapping[int, Sequence[NDArray[np.uint8]]],
    progress: _Progress,
    others: machine.OthersLoad,
) -> SettingTimes:
    """Time what is ready in one setting; measure others' load during the rounds that count."""
    device = options.device
    clock = Stopwatch(device, events=uses_events(setting.backend))
    runners: dict[str, Runner] = {}
    for key, (network, size) in networks.items():
        forward = ready[key].forward
        if forward is None:
            continue
        if setting.scope == "network":
            image = _image(setting.batch, channels_of(network), size, options.seed)
            runners[key] = _forward_runner(clock, forward, image.to(device, TYPES[setting.precision]))
        else:
            runners[key] = Pipeline(network, forward, pictures[channels_of(network)], size, setting, device)
    with torch.inference_mode():
        measured = run_rounds(
            runners,
            rounds=options.rounds,
            warmup=options.warmup,
            warmup_max=options.warmup_max,
            seed=options.seed,
            on_round=progress.round,
            on_start=others.resume,
        )
    others.pause()
    progress.end(options.warmup + options.rounds)
    sizes = sorted({size for _, size in networks.values()})
    return SettingTimes(
        setting=setting,
        imgsz=sizes[0] if len(sizes) == 1 else sizes,
        warmup=measured.warmup,
        warmed_up=not measured.unsteady if measured.warmup else None,  # nothing warmed up can be neither
        clock=clock.clock,
        memory_format=memory_format(setting.backend, device),
        pictures=None,
        unsteady=tuple(measured.unsteady),
        networks={
            key: NetworkTimes(
                parts=tuple(tuple(parts) for parts in measured.parts.get(key, [])),
                difference=ready[key].difference,
                reason=ready[key].reason or measured.failures.get(key),
            )
            for key in networks
        },
    )


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


def _check_quiet(job: MeasurementJob | UntrainedJob, reasons: Sequence[str]) -> None:
    if job.refuse_busy and reasons:
        raise ConfigError(f"the device is busy, and latency.busy=refuse: {'; '.join(reasons)}")


class _Progress:
    """Adds up the rounds of all settings."""

    def __init__(self, report: Callable[[str, int, int], None] | None, total: int) -> None:
        self._report = report or (lambda what, done, total: None)
        self._what, self._base, self._total = "", 0, total

    def start(self, what: str) -> None:
        self._what = what
        self._report(what, self._base, self._total)

    def round(self, done: int, total: int) -> None:
        self._report(self._what, self._base + done, max(self._total, self._base + total))

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
            draft = Path(f"{path}.new")
            draft.write_text(json.dumps([what, done, total]), encoding="utf-8")
            draft.replace(path)

    return write
