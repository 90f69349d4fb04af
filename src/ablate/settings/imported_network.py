"""An imported network: a user's network file that `ablate import` has aligned with its stock ancestor.

It is written in two ways: as the file that `model.architecture=` names, a network's yaml with one more key; and as the
module of a graft at the point `network`, in a configuration, a record and a network's own yaml, where it is complete:
neither the file nor the ancestor's is needed to build it again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ablate.errors import ConfigError
from ablate.settings.architecture import check_architecture, is_layer, stock_content, stock_file
from ablate.sources.code_folder import Code
from ablate.sources.module_source import module_source
from ablate.storage.content_hash import content_hash
from ablate.storage.files import FileState, file_state
from ablate.storage.plain_values import Plain, plain_copy
from ablate.storage.yaml_files import YamlFileError, read_mapping

NETWORK = "ablate.grafting.imported.ImportedNetwork"  # stands for the class of a graft that is a whole network
POINT = "network"  # its insertion point
KEY = "ablate_import"  # of the file
ENDING = ".ablate.yaml"
VERSION = 1
_SCALE = re.compile(r"yolo(?:e-)?v?\d+([nsmblx])(?![a-z])")
_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")
_OPTIONS = ("ancestor", "layers", "backbone", "scale", "scaling", "settings", "classes", "aligned", "code")


@dataclass(frozen=True)
class ImportedNetwork:
    """A network whose layers are aligned with those of a stock network.

    Attributes:
        ancestor: The stock network, by the name under which Ultralytics builds it, such as ``yolo26n.yaml``.
        layers: [from, repeats, name, arguments] each, backbone and head in one.
        backbone: Number of layers of the backbone.
        scale: Of the file's scales the one that is built; empty where it has none.
        scaling: Depth, width and largest number of channels of this scale.
        settings: ``activation``, ``end2end`` and ``reg_max`` of the file, as far as it has them.
        classes: Dotted path of each class that Ultralytics has not, by its name in the layers.
        aligned: For each layer the number of its stock layer, None for one that was added.
        code: Path of the user's code, None where no layer needs it. No part of a signature.
    """

    ancestor: str
    layers: tuple[tuple[Any, ...], ...]
    backbone: int
    scale: str
    scaling: tuple[float, float, float]
    settings: Mapping[str, object]
    classes: Mapping[str, str]
    aligned: tuple[int | None, ...]
    code: str | None

    @classmethod
    def from_options(cls, options: Mapping[str, Any], where: str = "the imported network") -> ImportedNetwork:
        """Return what the options of a graft say, checked: nothing but layers and the classes it names is built.

        Raises:
            ConfigError: They are none of an imported network, or not safe to build.
        """
        missing = [name for name in _OPTIONS if name not in options]
        if missing:
            raise ConfigError(f"{where}: {missing[0]} is missing")
        options = plain_copy(dict(options))
        values: list[Any] = [options[name] for name in _OPTIONS]
        ancestor, layers, backbone, scale, scaling, settings, classes, aligned, code = values
        for name, value in (("layers", layers), ("scaling", scaling), ("aligned", aligned)):
            if not isinstance(value, list):
                raise ConfigError(f"{where}: {name} must be a list")
        network = cls(
            ancestor=str(ancestor),
            layers=tuple(tuple(layer) if isinstance(layer, list) else (layer,) for layer in layers),
            backbone=backbone,
            scale=str(scale),
            scaling=tuple(scaling),
            settings=settings,
            classes=classes,
            aligned=tuple(aligned),
            code=code,
        )
        network._check(where)
        return network

    @property
    def targets(self) -> list[str]:
        """The dotted paths of the classes that the layers need, each once."""
        return list(dict.fromkeys(self.classes.values()))

    @property
    def key(self) -> Plain:
        """What can change a result: the layers and their scaling, the alignment, and the source of the classes.

        Whoever asks for it is about to build the network, so its code may be imported from then on.

        Raises:
            ConfigError: A class, or the code, cannot be found.
        """
        self.allow_code()
        content = {name: value for name, value in self.to_options().items() if name not in ("code", "classes")}
        sources = {name: module_source(target).sha256 for name, target in sorted(self.classes.items())}
        return {"network": content_hash(content), "classes": sources}

    def identity(self) -> ImportedNetwork:
        """Return the stock ancestor itself as an imported network, which computes what the baseline does."""
        content = stock_content(self.ancestor)
        scales = content.get("scales") or {}
        named = _SCALE.search(self.ancestor)
        scale = named[1] if named is not None and named[1] in scales else next(iter(scales), "")
        layers = tuple(tuple(layer) for layer in (*content["backbone"], *content["head"]))
        return ImportedNetwork(
            ancestor=self.ancestor,
            layers=layers,
            backbone=len(content["backbone"]),
            scale=scale,
            scaling=_scaling(content, scale),
            settings=_settings(content),
            classes={},
            aligned=tuple(range(len(layers))),
            code=None,
        )

    def to_options(self) -> Plain:
        """Return the options of a graft; `from_options` is the inverse."""
        return {
            "ancestor": self.ancestor,
            "layers": plain_copy([list(layer) for layer in self.layers]),
            "backbone": self.backbone,
            "scale": self.scale,
            "scaling": list(self.scaling),
            "settings": dict(self.settings),
            "classes": dict(self.classes),
            "aligned": list(self.aligned),
            "code": self.code,
        }

    def to_graft(self, name: str) -> Plain:
        """Return the network as an entry of `grafts` in a configuration."""
        return {
            "module": {"name": name, "_target_": NETWORK, "insertion": POINT, **self.to_options()},
            "insertion": {"name": POINT, "at": None, "wiring": "plain"},
        }

    def allow_code(self) -> None:
        """Let this process import the classes from the user's code; only for a network that the user has named.

        Raises:
            ConfigError: The code is not there any more, or a class is of another place.
        """
        if self.code is not None and not Path(self.code).exists():
            raise ConfigError(
                f"the code of the imported network, {self.code}, is not there any more: import its file again"
            )
        code = None if self.code is None else Code.at(Path(self.code))
        if code is not None:
            code.allow()
        for name, target in self.classes.items():
            if code is None or not code.holds(target):
                place = "it names no code" if code is None else f"its code is {self.code}"
                raise ConfigError(f"the imported network: its class {name}, {target}, is not in its code: {place}")

    def _check(self, where: str) -> None:
        if stock_file(self.ancestor) is None:
            raise ConfigError(f"{where}: its ancestor {self.ancestor!r} is no network of Ultralytics")
        numbers = [self.backbone, *self.scaling]
        if not all(type(it) in (int, float) and it > 0 for it in numbers) or len(self.scaling) != 3:
            raise ConfigError(f"{where}: backbone and scaling must be numbers above 0")
        if not isinstance(self.settings, dict) or not isinstance(self.classes, dict):
            raise ConfigError(f"{where}: settings and classes must be mappings")
        rows = [list(layer) for layer in self.layers]
        content = {**self.settings, "backbone": rows[: self.backbone], "head": rows[self.backbone :]}
        check_architecture(content, where, any_layer=True)
        for layer in self.layers:
            if not is_layer(layer[2]) and layer[2] not in self.classes:
                raise ConfigError(f"{where}: no class for its layer {layer[2]}: import the file again with --code=")
        for name, target in self.classes.items():
            if not isinstance(target, str) or not _TARGET.fullmatch(target) or is_layer(name):
                raise ConfigError(f"{where}: classes: {name}: {target!r} is no dotted path of a class")
        if len(self.aligned) != len(self.layers):
            raise ConfigError(f"{where}: aligned must have a number or null for each of its {len(self.layers)} layers")
        used = [stock for stock in self.aligned if stock is not None]
        if not all(type(stock) is int and stock >= 0 for stock in used) or len(set(used)) != len(used):
            raise ConfigError(f"{where}: aligned: each stock layer can be there once")


def read_imported(architecture: str) -> tuple[str, ImportedNetwork] | None:
    """Return the name and network of a file that `ablate import` wrote; None for any other architecture.

    Raises:
        ConfigError: It is such a file, and damaged.
    """
    if not architecture.endswith(ENDING) or stock_file(architecture) is not None:
        return None
    file = Path(architecture).expanduser()
    if not file.is_file():
        return None  # whoever looks for the architecture says so
    return _read(file.absolute(), file_state(file), f"model.architecture={architecture}")


@lru_cache(maxsize=256)
def _read(file: Path, state: FileState | None, where: str) -> tuple[str, ImportedNetwork] | None:
    """Return what a file of this state holds, which every trial of a grid asks for."""
    try:
        content = read_mapping(file, where, of_hydra=False)
    except YamlFileError as error:
        raise ConfigError(str(error)) from error
    options = content.get(KEY)
    if not isinstance(options, dict):
        return None
    if options.get("version") != VERSION:
        raise ConfigError(f"{where}: {KEY}: version {options.get('version')} is not known: import the file again")
    code = options.get("code")
    if code is not None and not isinstance(code, str):
        raise ConfigError(f"{where}: {KEY}: code must be a path")
    check_architecture(content, where, any_layer=True)
    scales = content.get("scales") or {}
    scale = str(options.get("scale") or "")
    if scale and scale not in scales:
        raise ConfigError(f"{where}: {KEY}: scale: {scale!r} is none of its scales")
    network = ImportedNetwork.from_options(
        {
            "ancestor": options.get("ancestor"),
            "layers": [*content["backbone"], *content["head"]],
            "backbone": len(content["backbone"]),
            "scale": scale,
            "scaling": list(_scaling(content, scale)),
            "settings": _settings(content),
            "classes": options.get("classes") or {},
            "aligned": options.get("aligned"),
            "code": None if code is None else str((file.parent / Path(code).expanduser()).resolve()),
        },
        where,
    )
    return str(options.get("name") or file.name.removesuffix(ENDING)), network


def _scaling(content: Mapping[str, Any], scale: str) -> tuple[float, float, float]:
    """Return depth, width and largest number of channels of a network's yaml in a scale."""
    if scale:
        depth, width, most = content["scales"][scale]
        return depth, width, most
    return content.get("depth_multiple", 1.0), content.get("width_multiple", 1.0), 1e9


def _settings(content: Mapping[str, Any]) -> dict[str, object]:
    """Return what else of a network's yaml shapes the network."""
    return {name: content[name] for name in ("activation", "end2end", "reg_max") if content.get(name) is not None}
