"""How many trials run at a time on a machine without a GPU, and with how many threads: measured once a machine."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ablate.data.catalogue import DataSet
from ablate.launching.devices import Slot, make_slots
from ablate.launching.jobs import Outcome
from ablate.launching.local import LocalBackend
from ablate.launching.sharing import Layout, Sharing, Throughput, assumed, candidates, choose, fitting
from ablate.measuring.concurrent_trainings import ProcessSpeed, throughput
from ablate.measuring.load_of_others import Neighbours
from ablate.measuring.machine import device_name
from ablate.measuring.processor import available_memory_gb, instruction_sets
from ablate.preflight.builders import WARM_UP
from ablate.preflight.memory_probe import IDLE, short_arguments, work_folder
from ablate.preflight.networks import NetworkKey, network_key
from ablate.preflight.result_cache import Cache
from ablate.settings.environment import SHARING, output_to, prepare, visible_cores
from ablate.settings.trial_settings import TrialSettings
from ablate.storage.content_hash import content_hash
from ablate.study.trial import Trial

BUDGET = 10.0  # seconds after which no third layout is measured
PATIENCE = 120.0  # seconds that one layout may take; a large data set is looked through first
WORTH = 2000 * 128**2  # pixels to train on; a sweep of less is over before a measurement would pay
QUIET = 0.1  # share of the cores that other processes may take in a measurement that is stored

MEASURE = "ablate.preflight.throughput:measure_trial"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ThroughputKey:
    """Everything that the throughput of a layout depends on.

    Attributes:
        processor, instructions, cores, visible: The processor, its instruction sets, the cores to share, and those that
            this process may use.
        network: The network; it has the versions of packages, torch's among them.
        train: Hash of the training arguments that matter for a step.
        optimizer: Hash of the optimizer's settings.
        data: Fingerprint of the data set.
    """

    processor: str
    instructions: tuple[str, ...]
    cores: int
    visible: int
    network: NetworkKey
    train: str
    optimizer: str
    data: str


@dataclass(frozen=True)
class ThroughputJob:
    """One process of a layout, for the worker that trains beside the others.

    Attributes:
        settings: Of the trial.
        data: Its data set.
        folder: Where this process writes.
        meeting: An empty folder that the processes share.
        index: Number of this process, from 0.
        processes: How many there are.
    """

    settings: TrialSettings
    data: DataSet
    folder: Path
    meeting: Path
    index: int
    processes: int


class Shared(Protocol):
    """A launcher that shares cores among trials."""

    def open_cores(self, device: str) -> int | None:
        """Return the cores to share among trials; None on GPUs and clusters, and where the user has set a number."""

    def share(self, layout: Layout) -> None:
        """Use this layout."""


def share_cores(
    trials: Sequence[Trial],
    launch: Shared,
    *,
    measuring: bool = True,
    before: Callable[[Sharing], None] = lambda assumed: None,
) -> Sharing | None:
    """Decide how the trials that are to run share the cores, and tell the launcher.

    Args:
        trials: What is to run.
        launch: Where.
        measuring: Whether to measure what the cache lacks.
        before: Called when a measurement begins, with what would be assumed without one.

    Returns:
        The decision; None where there is nothing to decide (see `Shared.open_cores`).
    """
    cores = launch.open_cores(trials[0].settings.device) if trials else None
    if cores is None:
        return None
    sharing = decide(trials, cores, measuring=measuring, before=before)
    launch.share(sharing.layout)
    return sharing


def decide(
    trials: Sequence[Trial],
    cores: int,
    *,
    measuring: bool = True,
    before: Callable[[Sharing], None] = lambda assumed: None,
) -> Sharing:
    """Return how trials share the cores: from the cache, from a measurement, or assumed where neither is worth it."""
    layouts, memory = candidates(cores, len(trials)), available_memory_gb()
    if len(layouts) == 1:
        return Sharing(layouts[0], "there is one core")
    trial = measured_trial(trials)
    cache, key = Cache("throughput", tuple[Throughput, ...]), cache_key(trial, cores)
    stored = cache.get(key) or ()
    usable = [each for each in stored if each.layout in layouts]
    if usable and (len(usable) > 1 or _next(usable, layouts, memory) is None):
        logger.info("throughput: %d layouts are in the cache, none is measured", len(usable))
        return choose(usable, len(trials), memory_gb=memory)
    if not measuring:
        return assumed(cores, len(trials), "a sweep measures it before it starts", memory)
    if sum(_pixels(each) for each in trials) < WORTH:
        return assumed(cores, len(trials), "the sweep is too short for that", memory)
    before(assumed(cores, len(trials), "it is measured now", memory))
    watch = Neighbours()
    measured, problem = _measure(trial, usable, layouts, memory)
    others = watch.cores()
    logger.info("throughput: %s", "; ".join(map(str, measured)) or f"not measured: {problem}")
    if not measured:
        return assumed(cores, len(trials), problem, memory)
    if others < QUIET * cores:  # else it is not this machine's throughput, and is measured again the next time
        newest = {each.layout: each for each in [*stored, *measured]}
        cache.put(key, tuple(newest.values()))
        cache.prune()
    return choose(measured, len(trials), memory_gb=memory, others=others)


def measured_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial that stands for all: with the largest batches of images, and without a graft if there is one."""

    def load(trial: Trial) -> tuple[bool, int]:
        train = trial.settings.train
        return not trial.settings.grafts, train.batch * train.imgsz**2

    return max(trials, key=load)


def cache_key(trial: Trial, cores: int) -> ThroughputKey:
    """Return everything that the throughput of a layout depends on."""
    train = trial.settings.train.arguments
    return ThroughputKey(
        device_name("cpu"),
        instruction_sets(),
        cores,
        visible_cores(),
        network_key(trial),
        train=content_hash({name: value for name, value in train.items() if name not in (*IDLE, "fraction")}),
        optimizer=content_hash(trial.settings.optimizer),
        data=trial.data.fingerprint,
    )


def measure_trial(job: ThroughputJob) -> ProcessSpeed:
    """Measure one process of a layout, beside the others; runs in a worker."""
    prepare()
    os.environ.pop(SHARING, None)  # the threads are those of the layout, whatever else computes
    job.folder.mkdir(parents=True)
    try:
        with output_to(Path(os.devnull)):
            from ablate.training.trainer import AblateTrainer

            arguments = short_arguments(job.settings, job.data, job.folder)
            return throughput(lambda: AblateTrainer(overrides=arguments), job.meeting, job.index, job.processes)
    finally:
        shutil.rmtree(job.folder, ignore_errors=True)


def _next(measured: Sequence[Throughput], layouts: Sequence[Layout], memory: float) -> Layout | None:
    """Return the layout to measure next; None where no other one can be faster.

    First the smallest, which shows the memory of a trial; then the largest that fits; then from there downwards, as
    long as it gets faster. Where one trial is to run, upwards from one thread, as long as it gets faster.
    """
    done = {each.layout: each for each in measured}
    if not done:
        return layouts[0]
    if layouts[-1].trials == 1:
        rest = [layout for layout in layouts if layout not in done]
        speeds = [done[layout].images_per_second for layout in layouts if layout in done]
        return rest[0] if rest and (len(speeds) < 2 or speeds[-1] > 1.05 * speeds[-2]) else None
    room = fitting(measured, memory) or layouts[-1].trials
    possible = [layout for layout in layouts if layout.trials <= room]
    tried = [done[layout].images_per_second for layout in reversed(possible[1:]) if layout in done]
    rest = [layout for layout in reversed(possible[1:]) if layout not in done]
    return rest[0] if rest and (len(tried) < 2 or tried[-1] > tried[-2]) else None


def _measure(
    trial: Trial, stored: Sequence[Throughput], layouts: Sequence[Layout], memory: float
) -> tuple[list[Throughput], str]:
    """Measure two layouts, and more as long as the budget lasts.

    Returns:
        All measurements, stored ones first; and why there is none.
    """
    measured = list(stored)
    with work_folder() as work:
        most = max(layout.trials for layout in layouts)
        backend = LocalBackend(_slots(Layout(most, 1)))
        with backend:
            _warm_up(backend)
            started = time.monotonic()
            layout = _next(measured, layouts, memory)
            while layout is not None and (len(measured) < 2 or time.monotonic() - started < BUDGET):
                outcomes = _side_by_side(backend, trial, layout, work / str(layout))
                failed = next((outcome for outcome in outcomes if outcome.failure), None)
                if failed is not None:
                    return measured, f"its first steps failed: {failed.message}"
                measured.append(_summed(layout, [outcome.result for outcome in outcomes]))
                layout = _next(measured, layouts, memory)
    return measured, ""


def _slots(layout: Layout) -> list[Slot]:
    return make_slots(device="cpu", cores=layout.trials * layout.threads, layout=layout)


def _warm_up(backend: LocalBackend) -> None:
    """Let all workers import what training takes, all at once."""
    wait([backend.submit(slot, WARM_UP, None) for slot in backend.slots()], timeout=PATIENCE)


def _side_by_side(backend: LocalBackend, trial: Trial, layout: Layout, work: Path) -> list[Outcome]:
    """Run one layout's processes; return how each ended."""
    meeting = work / "meeting"
    meeting.mkdir(parents=True)
    environment = _slots(layout)[0].environment
    slots = [Slot(slot.name, environment) for slot in backend.slots()[: layout.trials]]
    jobs = [
        ThroughputJob(trial.settings, trial.data, work / str(index), meeting, index, layout.trials)
        for index in range(layout.trials)
    ]
    futures = {backend.submit(slot, MEASURE, job): slot for slot, job in zip(slots, jobs, strict=True)}
    wait(futures, timeout=PATIENCE)
    outcomes = []
    for future, slot in futures.items():
        if not future.done():
            backend.stop(slot)
            outcomes.append(Outcome(failure="timeout", message=f"they took longer than {PATIENCE:.0f} seconds"))
            continue
        try:
            outcomes.append(future.result())
        except Exception as error:
            outcomes.append(backend.explain(error))
    return outcomes


def _summed(layout: Layout, processes: Sequence[ProcessSpeed]) -> Throughput:
    peaks = [process.peak_memory_gb for process in processes if process.peak_memory_gb is not None]
    slowest = max(processes, key=lambda process: process.step_seconds)
    return Throughput(
        layout,
        images_per_second=sum(process.batch / process.step_seconds for process in processes),
        step_seconds=slowest.step_seconds,
        optimizer_share=slowest.optimizer_share,
        setup_seconds=max(process.setup_seconds for process in processes),
        memory_gb=max(peaks, default=None),
    )


def _pixels(trial: Trial) -> float:
    """Return how many pixels a trial is trained on."""
    train = trial.settings.train
    images = trial.images_used.train
    return float(images * train.epochs * train.imgsz**2)
