"""Measure a few steps of each variant of a sweep on the device that it will be trained on."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ablate.console import Terminal
from ablate.data.cache import cache_dir
from ablate.data.catalogue import DataSet
from ablate.launching.devices import DEVICE, LOADERS, Slot, query_gpus
from ablate.launching.jobs import Limits, Observer, Outcome, run_jobs
from ablate.launching.local import LocalBackend
from ablate.measuring.processor import processor_name
from ablate.measuring.step_cost import StepCost, probe
from ablate.preflight.networks import NetworkKey, first_of_each_variant, network_key
from ablate.preflight.result_cache import Cache
from ablate.records.failures import kind_of
from ablate.settings.environment import CPU_THREADS, SHARING, cpu_threads, output_to, prepare
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.content_hash import content_hash
from ablate.storage.plain_values import Plain
from ablate.study.trial import Trial
from ablate.training.trainer_arguments import pick_device, trainer_arguments

PROBE = "ablate.preflight.memory_probe:probe_trial"
LIMITS = Limits(timeout=1800, max_retries=0)  # the first one may have to read all images of a large data set

# Training arguments that change neither the time nor the memory of a step.
IDLE = ("close_mosaic", "epochs", "patience", "plots", "save_period", "time", "val", "verbose")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ProbeFailure:
    """How the first steps of a variant failed.

    Attributes:
        type: One of `ablate.records.failures.TYPES`.
        message: One line.
    """

    type: str
    message: str


@dataclass(frozen=True)
class Probes:
    """The steps of some variants, by variant key.

    Attributes:
        costs: What they take, of one GPU's part where a trial runs on several.
        failures: Why others could not be measured.
    """

    costs: dict[str, StepCost] = field(default_factory=dict)
    failures: dict[str, ProbeFailure] = field(default_factory=dict)


@dataclass(frozen=True)
class Hardware:
    """The devices of this machine.

    Attributes:
        gpus: Name of each GPU.
        cpu: Name of the processor.
    """

    gpus: tuple[str, ...]
    cpu: str


@dataclass(frozen=True)
class ProbeKey:
    """Everything that the time and the memory of a trial's step depend on: neither its seed nor its epochs.

    Attributes:
        network: The network.
        train: Hash of the training arguments that matter for a step.
        mosaic: Whether there is an epoch with mosaics.
        optimizer, orthogonalise, on_oom: As the configuration has them.
        data: Fingerprint of the data set.
        device: The device, as the slot or the configuration names it.
        visible: CUDA_VISIBLE_DEVICES of the slot.
        threads, loaders: Numbers of threads and of loader processes.
        hardware: The devices of the machine.
    """

    network: NetworkKey
    train: str
    mosaic: bool
    optimizer: str
    orthogonalise: str
    on_oom: str
    data: str
    device: str
    visible: str | None
    threads: str
    loaders: str | None
    hardware: Hardware


@dataclass(frozen=True)
class ProbeJob:
    """A trial, for a worker that probes it.

    Attributes:
        settings: Its settings.
        data: Its data set.
        folder: Where it writes; removed afterwards.
    """

    settings: TrialSettings
    data: DataSet
    folder: Path


def probe_variants(trials: Sequence[Trial], slots: Sequence[Slot] = ()) -> Probes:
    """Measure a few steps of each variant, once for those that differ in nothing that a step depends on.

    Variants whose cost is in the cache are not measured again; those that failed are.

    Args:
        trials: Trials that are to run.
        slots: Where they will run on this machine. Variants are probed on several GPUs at a time, but never two on
            one device.
    """
    prepare()  # stores the number of threads that the user has set
    devices, hardware = _one_slot_a_device(slots), Hardware(tuple(query_gpus("name")), processor_name())
    cache = Cache("probes", StepCost)
    first = first_of_each_variant(trials)
    keys = {variant: _key(trial, devices[0], hardware) for variant, trial in first.items()}
    results: dict[ProbeKey, StepCost | ProbeFailure] = {}
    missing: dict[ProbeKey, Trial] = {}
    for variant, key in keys.items():
        cost = cache.get(key)
        if cost is None:
            missing[key] = first[variant]
        else:
            results[key] = cost

    def keep(key: ProbeKey, result: StepCost | ProbeFailure) -> None:
        results[key] = result
        edited = _key(missing[key], devices[0], hardware) != key  # while it was probed
        if isinstance(result, StepCost) and not edited:
            cache.put(key, result)  # at once: probing may be interrupted

    logger.info("probe: %d variants, %d of them in the cache", len(keys), len(results))
    if missing:
        _measure(missing, devices, keep)
        cache.prune()
    probes = Probes()
    for variant, key in keys.items():
        result = results[key]
        if isinstance(result, StepCost):
            probes.costs[variant] = result
        else:
            probes.failures[variant] = result
    return probes


def probe_trial(job: ProbeJob) -> StepCost | ProbeFailure:
    """Probe one trial in a folder that is removed after that; runs in a worker."""
    prepare()
    os.environ.pop(SHARING, None)  # measured with the slot's threads, whatever else computes now
    job.folder.mkdir(parents=True)
    try:
        with output_to(Path(os.devnull)):
            import torch._dynamo  # noqa: F401 (an optimizer imports it, which is no part of a trial in a warm worker)

            from ablate.training.trainer import AblateTrainer

            gpus = len(pick_device(job.settings.device).split(","))
            cost = probe(lambda: AblateTrainer(overrides=short_arguments(job.settings, job.data, job.folder)))
            batches = {name: -(-getattr(cost.times, name) // gpus) for name in ("train_batches", "val_batches")}
            return replace(cost, times=replace(cost.times, **batches))
    except Exception as error:
        return ProbeFailure(kind_of(error), " ".join(str(error).split()) or type(error).__name__)
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)


def short_arguments(settings: TrialSettings, data: DataSet, folder: Path) -> Plain:
    """Return the trainer's arguments for one short epoch; of a distributed training, the part of one GPU."""
    arguments = trainer_arguments(settings, data, folder)
    devices, batch, weights = arguments["device"].split(","), arguments["batch"], settings.model.weights
    return {
        **arguments,
        "pretrained": weights if weights and Path(weights).is_file() else False,
        "device": devices[0],
        "batch": batch // len(devices) if len(devices) > 1 else batch,
        "plots": False,
        "val": True,
        "time": None,
        "save_period": -1,
    }


def _key(trial: Trial, slot: Slot, hardware: Hardware) -> ProbeKey:
    settings, environment = trial.settings, slot.environment
    train = settings.train
    return ProbeKey(
        network_key(trial),
        train=content_hash({name: value for name, value in train.arguments.items() if name not in IDLE}),
        mosaic=bool(train.mosaic) and train.epochs > (train.close_mosaic or 0),
        optimizer=settings.optimizer.name,
        orthogonalise=settings.optimizer.orthogonalise,
        on_oom=settings.on_oom,
        data=trial.data.fingerprint,
        device=environment.get(DEVICE, settings.device),
        visible=environment.get("CUDA_VISIBLE_DEVICES"),
        threads=environment.get(CPU_THREADS, str(cpu_threads())),
        loaders=environment.get(LOADERS),
        hardware=hardware,
    )


def _one_slot_a_device(slots: Sequence[Slot]) -> list[Slot]:
    """Return a slot for each GPU, or one for the CPU: two probes at a time must not share a device."""
    chosen: dict[str, Slot] = {}
    for slot in slots:
        chosen.setdefault(slot.environment.get("CUDA_VISIBLE_DEVICES", ""), slot)
    return list(chosen.values()) or [Slot("probe")]


def _measure(
    trials: Mapping[ProbeKey, Trial],
    slots: Sequence[Slot],
    keep: Callable[[ProbeKey, StepCost | ProbeFailure], None],
) -> None:
    """Probe trials; hand over each result as soon as it is there."""
    keys = list(trials)
    with work_folder() as work, _progress(len(trials)) as progress:
        task = progress.task_ids[0]

        def start(index: int, slot: str) -> None:
            progress.update(task, description=f"probing {trials[keys[index]].identity.variant}")

        def end(index: int, outcome: Outcome) -> None:
            progress.advance(task)
            failure = ProbeFailure(outcome.failure, outcome.message) if outcome.failure else None
            keep(keys[index], failure or outcome.result)

        jobs = [ProbeJob(trial.settings, trial.data, work / trial.identity.variant_key) for trial in trials.values()]
        run_jobs(LocalBackend(slots), PROBE, jobs, Observer(start=start, end=end), LIMITS)


@contextmanager
def work_folder() -> Iterator[Path]:
    """Make a folder for the files of probes; it is removed afterwards, also where a probe was killed."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=cache_dir(), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _progress(count: int) -> Progress:
    """Return a progress bar of one task; on stderr, because stdout may be read by a program."""
    console = Terminal(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task("probing", total=count)
    return progress
