"""Weights: load a checkpoint into a network, and count what arrived."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from ablate.checkpoints.stored_network import StoredNetwork
from ablate.grafting.insertion import GraftError
from ablate.grafting.replaced_layer import replaced_names, stock_name
from ablate.grafting.surgery import grafts_in

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


def load_weights(
    network: DetectionModel, weights: StoredNetwork, source: str, without: Collection[str] = ()
) -> Coverage:
    """Load a stock checkpoint into a stock network, before surgery.

    Args:
        network: The network.
        weights: The checkpoint.
        source: Its name, for messages and records.
        without: Paths of layers whose tensors the checkpoint may lack.

    Raises:
        GraftError: The checkpoint belongs to another architecture, or carries a graft itself.
    """
    if grafts := grafts_in(weights.yaml):
        name = " and ".join(graft.module.target for graft in grafts)
        raise GraftError(f"{source}: this checkpoint is grafted with {name}; model.weights takes a stock checkpoint")
    ours = network.state_dict()
    strangers = [
        name
        for name, tensor in ours.items()
        if not _of_the_head(network, name)
        and not any(name.startswith(f"{path}.") for path in without)
        and not _fits(name, _shape(weights.state, name), tensor.shape)
    ]
    if strangers:
        first = strangers[0]
        raise GraftError(
            f"{source}: a checkpoint of another architecture: {len(strangers)} of {len(ours)} tensors do not match, "
            f"first {first}: {_words(_shape(weights.state, first))} there, {_words(ours[first].shape)} here"
        )
    network.load(_twin(network, weights, source), verbose=False)
    return coverage(network, weights, source)


def coverage(
    network: DetectionModel, weights: StoredNetwork, source: str, in_stock: Mapping[str, str] | None = None
) -> Coverage:
    """Count the tensors of `network`, grafted or not, that equal those of the stock checkpoint `weights`.

    Of a replaced layer those count that its replacement kept.

    Args:
        network: The network.
        weights: The checkpoint.
        source: Its name, for messages and records.
        in_stock: Of an imported network the stock network's names of the tensors that it has from there.
    """
    stored, replaced = weights.state, replaced_names(network)
    missing = []
    expected = 0
    for tensor_name, tensor in network.state_dict().items():
        name = stock_name(tensor_name, replaced)
        if name is not None and in_stock is not None:
            name = in_stock.get(name)
        if name is None:
            continue
        expected += 1
        if name not in stored or not torch.equal(tensor.cpu().float(), stored[name].cpu().float()):
            missing.append(name)
    return Coverage(source, expected, expected - len(missing), tuple(missing))


def take_shapes(network: DetectionModel, state: dict[str, torch.Tensor]) -> None:
    """Give a stock network's layers the shapes that they have in a checkpoint, in place; their values are arbitrary.

    A layer that no checkpoint can have in these shapes stays as it is.
    """
    for path, layer in list(network.named_modules()):
        shapes = {name: tensor.shape for name, tensor in layer.named_parameters(recurse=False)}
        theirs = {name: _shape(state, f"{path}.{name}") for name in shapes}
        if not shapes or theirs == shapes:
            continue
        with torch.random.fork_rng(devices=[]):
            taken = _of_shape(layer, theirs.get("weight"))
        if taken is not None:
            parent, _, name = path.rpartition(".")
            setattr(network.get_submodule(parent), name, taken.train(layer.training))


def _of_shape(layer: nn.Module, shape: torch.Size | None) -> nn.Module | None:
    """Return a new layer like another one, with a weight of another shape; None where there is none."""
    if isinstance(layer, nn.Conv2d) and not isinstance(layer.padding, str) and shape is not None and len(shape) == 4:
        depthwise = layer.groups == layer.in_channels > 1
        groups = shape[0] if depthwise else layer.groups
        new = nn.Conv2d(shape[1] * groups, shape[0], 1, groups=groups, bias=layer.bias is not None)
        new.kernel_size, new.stride = (shape[2], shape[3]), layer.stride
        new.padding, new.dilation = layer.padding, layer.dilation
        new.weight = nn.Parameter(torch.zeros(shape))
        return new
    if isinstance(layer, nn.BatchNorm2d) and shape is not None and len(shape) == 1:
        return nn.BatchNorm2d(shape[0], layer.eps, layer.momentum)
    return None


def _twin(network: DetectionModel, weights: StoredNetwork, source: str) -> DetectionModel:
    """Return a network like a stock one, with the weights of a checkpoint and the shapes that they have there.

    Ultralytics loads from a network. What the checkpoint lacks has the values of `network`.
    """
    twin = deepcopy(network)
    take_shapes(twin, weights.state)
    ours = twin.state_dict()
    twin.load_state_dict(
        {k: v for k, v in weights.state.items() if k in ours and v.shape == ours[k].shape}, strict=False
    )
    twin.names, twin.pt_path = dict(weights.names), source
    return twin


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
