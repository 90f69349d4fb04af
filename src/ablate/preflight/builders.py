"""Worker processes that build networks: a crash or a leak of a module stays there."""

from __future__ import annotations

import gc
import os
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.errors import ConfigError
from ablate.launching.devices import Slot
from ablate.launching.local import LocalBackend
from ablate.preflight.network_answer import NetworkAnswer, NetworkCost, Rejection
from ablate.settings.environment import cpu_threads, output_to, prepare
from ablate.settings.graft import targets_of
from ablate.settings.schema import ModelSettings
from ablate.settings.trial_settings import TrialSettings
from ablate.training.trainer_arguments import network_yaml

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

    from ablate.checkpoints.stored_network import StoredNetwork
    from ablate.grafting.transfer import Coverage
    from ablate.records.graft_report import GraftReport

BUILD = "ablate.preflight.builders:build"
WARM_UP = "ablate.preflight.builders:warm_up"

COCO_CLASSES = 80  # of the detectors that Ultralytics publishes; their class branch gives a network its width
NETWORKS_PER_WORKER = 8  # one more process takes as long to start as this one takes to build these


class Builders:
    """Processes that build networks. Entered early, they import what they need while the driver does something else.

    Args:
        networks: How many there are to build, as far as it is known.
    """

    def __init__(self, networks: int) -> None:
        self.backend = LocalBackend(_slots(networks))

    def __enter__(self) -> Builders:
        for slot in self.backend.slots():
            self.backend.submit(slot, WARM_UP, None)
        return self

    def __exit__(self, *exception: object) -> None:
        for slot in self.backend.slots():
            with suppress(KeyError):  # its process has ended after the last network
                self.backend.stop(slot)


@dataclass(frozen=True)
class NetworkJob:
    """The network of a trial, for a process that builds it.

    Attributes:
        settings: The trial's settings.
        classes: Names of the classes that it is trained to tell apart.
        channels: Of the images.
        with_cost: Whether to count parameters and FLOPs.
        running: A file that names the call of a module's code that is running, for when it takes its process along.
    """

    settings: TrialSettings
    classes: tuple[str, ...]
    channels: int
    with_cost: bool
    running: Path


def warm_up(_: None) -> None:
    """Import what building needs; runs in a worker."""
    prepare()
    with output_to(Path(os.devnull)):
        _import_trainer()


def build(job: NetworkJob) -> NetworkAnswer | Rejection:
    """Build one network; runs in a worker."""
    prepare()
    with output_to(Path(os.devnull)):
        _import_trainer()
        from ablate.grafting.module_calls import limited

        with limited(job.running):
            return _build(job)


def _build(job: NetworkJob) -> NetworkAnswer | Rejection:
    from ablate.grafting.construction import load_class
    from ablate.grafting.contract import check_copies, check_grafts
    from ablate.grafting.imported import allow_code, imported_in
    from ablate.grafting.imported_check import check_imported
    from ablate.grafting.insertion import GraftError
    from ablate.grafting.module_calls import ModuleError
    from ablate.training.criterion import check_losses
    from ablate.training.freezing import check_freeze

    model, train = job.settings.model, job.settings.train
    names = {graft.module.target: graft.module.title for graft in job.settings.grafts}
    try:
        allow_code(job.settings.grafts)
        for target in targets_of(job.settings.grafts):
            load_class(target)
        weights = None if model.weights is None else _weights(model, trust=job.settings.command.trust_weights)
    except (ConfigError, GraftError) as error:
        return Rejection(str(error))
    try:
        network, report, coverage = _network(job, weights)
    except ModuleError as error:
        return Rejection(error.under(names), skippable=True)
    except GraftError as error:
        return Rejection(str(error), skippable=weights is None or not _fits_without_weights(job))
    try:
        check_losses(network, job.settings.losses)
        check_freeze(network, train.freeze)
    except (ConfigError, GraftError) as error:
        return Rejection(str(error))
    try:
        check_copies(network)
        spent = deepcopy(network)  # a module may keep what it has seen
        findings = check_grafts(spent, train.imgsz, names)
        if imported_in(job.settings.grafts) is not None:
            check_imported(spent, train.imgsz)
        check_copies(spent)
        cost = _cost(network, train.imgsz) if job.with_cost else None
    except ModuleError as error:
        return Rejection(error.under(names), skippable=True)
    except GraftError as error:
        return Rejection(str(error), skippable=True)
    downloaded = model.weights is None or Path(model.weights).is_file()
    return NetworkAnswer(
        places=tuple(place.place for place in report.places),
        tensors=coverage.expected,
        transferred=coverage.transferred if downloaded else None,
        contract=findings,
        cost=cost,
        kept=report.kept,
    )


def _cost(network: Any, imgsz: int) -> NetworkCost:
    """Count parameters and FLOPs of a network, which is changed by it."""
    from ablate.measuring.complexity import complexity
    from ablate.training.network import trained_imgsz

    count = complexity(network, trained_imgsz(network, imgsz), spend=True)
    return NetworkCost(count.params, count.params_train, count.gflops, count.gflops_ultralytics)


def _network(job: NetworkJob, weights: StoredNetwork | None) -> tuple[DetectionModel, GraftReport, Coverage]:
    from ablate.training.network import build_network

    settings = job.settings
    return build_network(
        network_yaml(settings),
        classes=len(job.classes),
        channels=job.channels,
        names=dict(enumerate(job.classes)),
        remap=settings.train.cls_remap,
        weights=weights,
        source=str(settings.model.weights),
        seed=settings.seed,
    )


def _fits_without_weights(job: NetworkJob) -> bool:
    """Tell whether the network can be built without weights: then the weights are at fault, not the combination."""
    from ablate.grafting.insertion import GraftError

    try:
        _network(replace(job, settings=replace(job.settings, model=replace(job.settings.model, weights=None))), None)
    except GraftError:
        return False
    return True


def _weights(model: ModelSettings, *, trust: bool) -> StoredNetwork:
    """Read a checkpoint; for a published one that a plan does not download, return a network of its shapes.

    Raises:
        ConfigError: It is no checkpoint, or one that would run code.
    """
    source = Path(str(model.weights))
    if source.exists():
        return _checkpoint(source, source.stat().st_mtime_ns, trust)
    from ultralytics.nn.tasks import DetectionModel

    from ablate.checkpoints.stored_network import StoredNetwork
    from ablate.settings.architecture import read_architecture

    return StoredNetwork.of(DetectionModel(read_architecture(model.architecture), nc=COCO_CLASSES, verbose=False))


@lru_cache(maxsize=1)
def _checkpoint(source: Path, modified: int, trust: bool) -> StoredNetwork:
    """Read a checkpoint once for many networks, as long as the file does not change."""
    from ablate.checkpoints.file_check import CheckpointError, UnsafeCheckpoint
    from ablate.checkpoints.stored_network import read_checkpoint

    try:
        return read_checkpoint(source, trust=trust).network
    except UnsafeCheckpoint as error:
        raise ConfigError(f"model.weights={source}: {error}: trust_weights=true") from error
    except CheckpointError as error:
        raise ConfigError(f"model.weights={source}: {error}") from error


@cache
def _import_trainer() -> None:
    """Import the trainer; then keep the garbage collector from searching it again with every network."""
    import ablate.training.trainer  # noqa: F401

    gc.collect()
    gc.freeze()


def _slots(networks: int) -> list[Slot]:
    """Share the cores among as many processes as are worth their start; no GPU is needed to build a network."""
    cores = cpu_threads()
    count = min(cores, -(-networks // NETWORKS_PER_WORKER))
    threads = str(cores // count)
    environment = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    return [Slot(f"builder {number + 1}", environment) for number in range(count)]
