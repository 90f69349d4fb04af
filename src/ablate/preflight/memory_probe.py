"""Measure a few steps of each variant of a sweep on the device that it will be trained on."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ablate.data.cache import cache_dir
from ablate.data.catalogue import DataSet
from ablate.launching.devices import DEVICE, LOADERS, Slot, query_gpus
from ablate.launching.jobs import Limits, Observer, Outcome, run_jobs
from ablate.launching.local import LocalBackend
from ablate.measuring.processor import processor_name
from ablate.preflight.networks import network_key
from ablate.preflight.result_cache import Cache
from ablate.records.failures import kind_of
from ablate.settings.environment import CPU_THREADS, SHARING, cpu_threads, output_to, prepare
from ablate.settings.trial_settings import TrialSettings
from ablate.study.trial import Trial
from ablate.training.trainer_arguments import pick_device, trainer_arguments

LIMITS = Limits(timeout=1800, max_retries=0)  # the first one may have to read all images of a large data set

# Training arguments that change neither the time nor the memory of a step.
IDLE = ("close_mosaic", "epochs", "patience", "plots", "save_period", "time", "val", "verbose")


@dataclass(frozen=True)
class Probes:
    """What the probes of some trials found.

    Attributes:
        found: By variant key what `ablate.measuring.step_cost` returns, or ``{"failure": {"type", "message"}}``.
        fresh: How many were measured now; the others are known from the cache.
    """

    found: dict[str, dict[str, Any]]
    fresh: int = 0


def probe_variants(trials: Sequence[Trial], slots: Sequence[Slot] = ()) -> Probes:
    """Probe variants, once those that differ in nothing that a step depends on.

    What is known from the cache is not measured again; failures are.

    Args:
        trials: Trials that are to run.
        slots: Where they will run on this machine. Variants are probed on several GPUs at a time, but never two on
            one device.
    """
    first: dict[str, Trial] = {}
    for trial in trials:
        first.setdefault(trial.identity.variant_key, trial)
    prepare()  # keeps the number of threads that the user asked for
    apart = _apart(slots)
    known, hardware = Cache("probes"), _hardware()
    keys = {variant: _key(trial, apart[0], hardware) for variant, trial in first.items()}
    texts = {variant: json.dumps(key, sort_keys=True) for variant, key in keys.items()}
    found = {text: answer for variant, text in texts.items() if (answer := known.get(keys[variant])) is not None}
    missing = {text: variant for variant, text in texts.items() if text not in found}

    def keep(text: str, answer: dict[str, Any]) -> None:
        found[text] = answer
        variant = missing[text]
        edited = _key(first[variant], apart[0], hardware) != keys[variant]  # while it was probed
        if "failure" not in answer and not edited:
            known.put(keys[variant], answer)  # at once: probing may be interrupted

    if missing:
        _measure({text: first[variant] for text, variant in missing.items()}, apart, keep)
        known.prune()
    return Probes({variant: found[text] for variant, text in texts.items()}, len(missing))


def probe_trial(job: Mapping[str, Any]) -> dict[str, Any]:
    """Probe one trial in a folder that is removed after that; runs in a worker.

    Args:
        job: ``settings`` (a `TrialSettings`), ``data`` (its `DataSet`) and ``folder``.
    """
    prepare()
    os.environ.pop(SHARING, None)  # what is kept is of the slot's threads, whoever else computes now
    folder = Path(job["folder"])
    folder.mkdir(parents=True)
    try:
        with output_to(Path(os.devnull)):
            import torch._dynamo  # noqa: F401 (an optimizer does, which is no part of a trial in a warm worker)

            from ablate.measuring.step_cost import probe
            from ablate.training.trainer import AblateTrainer

            gpus = len(pick_device(job["settings"].device).split(","))
            found = probe(lambda: AblateTrainer(overrides=short_arguments(job["settings"], job["data"], folder)))
            shares = {name: -(-found[name] // gpus) for name in ("train_batches", "val_batches")}
            return {**found, **shares, "gpus": gpus}
    except Exception as error:
        message = " ".join(str(error).split()) or type(error).__name__
        return {"failure": {"type": kind_of(error), "message": message}}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def short_arguments(settings: TrialSettings, data: DataSet, folder: Path) -> dict[str, Any]:
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


def _key(trial: Trial, slot: Slot, hardware: Mapping[str, Any]) -> dict[str, Any]:
    """Return all that the time and the memory of a trial's step depend on: neither its seed nor its epochs."""
    config, environment = trial.config, slot.environment
    train = config["train"]
    return {
        "network": network_key(trial),
        "train": {name: value for name, value in train.items() if name not in IDLE},
        "mosaic": bool(train["mosaic"]) and train["epochs"] > (train["close_mosaic"] or 0),
        "optimizer": config["optimizer"]["name"],
        "orthogonalise": config["optimizer"]["orthogonalise"],
        "on_oom": config["on_oom"],
        "data": trial.data.fingerprint,
        "device": environment.get(DEVICE, config["device"]),
        "visible": environment.get("CUDA_VISIBLE_DEVICES"),
        "threads": environment.get(CPU_THREADS, str(cpu_threads())),
        "loaders": environment.get(LOADERS),
        **hardware,
    }


def _apart(slots: Sequence[Slot]) -> list[Slot]:
    """Return a slot for each GPU, or one for the CPU: two probes at a time must not share a device."""
    chosen: dict[str, Slot] = {}
    for slot in slots:
        chosen.setdefault(slot.environment.get("CUDA_VISIBLE_DEVICES", ""), slot)
    return list(chosen.values()) or [Slot("probe")]


def _hardware() -> dict[str, Any]:
    """Return what the devices of this machine are called, without starting CUDA."""
    return {"gpus": query_gpus("name"), "cpu": processor_name()}


def _measure(trials: Mapping[str, Trial], slots: Sequence[Slot], keep: Callable[[str, dict[str, Any]], None]) -> None:
    """Probe trials; hand over by a trial's key what was found, or how it failed."""
    names = list(trials)
    with work_folder() as work, _progress(len(trials)) as progress:
        task = progress.task_ids[0]

        def start(index: int, slot: str) -> None:
            progress.update(task, description=f"probing {trials[names[index]].identity.variant}")

        def end(index: int, outcome: Outcome) -> None:
            progress.advance(task)
            failure = {"type": outcome.failure, "message": outcome.message}
            keep(names[index], outcome.result or {"failure": failure})

        jobs = [
            {"settings": trial.settings, "data": trial.data, "folder": str(work / trial.identity.variant_key)}
            for trial in trials.values()
        ]
        observer = Observer(start=start, end=end)
        run_jobs(LocalBackend(slots), "ablate.preflight.memory_probe:probe_trial", jobs, observer, LIMITS)


@contextmanager
def work_folder() -> Iterator[Path]:
    """Make a folder for what probes write; it is gone afterwards, also where a probe was killed."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".probe-", dir=cache_dir(), ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _progress(count: int) -> Progress:
    """Return a bar of one task for a terminal; on stderr, because stdout may be read by a program."""
    console = Console(stderr=True, emoji=False)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    progress.add_task("probing", total=count)
    return progress
