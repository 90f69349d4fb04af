"""The modules that surgery has put into a network, each with what its place needs of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from ablate.grafting.replaced_layer import MARK, HeadMark, Replaced
from ablate.grafting.surgery import Graft

Shape = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Placed:
    """A module at one place of a network.

    Attributes:
        module: The module itself.
        target: Dotted path of its class, or of the function that built it.
        insertion: Name of its insertion point.
        kind: What it is there, of `ablate.settings.about.KINDS`.
        shares_input: Whether what it receives is read by others too.
        channels: Of the map that it has to return; None where they are those that it receives.
        is_head: Whether it is Detect itself: what it has to return was checked when it took the stock head's place.
    """

    module: nn.Module
    target: str
    insertion: str
    kind: str = "insert"
    shares_input: bool = False
    channels: int | None = None
    is_head: bool = False


def placed_modules(network: nn.Module) -> list[Placed]:
    """Return what surgery has put into a network, in forward order."""
    placed = []
    for module in network.modules():
        if isinstance(module, Graft):
            shares = module.shares_input or module.wiring != "plain"
            placed.append(Placed(module.module, module.target, module.insertion, shares_input=shares))
        elif isinstance(module, Replaced):
            placed.append(
                Placed(
                    module.replacement, module.target, module.insertion, module.kind,
                    shares_input=True, channels=module.channels,
                )
            )  # fmt: skip
        elif isinstance(mark := getattr(module, MARK, None), HeadMark):
            placed.append(Placed(module, mark.target, mark.insertion, "head", shares_input=True, is_head=True))
    return placed


def returned_shape(kind: str, received: Shape | list[Shape], channels: int | None) -> Shape | list[Shape]:
    """Return the shape of what a module of a kind has to return.

    Args:
        kind: Of `ablate.settings.about.KINDS`.
        received: Shape (B, C, H, W) of the map that it receives; of each one, for the kinds fuse and head.
        channels: Of the map that it has to return; None: those that it receives.
    """
    if kind == "head":
        return received
    batch, own, height, width = received[0] if isinstance(received, list) else received
    if kind == "downsample":
        height, width = -(-height // 2), -(-width // 2)
    elif kind == "upsample":
        height, width = 2 * height, 2 * width
    return batch, own if channels is None else channels, height, width


def tensors_in(content: Any) -> list[Tensor]:
    """Return the tensors in what a module receives or returns."""
    if isinstance(content, Tensor):
        return [content]
    inner = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    return [tensor for each in inner for tensor in tensors_in(each)]


def in_words(shape: Shape | list[Shape]) -> str:
    """Return the shapes of maps as a message has them."""
    return " and ".join(map(str, shape)) if isinstance(shape, list) else str(tuple(shape))
