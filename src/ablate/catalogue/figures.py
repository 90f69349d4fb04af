"""What each module costs in YOLO26n: parameters and GFLOPs, and where it is asked for its latency; kept in a cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from ablate.catalogue.listed_components import ListedComponent
from ablate.errors import ConfigError
from ablate.launching.devices import Slot
from ablate.launching.jobs import Limits, Observer, Outcome, run_jobs
from ablate.launching.local import LocalBackend
from ablate.measuring.processor import processor_name
from ablate.preflight.result_cache import Cache
from ablate.records.code_version import versions
from ablate.settings.environment import cpu_threads
from ablate.settings.graft import GraftSpec
from ablate.settings.module_checks import check_module
from ablate.sources.package_walk import imported_files
from ablate.storage.content_hash import content_hash

MODEL = "yolo26n"
IMGSZ = 640
COUNT = "ablate.catalogue.figure_worker:count"
MODULES_PER_WORKER = 8  # one more process takes as long to start as this one takes to count these


@dataclass(frozen=True)
class Figures:
    """What a module at its default point makes of YOLO26n, for one image of 640 x 640 pixels.

    Attributes:
        params_added: Parameters of the deployed network less those of the stock one; negative where it is smaller.
        gflops_added: GFLOPs of the deployed network less those of the stock one.
        places: Where the module went.
        latency_ratio: Latency of the deployed network over that of the stock one, on one thread of this machine's
            processor, medians of rounds that ran both; None where it was not measured.
        problem: Why it cannot be built; empty where it can.
    """

    params_added: int = 0
    gflops_added: float = 0.0
    places: int = 0
    latency_ratio: float | None = None
    problem: str = ""


@dataclass(frozen=True)
class FigureJob:
    """A module whose figures a worker finds out.

    Attributes:
        graft: The module at its default point.
        timed: Whether to measure its latency.
        running: A file that names the call of the module's code that is running.
    """

    graft: GraftSpec
    timed: bool
    running: Path


@dataclass(frozen=True)
class _Key:
    """Everything that the figures depend on."""

    graft: str
    processor: str | None
    versions: tuple[tuple[str, str], ...]
    code: str


Progress = Callable[[int, int, str], None]


def find_figures(
    components: Sequence[ListedComponent], *, timed: bool = False, on_progress: Progress | None = None
) -> dict[str, Figures]:
    """Return the figures of modules, by the component's text; what the cache lacks is counted in worker processes.

    Args:
        components: Of the catalogue; losses, and modules whose files are not valid, have none.
        timed: Also measure latencies, one module after the other on one thread.
        on_progress: Called with (done, all, name of the last).
    """
    counted: dict[str, Figures] = {}
    missing: dict[str, GraftSpec] = {}
    report, store = on_progress or (lambda done, total, name: None), _store()
    for component in components:
        if component.graft is not None:
            try:
                check_module(component.graft.module.to_plain(), f"{component.name}: ")
                cached = _cached(store, component.graft, timed)
            except ConfigError as error:
                cached = Figures(problem=str(error))
            if cached is None:
                missing[component.text] = component.graft
            else:
                counted[component.text] = cached
    names = list(missing)

    def end(index: int, outcome: Outcome) -> None:
        name = names[index]
        figures = outcome.result if isinstance(outcome.result, Figures) else Figures(problem=outcome.message)
        if isinstance(outcome.result, Figures):
            store.put(_key(missing[name], timed=timed), figures)
        counted[name] = figures
        report(len(names) - len(missing.keys() - counted.keys()), len(names), name)

    if missing:
        report(0, len(names), "")
        with TemporaryDirectory(prefix="ablate-catalogue-") as folder:
            jobs = [FigureJob(graft, timed, Path(folder) / str(n)) for n, graft in enumerate(missing.values())]
            run_jobs(LocalBackend(_slots(len(jobs), timed)), COUNT, jobs, Observer(end=end), Limits(max_retries=0))
        store.prune()
    return counted


def _cached(store: Cache[Figures], graft: GraftSpec, timed: bool) -> Figures | None:
    """Return the figures that the cache has of a module; those with a latency do for both."""
    figures = store.get(_key(graft, timed=True))
    return figures if figures is not None or timed else store.get(_key(graft, timed=False))


def _store() -> Cache[Figures]:
    return Cache("catalogue", Figures)


def _slots(jobs: int, timed: bool) -> list[Slot]:
    """Return where modules are counted: on all cores, but a latency is measured while nothing else of ours runs."""
    workers = 1 if timed else min(cpu_threads(), -(-jobs // MODULES_PER_WORKER))
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return [Slot(f"counter {number + 1}", environment) for number in range(workers)]


def _key(graft: GraftSpec, *, timed: bool) -> _Key:
    processor = processor_name() if timed else None
    return _Key(content_hash(graft.key), processor, tuple(sorted(versions().items())), _code())


@cache
def _code() -> str:
    """Return a hash of what builds and counts."""
    files = imported_files("catalogue.figure_worker", ("catalogue.figure_worker", "grafting", "measuring", "training"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()
