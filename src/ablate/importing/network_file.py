"""A network's yaml as a list of layers: read as plain values, checked, with sources as numbers of layers.

Nothing that the file names is looked up or run here.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ablate.errors import ConfigError, nearest
from ablate.settings.architecture import check_architecture, is_layer
from ablate.storage.plain_values import Plain
from ablate.storage.yaml_files import YamlFileError, read_mapping

IMAGE = -1  # the source of the first layer
_UNFOLDED = 4  # rows more than a whole backbone has in the file
MOST_CHANNELS = 8_192  # a network with wider layers does not fit into memory
_SCALE = re.compile(r"yolo(?:e-)?v?\d+([nsmblx])(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes:
        index: Its number, from 0.
        sources: The layers that it reads, by number; `IMAGE` for the image.
        many: Whether it reads a list of maps.
        repeats: How often it is repeated, before the scale's depth.
        name: Of its class.
        arguments: As the file writes them, with literals read.
    """

    index: int
    sources: tuple[int, ...]
    many: bool
    repeats: int
    name: str
    arguments: tuple[object, ...]

    @property
    def title(self) -> str:
        """The layer as messages call it, such as ``layer 10 (C2PSA)``."""
        return f"layer {self.index} ({self.name})"

    @property
    def same(self) -> tuple[str, int, tuple[object, ...]]:
        """What is equal in two layers that are written in the same way, wherever they stand."""
        return self.name, self.repeats, self.arguments

    @property
    def width(self) -> int | None:
        """The first argument where it is a number, which is that of the output channels in most layers."""
        first = self.arguments[0] if self.arguments else None
        return first if type(first) is int else None

    @property
    def halves(self) -> bool:
        """Whether it is a stock convolution of stride 2."""
        return self.name in ("Conv", "DWConv", "GhostConv") and self.arguments[2:3] == (2,)

    def written(self) -> list[object]:
        """Return the layer as a network's yaml holds it; of several sources the absolute numbers."""
        before = -1 if self.sources[0] == self.index - 1 else self.sources[0]
        return [list(self.sources) if self.many else before, self.repeats, self.name, list(self.arguments)]


@dataclass(frozen=True)
class NetworkFile:
    """A network's yaml.

    Attributes:
        name: Name of the file without its ending.
        layers: Backbone and head in one.
        backbone: Number of layers of the backbone.
        scale: The scale that is built, such as ``n``; empty where the file has none.
        scaling: Depth, width and largest number of channels before the width, of this scale.
        settings: What else of the file shapes the network: ``activation``, ``end2end``, ``reg_max``.
    """

    name: str
    layers: tuple[Layer, ...]
    backbone: int
    scale: str
    scaling: tuple[float, float, float]
    settings: Mapping[str, object]


def read_network_file(path: Path, scale: str | None = None) -> NetworkFile:
    """Read a network's yaml, whose layers may have any names.

    Args:
        path: The file.
        scale: Of its scales the one to build; by default the one that its name says, as in ``yolo26n-mine.yaml``, else
            its first.

    Raises:
        ConfigError: It is no network's yaml, or one that cannot be built.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: {'a regular file is needed' if path.exists() else 'no such file'}")
    try:
        content = read_mapping(path, str(path), of_hydra=False)
    except YamlFileError as error:
        raise ConfigError(str(error)) from error
    return network_file(content, path.stem, str(path), scale)


def network_file(content: Plain, name: str, where: str, scale: str | None = None) -> NetworkFile:
    """Return what a network's yaml says; `where` leads the message of an error.

    Raises:
        ConfigError: It is no network's yaml, or one that cannot be built.
    """
    content = _with_backbone_unfolded(content)
    check_architecture(content, where, any_layer=True)
    rows = [*content["backbone"], *content["head"]]
    layers = tuple(_layer(index, row) for index, row in enumerate(rows))
    taken = _scale(content, name, where, scale)
    factors = (content.get("scales") or {}).get(taken) if taken else None
    depth, width, most = factors or (content.get("depth_multiple", 1.0), content.get("width_multiple", 1.0), 1e9)
    network = NetworkFile(
        name=name,
        layers=layers,
        backbone=len(content["backbone"]),
        scale=taken,
        scaling=(float(depth), float(width), float(most)),
        settings={key: content[key] for key in ("activation", "end2end", "reg_max") if content.get(key) is not None},
    )
    for layer in layers:
        _check_size(layer, network, where)
    last = layers[-1]
    if not last.many or len(last.sources) < 1:
        raise ConfigError(f"{where}: {last.title}: a detector ends with a head that reads a list of maps")
    return network


def _with_backbone_unfolded(content: Plain) -> Plain:
    """Return a network's yaml with a whole backbone in its first row as layers of the stock forward.

    Forks number such a row 0 to 4, one for each map that it returns, at strides 2 to 32, and change Ultralytics'
    forward for it. Here row 0 returns the list, and rows 1 to 4 take its last four maps: the numbers stay as they are.
    """
    backbone, head = content.get("backbone"), content.get("head")
    if not isinstance(backbone, list) or not isinstance(head, list):
        return content
    rows = [*backbone, *head]
    if not all(isinstance(row, list) and len(row) == 4 for row in rows) or is_layer(str(rows[0][2])):
        return content
    reads = [(number, source) for number, row in enumerate(rows) for source in _whole_numbers(row[0])]
    if not any(source >= number for number, source in reads):
        return content  # numbered as Ultralytics does
    if any(source >= number + _UNFOLDED for number, source in reads):
        return content  # wrong in either way
    taken = [[0, 1, "Index", [1, index - _UNFOLDED]] for index in range(_UNFOLDED)]
    return {**content, "backbone": [backbone[0], *taken, *backbone[1:]]}


def _whole_numbers(source: object) -> list[int]:
    return [it for it in (source if isinstance(source, list) else [source]) if type(it) is int]


def literal(value: Any) -> Any:
    """Return what an argument of a layer means: a text that is a literal of Python is its value."""
    if isinstance(value, str):
        try:
            return ast.literal_eval(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            return value
    return value


def _layer(index: int, row: list[Any]) -> Layer:
    source, repeats, name, arguments = row
    sources = source if isinstance(source, list) else [source]
    absolute = tuple(number if number >= 0 else index + number for number in sources)
    return Layer(index, absolute, isinstance(source, list), repeats, name, tuple(_frozen(a) for a in arguments))


def _frozen(value: Any) -> Any:
    """Return an argument as a value that can be compared and hashed."""
    value = literal(value)
    if isinstance(value, list | tuple):
        return tuple(map(_frozen, value))
    return tuple((key, _frozen(item)) for key, item in value.items()) if isinstance(value, dict) else value


def _scale(content: Plain, name: str, where: str, scale: str | None) -> str:
    scales = content.get("scales") or {}
    valid = [str(key) for key in scales]
    if scale is not None:
        if scale not in valid:
            has = f"valid: {', '.join(valid)}" if valid else "the file has no scales"
            raise ConfigError(f"{where}: --scale={scale}: {nearest(scale, valid)}{has}")
        return scale
    named = _SCALE.search(name)
    return named[1] if named is not None and named[1] in valid else next(iter(valid), "")


def _check_size(layer: Layer, network: NetworkFile, where: str) -> None:
    """Check that no layer is wider than memory holds.

    Raises:
        ConfigError: One is.
    """
    _, factor, most = network.scaling
    width = layer.width
    if width is not None and min(width, most) * factor > MOST_CHANNELS:
        channels = int(min(width, most) * factor)
        raise ConfigError(f"{where}: {layer.title}: {channels:,} channels; at most {MOST_CHANNELS:,} are built")
    for value in layer.arguments:
        if type(value) is int and abs(value) > 2**20:
            raise ConfigError(f"{where}: {layer.title}: the argument {value:,} is beyond any size of a layer")
