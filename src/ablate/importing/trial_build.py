"""Build an imported network once, in a worker process, and count whose weights its tensors have."""

from __future__ import annotations

import os
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from ablate.errors import ConfigError
from ablate.settings.imported_network import ImportedNetwork

BUILD = "ablate.importing.trial_build:build"
CLASSES = 80  # of the networks that Ultralytics publishes
IMGSZ = 160  # px, at which the network is run; a trial's own size is checked before it trains


@dataclass(frozen=True)
class BuildJob:
    """A network for a process that builds it.

    Attributes:
        network: The network.
        running: A file that names the call of the user's code that is running.
    """

    network: ImportedNetwork
    running: Path


@dataclass(frozen=True)
class NewLayerCount:
    """A layer that is new: its class, how that was called, and how many of its tensors are of its stock layer."""

    index: int
    name: str
    convention: str
    tensors: int
    kept: int


@dataclass(frozen=True)
class Counts:
    """Whose weights the tensors of a network have.

    Attributes:
        tensors: Of the network, parameters and buffers.
        untouched: Of these, those of layers that are as in the stock network; all of them have its weights.
        shared: Of the others, those that have the weights of the stock layer in whose place their layer stands.
        by_index: How many Ultralytics' own loading fills, which goes by number of the layer.
        stock: Tensors of the stock network.
        parameters: Numbers in the network's parameters.
        values: By alignment and by index, the share of the stock network's numbers that are in place, 0 to 1.
        new: The new layers.
    """

    tensors: int
    untouched: int
    shared: int
    by_index: int
    stock: int
    parameters: int
    values: tuple[float, float]
    new: tuple[NewLayerCount, ...]


def build(job: BuildJob) -> Counts | str:
    """Build a network; return its counts, or why it cannot be built. Runs in a worker."""
    from ablate.settings.environment import output_to, prepare

    prepare()
    with output_to(Path(os.devnull)):
        from ablate.grafting.insertion import GraftError
        from ablate.grafting.module_calls import limited

        try:
            job.network.allow_code()
            with limited(job.running):
                return _build(job.network)
        except (ConfigError, GraftError) as error:
            return str(error).removeprefix("module._target_: ")


def _build(imported: ImportedNetwork) -> Counts:
    from ultralytics.nn.tasks import DetectionModel

    from ablate.grafting.imported import transplant
    from ablate.grafting.imported_check import check_imported
    from ablate.settings.architecture import read_architecture

    network = DetectionModel(read_architecture(imported.ancestor), nc=CLASSES, verbose=False)
    stock = {name: tensor.shape for name, tensor in network.state_dict().items()}
    done = transplant(network, imported, seed=0)
    plain = {_plain_name(name): tensor.shape for name, tensor in network.state_dict().items()}
    by_index = [name for name, shape in stock.items() if plain.get(name) == shape]
    untouched = [name for index in done.moved for name in plain if name.startswith(f"model.{index}.")]
    check_imported(deepcopy(network), IMGSZ)
    total = sum(shape.numel() for shape in stock.values())
    aligned = sum(plain[name].numel() for name in untouched) + done.kept_values
    return Counts(
        tensors=len(plain),
        untouched=len(untouched),
        shared=sum(layer.kept for layer in done.built),
        by_index=len(by_index),
        stock=len(stock),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        values=(aligned / total, sum(stock[name].numel() for name in by_index) / total),
        new=tuple(NewLayerCount(it.index, it.name, it.convention, it.tensors, it.kept) for it in done.built),
    )


def _plain_name(tensor: str) -> str:
    """Return the name that a tensor has where Ultralytics builds the network."""
    return tensor.replace(".graft.", ".", 1).replace(".older.", ".", 1)
