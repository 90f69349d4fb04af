"""Insertion points: from a semantic name to the places of one built network.

A place is read off the network itself (types of its layers, the strides of their maps), not off layer indices of
one architecture, so the same name means the same thing in YOLO26 n to x, YOLO12, YOLO11, YOLOv10 and YOLOv8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ablate.errors import AblateError
from ablate.grafting.replacement_points import REPLACEMENTS, Ports
from ablate.settings.points import HEAD_POINT, REPLACE_LAYER

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

PROBE_SIZE = 128  # px; the smallest square with at least 4 x 4 cells at stride 32


class GraftError(AblateError, ValueError):
    """This module cannot go there, in this network; the message names the place and the reason."""


@dataclass(frozen=True)
class Place:
    """One spot of a network where a module can be inserted, or a layer that can be replaced.

    Attributes:
        path: Dotted path of the host, the submodule whose output the graft receives; for an input of Detect the
            path of Detect itself. Of the replaced layer where one is replaced.
        channels: Channels of the map at this place, which the replaced layer returns; of Detect's first input.
        stride: Input pixels per cell of that map.
        port: Index of Detect's input, or None where the host's output is meant.
        kind: What goes there, of `ablate.settings.about.KINDS`.
        inputs: Channels of each map that the replaced layer receives; none where no layer is replaced.
    """

    path: str
    channels: int
    stride: int
    port: int | None = None
    kind: str = "insert"
    inputs: tuple[int, ...] = ()

    def __str__(self) -> str:
        return self.path if self.port is None else f"{self.path} input {self.port}"


def find_places(network: DetectionModel, name: str, at: Sequence[int] | None = None) -> list[Place]:
    """Return the places that an insertion point means in this network, in forward order.

    Args:
        network: A stock (ungrafted) Ultralytics detection network.
        name: A point of `ablate.settings.points.POINTS`.
        at: Layer indices that take the place of the name; a graft follows each of these layers, or replaces it where
            the name begins with ``replace_layer``.

    Raises:
        GraftError: The network has no such place, or the name or index is unknown.
    """
    if name in REPLACEMENTS or name == HEAD_POINT or name.startswith(REPLACE_LAYER):
        return _replaced(network, name, at)
    if at is not None:
        hosts = _by_index(network, at, "follow")
    elif name == "head":
        return _head_inputs(network)
    elif name in INSERTIONS:
        hosts = INSERTIONS[name](network)
    else:
        raise GraftError(f"unknown insertion point '{name}'; valid: {', '.join(sorted([*INSERTIONS, *REPLACEMENTS]))}")
    if not hosts:
        raise GraftError(
            f"insertion={name}: {_title(network)} has no such place; it has {', '.join(available(network))}"
        )
    shapes = _output_shapes(network, hosts)
    return [Place(path, *shapes[path]) for path in hosts]


def available(network: DetectionModel) -> list[str]:
    """Return the insertion points that this network has, where a module is inserted."""
    return [name for name, find in INSERTIONS.items() if name == "head" or find(network)]


def replaceable(network: DetectionModel) -> list[str]:
    """Return the insertion points that this network has, where a layer is replaced."""
    ports = _layer_ports(network)
    return [*(name for name, find in REPLACEMENTS.items() if find(network, ports)), HEAD_POINT]


def _by_index(network: DetectionModel, at: Sequence[int], verb: str) -> list[str]:
    """Return the paths of layers by index; `verb` says what a graft does with one."""
    last = len(network.model) - 2
    for index in at:
        if not 0 <= index <= last:
            raise GraftError(f"insertion.at: {_title(network)} has no layer {index} to {verb}; valid: 0 to {last}")
    return [f"model.{index}" for index in dict.fromkeys(at)]


def _replaced(network: DetectionModel, name: str, at: Sequence[int] | None) -> list[Place]:
    """Return the layers that a point replaces."""
    if name == HEAD_POINT:
        levels = _head_inputs(network)
        return [replace(levels[0], port=None, kind="head", inputs=tuple(level.channels for level in levels))]
    if name.startswith(REPLACE_LAYER):
        paths = _by_index(network, at or (), "replace")
    else:
        paths = REPLACEMENTS[name](network, _layer_ports(network))
    if not paths:
        has = ", ".join(replaceable(network))
        raise GraftError(f"insertion={name}: {_title(network)} has no such layer; it has those of {has}")
    ports = _ports(network, paths)
    return [
        Place(path, ports[path].channels, ports[path].stride, kind=ports[path].kind, inputs=ports[path].inputs)
        for path in paths
    ]


def _c3k2(network: DetectionModel) -> list[str]:
    """Second convolutions of the bottlenecks inside C3k2 layers."""
    from ultralytics.nn.modules.block import Bottleneck, C3k2

    return [
        f"{path}.{inner}.cv2"
        for path, layer in _layers(network)
        if isinstance(layer, C3k2)
        for inner, block in layer.named_modules()
        if isinstance(block, Bottleneck)
    ]


def _psa(network: DetectionModel) -> list[str]:
    """Attentions of the PSA blocks inside C2PSA layers (PSA in YOLOv10)."""
    from ultralytics.nn.modules.block import C2PSA, PSA, Attention

    return [
        f"{path}.{inner}"
        for path, layer in _layers(network)
        if isinstance(layer, C2PSA | PSA)
        for inner, block in layer.named_modules()
        if isinstance(block, Attention)
    ]


def _backbone(stride: int) -> Callable[[DetectionModel], list[str]]:
    def find(network: DetectionModel) -> list[str]:
        length = len(network.yaml["backbone"])
        paths = [f"model.{index}" for index in range(length)]
        shapes = _output_shapes(network, paths)
        return [path for path in paths if shapes[path][1] == stride][-1:]

    return find


def _neck(stride: int) -> Callable[[DetectionModel], list[str]]:
    def find(network: DetectionModel) -> list[str]:
        paths = [f"model.{index}" for index in network.model[-1].f]
        shapes = _output_shapes(network, paths)
        return [path for path in paths if shapes[path][1] == stride]

    return find


def _detect(network: DetectionModel) -> list[str]:
    return [f"model.{len(network.model) - 1}"]


INSERTIONS: dict[str, Callable[[DetectionModel], list[str]]] = {
    "c3k2": _c3k2,
    "head": _detect,
    "psa": _psa,
    "backbone_p3": _backbone(8),
    "backbone_p4": _backbone(16),
    "backbone_p5": _backbone(32),
    "neck_p3": _neck(8),
    "neck_p4": _neck(16),
    "neck_p5": _neck(32),
}


def _head_inputs(network: DetectionModel) -> list[Place]:
    path = _detect(network)[0]
    sources = [f"model.{index}" for index in network.model[-1].f]
    shapes = _output_shapes(network, sources)
    return [Place(path, *shapes[source], port=port) for port, source in enumerate(sources)]


def _layers(network: DetectionModel) -> list[tuple[str, nn.Module]]:
    return [(f"model.{index}", layer) for index, layer in enumerate(network.model)]


def _title(network: DetectionModel) -> str:
    from pathlib import Path

    return Path(str(network.yaml.get("yaml_file", "this network"))).stem


def _output_shapes(network: DetectionModel, paths: Sequence[str]) -> dict[str, tuple[int, int]]:
    """Return (channels, stride) of the outputs of the submodules at `paths`."""
    return {path: (ports.channels, ports.stride) for path, ports in _ports(network, paths).items()}


def _layer_ports(network: DetectionModel) -> dict[str, Ports]:
    """Return what every layer but the head receives and returns."""
    return _ports(network, [f"model.{index}" for index in range(len(network.model) - 1)])


@torch.no_grad()
def _ports(network: DetectionModel, paths: Sequence[str]) -> dict[str, Ports]:
    """Return what the submodules at `paths` receive and return, seen in one forward pass before Detect."""
    seen: dict[str, Ports] = {}

    def watch(path: str) -> Callable[[nn.Module, tuple[Any, ...], torch.Tensor], None]:
        def hook(module: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> None:
            maps: list[torch.Tensor] = inputs[0] if isinstance(inputs[0], list) else [inputs[0]]
            strides = [PROBE_SIZE // size for size in (maps[0].shape[-1], output.shape[-1])]
            seen[path] = Ports(tuple(each.shape[1] for each in maps), strides[0], output.shape[1], strides[1])

        return hook

    handles = [network.get_submodule(path).register_forward_hook(watch(path)) for path in paths]
    training = {module: module.training for module in network.modules()}
    network.eval()  # batch statistics stay as they are
    try:
        parameter = next(network.parameters())
        x = torch.zeros(1, network.yaml.get("channels", 3), PROBE_SIZE, PROBE_SIZE).to(parameter)
        outputs: list[torch.Tensor] = []
        for layer in list(network.model)[:-1]:
            sources = [layer.f] if isinstance(layer.f, int) else layer.f
            taken = [outputs[source] if source != -1 else x for source in sources]
            x = layer(taken[0] if isinstance(layer.f, int) else taken)
            outputs.append(x)
    finally:
        for handle in handles:
            handle.remove()
        for module, mode in training.items():
            module.training = mode
    return seen
