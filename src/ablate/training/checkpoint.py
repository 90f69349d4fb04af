"""What a checkpoint must carry so that a training goes on from it as if it had never been interrupted.

Ultralytics' own checkpoint is not enough: weights and optimizer are rounded to half precision, the raw weights are
missing, and so are the random states, the order of the images and the gradients that wait for the optimizer. All of
that stands in `last.pt` under `KEY`, as plain values and tensors; for everybody else it is a checkpoint like any other.
"""

from __future__ import annotations

import io
import os
import pickle
import random
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ablate.storage.files import atomic_write_bytes

KEY = "ablate"
FORMAT = 1  # another number means another version of this module: it cannot be continued here


def resumable(path: Path) -> dict[str, int] | None:
    """Return how far the training of a `last.pt` is, or None where it cannot be continued from that file.

    A training whose epochs are all done can be "continued" too: then what is left is its evaluation, or nothing.

    Args:
        path: The checkpoint; it may be missing, cut off, damaged, or not ours.

    Returns:
        ``{"epoch": epochs done, "epochs": epochs asked for, "resumed": how often it was continued before}``.
    """
    state = read_state(path)
    return None if state is None else {name: state[name] for name in ("epoch", "epochs", "resumed")}


def read_state(path: Path) -> dict[str, Any] | None:
    """Return what a checkpoint carries under `KEY`, or None where there is no such file, or it is not whole."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:
                return None
        state = torch.load(path, map_location="cpu", weights_only=False, mmap=True)[KEY]
        return dict(state) if state["format"] == FORMAT else None
    except Exception:  # however it is damaged
        return None


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all. Raises OSError when the disk refuses."""
    buffer = io.BytesIO()  # torch, writing to a path, would turn the system's error into one without a cause
    torch.save(content, buffer)
    atomic_write_bytes(path, buffer.getvalue())


def write_without_state(source: Path, target: Path) -> None:
    """Write a copy of a checkpoint that leaves out what continuing needs."""
    content = torch.load(source, map_location="cpu", weights_only=False)
    del content[KEY]
    write(target, content)


def put_in_place(source: Path, target: Path) -> None:
    """Move a finished file to its name, so that even a crash of the machine leaves the old one or the new one."""
    with source.open("rb+") as file:
        os.fsync(file.fileno())
    source.replace(target)


class _Piece(NamedTuple):
    """Where a tensor is within the joined one of its kind."""

    kind: int
    start: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def join(tree: Any) -> dict[str, Any]:
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
        return piece

    skeleton = pickle.dumps(take(tree))
    return {"skeleton": skeleton, "tensors": [torch.cat(part).cpu() for part in parts]}


def split(joined: dict[str, Any]) -> Any:
    """Return the tree that was joined, its tensors on the CPU, each with memory of its own and its old strides."""
    tensors: list[Tensor] = joined["tensors"]

    def give(value: Any) -> Any:
        if isinstance(value, _Piece):
            joint = tensors[value.kind]
            part = joint[value.start : value.start + torch.Size(value.shape).numel()].view(value.shape)
            return torch.empty_strided(value.shape, value.stride, dtype=joint.dtype).copy_(part)
        if isinstance(value, dict):
            return {key: give(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return type(value)(give(item) for item in value)
        return value

    return give(pickle.loads(joined["skeleton"]))


def random_states(device: torch.device) -> dict[str, Any]:
    """Return the states of all random generators that a training on this device draws from."""
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def set_random_states(states: dict[str, Any], device: torch.device) -> None:
    """Put back what `random_states` returned, perhaps for another device."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if device.type == "cuda" and "cuda" in states:
        torch.cuda.set_rng_state(states["cuda"], device)


def loader_state(loader: Any) -> dict[str, Any]:
    """Return where an `InfiniteDataLoader` stands after an epoch, and which images mosaic has at hand."""
    return {"generator": loader.generator.get_state(), "buffer": list(loader.dataset.buffer)}


def set_loader_state(loader: Any, state: dict[str, Any]) -> None:
    """Let a new loader go on where another one stood after an epoch.

    Worker processes have random states and images at hand of their own; there only the order of images goes on.
    """
    for index in state["buffer"]:
        loader.dataset.load_image(index)  # keeps it, as when it was drawn
    if loader.num_workers == 0:
        # The loader's iterator lives as long as the loader, and draws the next epoch's order only when asked for its
        # first batch: one that has given out an epoch, whichever, stands where the old one stood.
        loader.iterator = loader._get_iterator()
        for _ in range(len(loader)):
            loader.iterator._next_index()
    loader.generator.set_state(state["generator"])
