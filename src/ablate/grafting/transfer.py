"""Weights: load a checkpoint into a network, and count what arrived."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from ablate.grafting.insertion import GraftError
from ablate.grafting.surgery import grafts_of, stock_name

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel


FIRST_LAYER = "model.0.conv.weight"  # the only one that sees the channels of the images


@dataclass(frozen=True)
class Coverage:
    """How many of the stock network's tensors came from a checkpoint.

    Attributes:
        source: The checkpoint, or None for a network with fresh weights.
        expected: Tensors of the stock network (parameters and buffers), grafts left out.
        transferred: Those that are now equal to the checkpoint's.
        missing: Names of those that are not; with another number of classes these are the classifier's last layers,
            with other channels of the images the first layer, which is filled from the checkpoint's in part.
    """

    source: str | None
    expected: int
    transferred: int
    missing: tuple[str, ...] = ()


def load_weights(network: DetectionModel, weights: nn.Module, source: str) -> Coverage:
    """Load a stock checkpoint into a stock network, before surgery.

    Raises:
        GraftError: The checkpoint belongs to another architecture, or carries a graft itself.
    """
    if grafts := grafts_of(weights):
        name = " and ".join(graft.module.target for graft in grafts)
        raise GraftError(f"{source}: this checkpoint is grafted with {name}; model.weights takes a stock checkpoint")
    ours = network.state_dict()
    stored = weights.state_dict()
    strangers = [
        name
        for name, tensor in ours.items()
        if not _of_the_head(network, name) and not _fits(name, _shape(stored, name), tensor.shape)
    ]
    if strangers:
        first = strangers[0]
        raise GraftError(
            f"{source}: a checkpoint of another architecture: {len(strangers)} of {len(ours)} tensors do not match, "
            f"first {first}: {_words(_shape(stored, first))} there, {_words(ours[first].shape)} here"
        )
    network.load(weights, verbose=False)
    return coverage(network, weights, source)


def coverage(network: DetectionModel, weights: nn.Module, source: str) -> Coverage:
    """Count the tensors of `network`, grafted or not, that equal those of the stock checkpoint `weights`."""
    stored = weights.state_dict()
    missing = []
    expected = 0
    for tensor_name, tensor in network.state_dict().items():
        name = stock_name(tensor_name)
        if name is None:
            continue
        expected += 1
        if name not in stored or not torch.equal(tensor.cpu().float(), stored[name].cpu().float()):
            missing.append(name)
    return Coverage(source, expected, expected - len(missing), tuple(missing))


def _of_the_head(network: DetectionModel, tensor: str) -> bool:
    return tensor.startswith(f"model.{len(network.model) - 1}.")


def _fits(name: str, stored: torch.Size | None, ours: torch.Size) -> bool:
    """Tell whether Ultralytics fills a tensor from one of this shape; the first layer's channels may differ."""
    if name == FIRST_LAYER and stored is not None:
        return (stored[0], *stored[2:]) == (ours[0], *ours[2:])
    return stored == ours


def _shape(state: dict[str, torch.Tensor], name: str) -> torch.Size | None:
    return state[name].shape if name in state else None


def _words(shape: torch.Size | None) -> str:
    return "missing" if shape is None else "x".join(map(str, shape)) or "a scalar"
