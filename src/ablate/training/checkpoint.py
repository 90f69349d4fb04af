"""The state that `last.pt` holds beside Ultralytics' checkpoint, so that a training can be resumed exactly.

Ultralytics' own checkpoint is not enough: weights and optimizer are rounded to half precision, the raw weights are
missing, and so are the random states, the order of the images and the gradients that wait for the optimizer. All of
that stands in `last.pt` under `KEY`, as plain values and tensors; other programs read it as any other checkpoint.
"""

from __future__ import annotations

import io
import os
import random
import zipfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from ultralytics.utils import DEFAULT_CFG_DICT, DEFAULT_CFG_KEYS

from ablate.checkpoints.inert_reading import Named, NumberArray, read_pickle
from ablate.checkpoints.stored_network import read_own
from ablate.grafting.transfer import Coverage
from ablate.records.metrics import EpochRow
from ablate.storage.files import atomic_write_bytes
from ablate.storage.plain_values import Plain
from ablate.training.threads import ThreadState

KEY = "ablate"
FORMAT = 2  # without pickles in it; 1 has some
FORMATS = (1, FORMAT)  # another number means another version of this module: its checkpoints cannot be resumed


class JoinedTensors(NamedTuple):
    """A tree of tensors, as `join` makes it: its structure, and one tensor for each type and device.

    The structure has the place of a tensor under the key `PIECE`; in format 1 it is a pickle.
    """

    skeleton: Any
    tensors: list[Tensor]


class TrainingTensors(NamedTuple):
    """All tensors of a training; the gradients are those that wait for the optimizer's next step."""

    model: JoinedTensors
    ema: JoinedTensors
    optimizer: JoinedTensors
    gradients: JoinedTensors


class RandomStates(NamedTuple):
    """The states of the random generators of `random`, NumPy and PyTorch; `cuda` is None on a CPU."""

    python: tuple[Any, ...]
    numpy: Any
    torch: Tensor
    cuda: Tensor | None = None


class LoaderState(NamedTuple):
    """The position of an `InfiniteDataLoader` after an epoch; `buffer` holds the images that mosaic picks from."""

    generator: Tensor
    buffer: list[int]


class Environment(NamedTuple):
    """What the last bits of a result depend on; `threads` is None on a GPU."""

    torch: str
    device: str
    threads: int | None
    workers: int


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a training is.

    Attributes:
        epoch: Epochs that are done.
        epochs: Epochs in all.
        resumed: How often it was resumed.
        stage: What comes next: "epochs", "evaluation", or nothing when it is "over".
    """

    epoch: int
    epochs: int
    resumed: int
    stage: str = "epochs"

    def to_plain(self) -> Plain:
        """Return the content of the checkpoint's entry `KEY`: plain values and tensors, which are not copied."""
        return {"format": FORMAT, **{entry.name: _plain(getattr(self, entry.name)) for entry in fields(self)}}


@dataclass(frozen=True, kw_only=True)
class TrainingState(Progress):
    """Everything that resuming needs; of a training that is over only its progress is set.

    Attributes:
        best: Whether the last epoch is the best so far; best.pt may not be written yet.
        waiting: Batches whose gradients wait for the optimizer's next step.
        metrics, fitness: Of the last validation.
        history: The epochs that are done.
        results: The content of results.csv.
        resumed_exactly: Whether all state could be restored each time; None if it was never resumed.
        halvings: How often the batch was halved.
        peak_memory_gb, energy_kwh: So far; None where unknown.
        orthogonalise: Arithmetic of MuSGD's steps; None for another optimizer, and from versions with one arithmetic.
        losses: State of the losses that are not stock, such as a running mean, by branch of the head and part.
    """

    best: bool = False
    tensors: TrainingTensors | None = None
    waiting: int = 0
    loader: LoaderState | None = None
    random: RandomStates | None = None
    surroundings: Environment | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    fitness: float | None = None
    history: tuple[EpochRow, ...] = ()
    results: str = ""
    resumed_exactly: bool | None = None
    halvings: int = 0
    coverage: Coverage | None = None
    peak_memory_gb: float | None = None
    energy_kwh: float | None = None
    threads: ThreadState | None = None
    orthogonalise: str | None = None
    losses: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def from_plain(cls, content: Plain) -> TrainingState:
        """Return the state of a checkpoint's entry `KEY`; what older versions did not write has its default."""
        values = {entry.name: content[entry.name] for entry in fields(cls) if entry.name in content}
        for name, structure in _STRUCTURES.items():
            if (part := values.get(name)) is not None:
                values[name] = structure(**part)
        if (tensors := values.get("tensors")) is not None:
            joined = {name: JoinedTensors(**part) for name, part in tensors.items()}
            values["tensors"] = TrainingTensors(**joined)
        return cls(**{**values, "history": tuple(map(EpochRow, values.get("history", ())))})


_STRUCTURES: dict[str, type] = {
    "loader": LoaderState,
    "random": RandomStates,
    "surroundings": Environment,
    "coverage": Coverage,
    "threads": ThreadState,
}


def _plain(value: Any) -> Any:
    """Return a field of a state as plain values and tensors."""
    if isinstance(value, TrainingTensors | JoinedTensors | RandomStates | LoaderState | Environment):
        return {name: _plain(item) for name, item in value._asdict().items()}
    if isinstance(value, Coverage | ThreadState):
        return asdict(value)
    if isinstance(value, tuple) and value and isinstance(value[0], EpochRow):
        return [dict(row.content) for row in value]
    return value


def read_state(path: Path, targets: Iterable[str] = (), *, trust: bool = False) -> TrainingState | None:
    """Return the state that a `last.pt` holds, or None where a training cannot be resumed from the file.

    Args:
        path: The checkpoint; it may be missing, cut off, damaged, or not ours.
        targets: The classes of the trial's grafts.
        trust: Whether it may name what is no part of a network.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        return state_in(read_own(path, targets, trust=trust).entries)
    except Exception:  # however it is damaged
        return None


def state_in(entries: Plain) -> TrainingState | None:
    """Return the state among a checkpoint's entries; None where there is none that this version can resume from."""
    state = entries.get(KEY)
    return TrainingState.from_plain(state) if isinstance(state, dict) and state.get("format") in FORMATS else None


def write(path: Path, content: Plain) -> None:
    """Write a checkpoint whole or not at all. Raises OSError when the disk refuses."""
    buffer = io.BytesIO()  # torch, writing to a path, would turn the system's error into one without a cause
    torch.save(content, buffer)
    atomic_write_bytes(path, buffer.getvalue())


def reduced(entries: Plain, network: nn.Module) -> Plain:
    """Return a checkpoint's entries without those that only a training needs, as Ultralytics reduces its own."""
    needless = dict.fromkeys(("optimizer", "best_fitness", "stopper", "ema", "updates", "scaler"))
    arguments = {**DEFAULT_CFG_DICT, **entries["train_args"]}
    return {
        **entries,
        **needless,
        "model": network,
        "epoch": -1,
        "train_args": {name: value for name, value in arguments.items() if name in DEFAULT_CFG_KEYS},
        "license": "AGPL-3.0 License (https://ultralytics.com/license)",
        "docs": "https://docs.ultralytics.com",
    }


def put_in_place(source: Path, target: Path) -> None:
    """Move a finished file to its final name; after a crash of the machine the old or the new file is there."""
    with source.open("rb+") as file:
        os.fsync(file.fileno())
    source.replace(target)


PIECE = "ablate tensor"
_OLD_PIECE = "ablate.training.checkpoint._Piece"


class _Piece(NamedTuple):
    """Where a tensor is within the joined one of its kind."""

    kind: int
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def join(tree: Any) -> JoinedTensors:
    """Join all tensors in nested dicts, lists and tuples into one for each type and device; `split` is the inverse.

    Copies, so that what follows cannot change the result. A network with its optimizer has thousands of tensors; to
    pickle each, and to fetch each from a GPU, takes longer than to write their bytes.
    """
    kinds: dict[tuple[torch.dtype, torch.device], int] = {}
    parts: list[list[Tensor]] = []
    sizes: list[int] = []

    def take(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: take(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(take(item) for item in value)
        if not isinstance(value, Tensor):
            return value
        kind = kinds.setdefault((value.dtype, value.device), len(kinds))
        if kind == len(parts):
            parts.append([])
            sizes.append(0)
        parts[kind].append(value.detach().reshape(-1))
        dense = value if value.is_contiguous() else torch.empty_like(value, device="meta")  # channels_last is kept
        piece = _Piece(kind, sizes[kind], tuple(value.shape), dense.stride())
        sizes[kind] += value.numel()
        return {PIECE: tuple(piece)}

    skeleton = take(tree)
    return JoinedTensors(skeleton, [torch.cat(part).cpu() for part in parts])


def split(joined: JoinedTensors) -> Any:
    """Return the tree that was joined, its tensors on the CPU, each with memory of its own and its old strides."""

    def give(value: Any) -> Any:
        if isinstance(value, _Piece):
            joint = joined.tensors[value.kind]
            part = joint[value.start : value.start + torch.Size(value.shape).numel()].view(value.shape)
            return torch.empty_strided(value.shape, value.stride, dtype=joint.dtype).copy_(part)
        if isinstance(value, Named):
            return give(_Piece(*value.arguments))
        if isinstance(value, dict) and PIECE in value:
            return give(_Piece(*value[PIECE]))
        if isinstance(value, dict):
            return {key: give(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(give(item) for item in value)
        return value

    skeleton = joined.skeleton
    return give(read_pickle(skeleton, (_OLD_PIECE,)) if isinstance(skeleton, bytes) else skeleton)


def random_states(device: torch.device) -> RandomStates:
    """Return the states of all random generators that a training on this device draws from."""
    cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
    kind, keys, *position = np.random.get_state(legacy=True)  # a tuple
    return RandomStates(random.getstate(), (kind, np.asarray(keys).tolist(), *position), torch.get_rng_state(), cuda)


def set_random_states(states: RandomStates, device: torch.device) -> None:
    """Restore the states that `random_states` returned, perhaps for another device."""
    random.setstate(states.python)
    kind, keys, *position = states.numpy
    keys = keys.values if isinstance(keys, NumberArray) else keys  # of format 1
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *position))
    torch.set_rng_state(states.torch)
    if device.type == "cuda" and states.cuda is not None:
        torch.cuda.set_rng_state(states.cuda, device)


def loader_state(loader: Any) -> LoaderState:
    """Return the position of an `InfiniteDataLoader` after an epoch, and the images that mosaic picks from."""
    return LoaderState(loader.generator.get_state(), list(loader.dataset.buffer))


def set_loader_state(loader: Any, state: LoaderState) -> None:
    """Let a new loader continue at the position of another one after an epoch.

    Worker processes have random states and images of their own; with them only the order of the images is restored.
    """
    for index in state.buffer:
        loader.dataset.load_image(index)  # keeps it, as when it was drawn
    if loader.num_workers == 0:
        # The loader's iterator lives as long as the loader, and draws the next epoch's order only when asked for its
        # first batch: after any epoch, a new iterator is at the same position as the old one.
        loader.iterator = loader._get_iterator()
        for _ in range(len(loader)):
            loader.iterator._next_index()
    loader.generator.set_state(state.generator)
