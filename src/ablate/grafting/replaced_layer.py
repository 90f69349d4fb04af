"""What takes the place of a layer: the wrapper in the network, and the weights that it takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ablate.modules.kernels.conv_norm import EPSILON, MOMENTUM

MARK = "ablate_mark"  # attribute of a head that is in the place of another one


class Replaced(nn.Module):
    """A module in the place of a layer, or before Detect.

    Args:
        replacement: What is called instead of the layer.
        target: Dotted path of its class, or of the function that built it.
        insertion: Name of the insertion point.
        kind: What it is, of `ablate.settings.about.KINDS`.
        kept: Names of its tensors whose values are those of the replaced layer.
        channels: Of the map that it has to return; None before Detect, where they are those that it receives.
        layer: The replaced layer, whose place in Ultralytics' list of layers it takes; None before Detect.
    """

    def __init__(
        self,
        replacement: nn.Module,
        target: str,
        insertion: str,
        kind: str,
        kept: tuple[str, ...] = (),
        channels: int | None = None,
        layer: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.replacement = replacement
        self.target = target
        self.insertion = insertion
        self.kind = kind
        self.kept = kept
        self.channels = channels
        if layer is not None:
            take_bookkeeping(self, layer)
            self.np = sum(parameter.numel() for parameter in replacement.parameters())

    def forward(self, *inputs: Any) -> Any:
        """Return the output of the replacement."""
        return self.replacement(*inputs)


@dataclass(frozen=True)
class HeadMark:
    """What a head says that is in the place of the stock one: a subclass of Detect has no wrapper."""

    target: str
    insertion: str
    kept: tuple[str, ...]


def take_bookkeeping(module: nn.Module, layer: nn.Module) -> None:
    """Give a module what Ultralytics has noted on a layer of `network.model`."""
    for name in ("i", "f", "type", "np"):
        if hasattr(layer, name) and not callable(getattr(layer, name)):
            setattr(module, name, getattr(layer, name))


def set_norms(module: nn.Module) -> None:
    """Give the batch norms of a new layer the numbers that those of the whole network have."""
    for inner in module.modules():
        if isinstance(inner, nn.BatchNorm2d):
            inner.eps, inner.momentum = EPSILON, MOMENTUM


@torch.no_grad()
def keep_weights(replacement: nn.Module, layer: nn.Module) -> tuple[str, ...]:
    """Copy the tensors that a layer shares with its replacement by name and shape, in place; return their names."""
    old, new = layer.state_dict(), replacement.state_dict()
    shared = [
        name
        for name, tensor in new.items()
        if name in old and old[name].shape == tensor.shape and old[name].dtype == tensor.dtype
    ]
    for name in shared:
        new[name].copy_(old[name])
    return tuple(shared)


def replaced_names(network: nn.Module) -> dict[str, str | None]:
    """Return for each tensor of a network's replaced layers the name of the stock tensor that it is, or None."""
    names: dict[str, str | None] = {}
    for path, module in network.named_modules():
        if isinstance(module, Replaced):
            for name in _tensors(module.replacement):
                stock = ".".join(part for part in path.split(".") if part != "host")
                names[f"{path}.replacement.{name}"] = f"{stock}.{name}" if name in module.kept else None
        elif isinstance(mark := getattr(module, MARK, None), HeadMark):
            names |= {f"{path}.{name}": f"{path}.{name}" if name in mark.kept else None for name in _tensors(module)}
    return names


def stock_name(tensor: str, replaced: Mapping[str, str | None] = {}) -> str | None:
    """Return the name that a tensor has in the stock network, or None if a graft brought it.

    Args:
        tensor: Its name in a network with grafts.
        replaced: Of the tensors in replaced layers, from `replaced_names`; without it they all count as brought.
    """
    if tensor in replaced:
        return replaced[tensor]
    parts = tensor.split(".")
    if "graft" in parts or "grafts" in parts or "replacement" in parts:
        return None
    return ".".join(part for part in parts if part != "host")


def _tensors(module: nn.Module) -> list[str]:
    return [name for name, _ in [*module.named_parameters(), *module.named_buffers()]]
