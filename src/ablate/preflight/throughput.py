"""How many trials run at a time on a machine without a GPU, and with how many threads: measured, and kept."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

from ablate.data.data_use import images_used
from ablate.launching.devices import Slot, make_slots
from ablate.launching.jobs import Outcome
from ablate.launching.local import LocalBackend
from ablate.launching.sharing import Layout, Sharing, Throughput, assumed, candidates, choose, fitting
from ablate.measuring.load_of_others import Neighbours
from ablate.measuring.machine import device_name
from ablate.measuring.processor import available_memory_gb, instruction_sets
from ablate.preflight.memory_probe import IDLE, short_arguments, work_folder
from ablate.preflight.networks import network_key
from ablate.preflight.result_cache import Cache
from ablate.settings.environment import SHARING, output_to, prepare, visible_cores
from ablate.study.trial import Trial

BUDGET = 10.0  # seconds after which no third layout is measured
PATIENCE = 120.0  # seconds that one layout may take; a large data set is looked through first
WORTH = 2000 * 128**2  # pixels to train on; a sweep of less is over before a measurement would pay
QUIET = 0.1  # share of the cores that others may take while what is measured counts as this machine's own

MEASURE = "ablate.preflight.throughput:measure_trial"
WARM_UP = "ablate.preflight.networks:warm_up"


class Shared(Protocol):
    """A launcher, as far as the sharing of cores goes."""

    def open_cores(self, device: str) -> int | None:
        """Return the cores to share among trials where nobody has said how; None where that is settled."""

    def share(self, layout: Layout) -> None:
        """Settle it."""


def share_cores(
    trials: Sequence[Trial],
    launch: Shared,
    *,
    measuring: bool = True,
    before: Callable[[Sharing], None] = lambda assumed: None,
) -> Sharing | None:
    """Decide how the trials that are to run share the cores, and settle it with the launcher.

    Args:
        trials: What is to run.
        launch: Where.
        measuring: Whether to measure what is not known from the cache.
        before: Called when a measurement begins, with what would be assumed without one.

    Returns:
        The decision, or None where there is none to take: on GPUs and clusters, or where the user has said how.
    """
    cores = launch.open_cores(str(trials[0].config["device"])) if trials else None
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
    wanted, memory = candidates(cores, len(trials)), available_memory_gb()
    if len(wanted) == 1:
        return Sharing(wanted[0], "there is one core")
    trial = measured_trial(trials)
    known, key = Cache("throughput"), cache_key(trial, cores)
    measured = [_throughput(entry) for entry in (known.get(key) or {}).get("measured", [])]
    asked = [found for found in measured if found.layout in wanted]
    if asked and (len(asked) > 1 or _next(asked, wanted, memory) is None):
        return choose(asked, len(trials), memory_gb=memory)
    if not measuring:
        return assumed(cores, len(trials), "a sweep measures it before it starts", memory)
    if sum(_pixels(each) for each in trials) < WORTH:
        return assumed(cores, len(trials), "the sweep is too short for that", memory)
    before(assumed(cores, len(trials), "it is measured now", memory))
    watch = Neighbours()
    found, problem = _measure(trial, asked, wanted, memory)
    others = watch.cores()
    if not found:
        return assumed(cores, len(trials), problem, memory)
    if others < QUIET * cores:  # else it is not this machine's throughput, and is measured again the next time
        newest = {each.layout: each for each in [*measured, *found]}
        known.put(key, {"measured": [asdict(each) for each in newest.values()]})
        known.prune()
    return choose(found, len(trials), memory_gb=memory, others=others)


def measured_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial that stands for all: with the largest batches of images, and without a graft if there is one."""

    def load(trial: Trial) -> tuple[bool, int]:
        train = trial.config["train"]
        return not trial.settings.grafts, int(train["batch"]) * int(train["imgsz"]) ** 2

    return max(trials, key=load)


def cache_key(trial: Trial, cores: int) -> dict[str, Any]:
    """Return all that the throughput of a layout depends on; the network's key has the versions, torch's among them."""
    train = trial.config["train"]
    return {
        "processor": device_name("cpu"),
        "instructions": list(instruction_sets()),
        "cores": cores,
        "visible": visible_cores(),
        "network": network_key(trial),
        "train": {name: value for name, value in train.items() if name not in (*IDLE, "fraction")},
        "optimizer": trial.config["optimizer"],
        "data": trial.data.fingerprint,
    }


def measure_trial(job: Mapping[str, Any]) -> dict[str, Any]:
    """Measure one process of a layout, beside the others; runs in a worker (see `measuring.throughput`)."""
    prepare()
    os.environ.pop(SHARING, None)  # the threads are those of the layout, whoever else computes
    folder = Path(job["folder"])
    folder.mkdir(parents=True)
    try:
        with output_to(Path(os.devnull)):
            from ablate.measuring.concurrent_trainings import throughput
            from ablate.training.trainer import AblateTrainer

            arguments = short_arguments(job["settings"], job["data"], folder)
            meeting = Path(job["meeting"])
            return throughput(lambda: AblateTrainer(overrides=arguments), meeting, job["index"], job["processes"])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _next(measured: Sequence[Throughput], wanted: Sequence[Layout], memory: float) -> Layout | None:
    """Return the layout to measure next; None where no further one can be better.

    First the smallest, which tells the memory; then the largest that fits; then from there downwards, as long as it
    gets better. Where one trial is to run, upwards from one thread, as long as it gets better.
    """
    done = {found.layout: found for found in measured}
    if not done:
        return wanted[0]
    if wanted[-1].trials == 1:
        rest = [layout for layout in wanted if layout not in done]
        speeds = [done[layout].images_per_second for layout in wanted if layout in done]
        return rest[0] if rest and (len(speeds) < 2 or speeds[-1] > 1.05 * speeds[-2]) else None
    room = fitting(measured, memory) or wanted[-1].trials
    possible = [layout for layout in wanted if layout.trials <= room]
    tried = [done[layout].images_per_second for layout in reversed(possible[1:]) if layout in done]
    rest = [layout for layout in reversed(possible[1:]) if layout not in done]
    return rest[0] if rest and (len(tried) < 2 or tried[-1] > tried[-2]) else None


def _measure(
    trial: Trial, known: Sequence[Throughput], wanted: Sequence[Layout], memory: float
) -> tuple[list[Throughput], str]:
    """Measure layouts: two, and more as long as the budget lasts; return all that is known, and why it is nothing."""
    found = list(known)
    with work_folder() as work:
        most = max(layout.trials for layout in wanted)
        backend = LocalBackend(_slots(Layout(most, 1)))
        with backend:
            _warm_up(backend)
            started = time.monotonic()
            layout = _next(found, wanted, memory)
            while layout is not None and (len(found) < 2 or time.monotonic() - started < BUDGET):
                answers = _side_by_side(backend, trial, layout, work / str(layout))
                failed = next((answer for answer in answers if answer.failure), None)
                if failed is not None:
                    return found, f"its first steps failed: {failed.message}"
                found.append(_summed(layout, [answer.result for answer in answers]))
                layout = _next(found, wanted, memory)
    return found, ""


def _slots(layout: Layout) -> list[Slot]:
    return make_slots(device="cpu", cores=layout.trials * layout.threads, layout=layout)


def _warm_up(backend: LocalBackend) -> None:
    """Let all workers import what training takes, all at once."""
    wait([backend.submit(slot, WARM_UP, None) for slot in backend.slots()], timeout=PATIENCE)


def _side_by_side(backend: LocalBackend, trial: Trial, layout: Layout, work: Path) -> list[Outcome]:
    """Run one layout's processes; return how each ended."""
    meeting = work / "meeting"
    meeting.mkdir(parents=True)
    job = {"settings": trial.settings, "data": trial.data, "meeting": str(meeting), "processes": layout.trials}
    environment = _slots(layout)[0].environment
    slots = [Slot(slot.name, environment) for slot in backend.slots()[: layout.trials]]
    futures = {
        backend.submit(slot, MEASURE, {**job, "folder": str(work / str(index)), "index": index}): slot
        for index, slot in enumerate(slots)
    }
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


def _summed(layout: Layout, found: Sequence[Mapping[str, Any]]) -> Throughput:
    peaks = [each["peak_memory_gb"] for each in found if each["peak_memory_gb"] is not None]
    slowest = max(found, key=lambda each: float(each["step_seconds"]))
    return Throughput(
        layout,
        images_per_second=sum(each["batch"] / each["step_seconds"] for each in found),
        step_seconds=slowest["step_seconds"],
        optimizer_share=slowest["optimizer_share"],
        setup_seconds=max(each["setup_seconds"] for each in found),
        memory_gb=max(peaks, default=None),
    )


def _throughput(entry: Mapping[str, Any]) -> Throughput:
    """Return a kept measurement."""
    return Throughput(**{**entry, "layout": Layout(**entry["layout"])})


def _pixels(trial: Trial) -> float:
    """Return how many pixels a trial is trained on."""
    train = trial.config["train"]
    images = images_used(trial.data, train)["train"]
    return float(images * int(train["epochs"]) * int(train["imgsz"]) ** 2)
