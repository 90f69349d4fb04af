"""The yaml of a network's architecture: which file it is, and that building it runs nothing but layers.

Ultralytics evaluates `activation` as Python, and calls whatever its own file has under the name of a layer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ablate.errors import ConfigError, nearest
from ablate.safe_text import escaped
from ablate.settings.network_width import WIDEST, width_in, without_width
from ablate.storage.plain_values import Plain
from ablate.storage.yaml_files import YamlFileError, read_mapping

MOST_LAYERS = 1_000
MOST_REPEATS = 1_000
MOST_TEXT = 200  # characters of a text among a layer's arguments, which may be a literal of Python
_REACHING = ("TorchVision",)  # it fetches weights
_NAME = re.compile(r"[A-Za-z_]\w{0,99}")
_LAYER = re.compile(r"(?:nn|torchvision\.ops)\.[A-Z]\w*")
_SCALE = re.compile(r"yolo[v]?\d+([nslmx])")


def read_architecture(architecture: str) -> Plain:
    """Return a network's yaml as Ultralytics' `yaml_model_load` does: with the scale that its name says.

    Args:
        architecture: A file, or the bare name of one that Ultralytics ships, which no file of the working folder
            stands in for.

    Raises:
        ConfigError: There is no such file, or it is no network's.
    """
    from ultralytics.nn.tasks import guess_model_scale

    content = _content(architecture)
    return {**content, "scale": guess_model_scale(architecture), "yaml_file": str(Path(architecture))}


def check_architecture_file(architecture: str) -> None:
    """Check the yaml of a network; one that Ultralytics ships is only looked for.

    Raises:
        ConfigError: There is no such file, or it is no network's.
    """
    if stock_file(architecture) is None or width_in(architecture) is not None:
        _content(architecture)


def check_architecture(content: Mapping[str, Any], where: str, *, any_layer: bool = False) -> None:
    """Check that building a network from the content of a yaml calls only layers.

    Args:
        content: The yaml's.
        where: Leads the message.
        any_layer: Whether a layer may have a name that Ultralytics has not, as in a network file that is imported.

    Raises:
        ConfigError: It has no layers, something else than a layer, a layer that reads what is not before it, or an
            activation that is code.
    """
    activation = content.get("activation")
    if activation is not None and not _is_activation(activation):
        raise ConfigError(f"{where}: activation: {_shown(activation)} is no layer of torch.nn, such as nn.SiLU()")
    for part in ("backbone", "head"):
        layers = content.get(part)
        if not isinstance(layers, list) or not 1 <= len(layers) <= MOST_LAYERS:
            raise ConfigError(f"{where}: '{part}' must be a list of layers, [from, repeats, name, arguments] each")
        first = 0 if part == "backbone" else len(content["backbone"])
        for index, layer in enumerate(layers):
            problem = _layer_problem(layer, first + index, any_layer=any_layer)
            if problem:
                raise ConfigError(f"{where}: {part}, layer {index}: {problem}")
    factors = [content.get("depth_multiple", 1.0), content.get("width_multiple", 1.0)]
    scales = content.get("scales") or {}
    if not isinstance(scales, dict):
        raise ConfigError(f"{where}: 'scales' must be a mapping of names to [depth, width, channels]")
    for scale in scales.values():
        factors += scale if isinstance(scale, list) and len(scale) == 3 else [None]
    if not all(isinstance(factor, int | float) and 0 < factor < 1e6 for factor in factors):
        raise ConfigError(f"{where}: depth, width and channels of a scale must be numbers above 0")


def stock_file(architecture: str) -> Path | None:
    """Return the file of a network that Ultralytics ships, by its bare name with or without a scale; else None.

    A name may end with another width (see `with_width`): the file is that of the network.
    """
    if Path(architecture).name != architecture:
        return None
    architecture = without_width(architecture)
    names = (architecture, re.sub(r"(\d+)([nslmx])(.+)?$", r"\1\3", architecture))
    return next((_stock()[name] for name in names if name in _stock()), None)


def scale_width(architecture: str) -> float | None:
    """Return the width multiple of a stock network's scale; None of any other network, and of one of another width."""
    if stock_file(architecture) is None or width_in(architecture) is not None:
        return None
    scales = _content(architecture).get("scales") or {}
    scale = scales.get(_scale(architecture, scales))
    return float(scale[1]) if scale else None


def _scale(architecture: str, scales: Mapping[str, Any]) -> str:
    """Return the scale that a network's name says; the file's first one where it says none, as Ultralytics does."""
    match = _SCALE.search(architecture)
    return match[1] if match else next(iter(scales), "")


def _widened(content: Plain, architecture: str) -> Plain:
    """Return the content of a stock network's yaml with the width that its name says, if any."""
    width = width_in(architecture)
    if width is None or stock_file(architecture) is None:
        return content
    scales = content.get("scales") or {}
    scale = _scale(architecture, scales)
    if scale not in scales or not 0 < width <= WIDEST:
        problem = f"valid widths: above 0, to {WIDEST:g}" if scale in scales else "this network has no scales"
        raise ConfigError(f"model.architecture={architecture}: {problem}")
    depth, _, channels = scales[scale]
    return {**content, "scales": {scale: [depth, width, channels]}}


def _content(architecture: str) -> Plain:
    where = f"model.architecture={architecture}"
    file = stock_file(architecture) or Path(architecture).expanduser()
    if not file.is_file():
        guess = nearest(architecture, _stock())
        raise ConfigError(f"{where}: no such file, and no network of Ultralytics has this name. {guess}".rstrip())
    try:
        content = read_mapping(file, where, of_hydra=False)
    except YamlFileError as error:
        raise ConfigError(str(error)) from error
    content = _widened(content, architecture)
    check_architecture(content, where)
    return content


def is_layer(name: str) -> bool:
    """Tell whether Ultralytics' builder of networks knows a layer by this name."""
    return bool(_LAYER.fullmatch(name)) or name in _layers()


def _layer_problem(layer: Any, number: int, *, any_layer: bool) -> str:
    """Return what is wrong with a layer of this number in the network; empty where nothing is."""
    if not isinstance(layer, list) or len(layer) != 4:
        return "[from, repeats, name, arguments] is needed"
    source, repeats, name, arguments = layer
    if not all(type(item) is int for item in (source if isinstance(source, list) else [source])):
        return f"'from' must be the number of a layer, or a list of these, not {_shown(source)}"
    sources = source if isinstance(source, list) else [source]
    if not sources:
        return "'from' is an empty list: a layer reads at least one other"
    for read in sources:
        if not -max(number, 1) <= read < max(number, 0):
            there = f"{number} layers are before it" if number else "it is the first one and reads the image, -1"
            return f"it reads layer {read}, which is not before it: {there}"
    if type(repeats) is not int or not 1 <= repeats <= MOST_REPEATS:
        return f"it is repeated {_shown(repeats)} times; valid: 1 to {MOST_REPEATS}"
    if not isinstance(name, str) or not (is_layer(name) or (any_layer and _NAME.fullmatch(name))):
        return (
            f"{_shown(name)} is no layer. {nearest(str(name), _layers())}valid: those of Ultralytics, nn.<Name>; a "
            "file with classes of your own: python -m ablate import <file> --code=<folder>"
        )
    if not isinstance(arguments, list) or any(isinstance(item, str) and len(item) > MOST_TEXT for item in arguments):
        return "its arguments must be a list of plain values"
    return ""


def _shown(value: object) -> str:
    return escaped(repr(value), MOST_TEXT)


def _is_activation(text: object) -> bool:
    """Tell whether a text is a layer of torch.nn with arguments that are plain values."""
    if not isinstance(text, str) or len(text) > MOST_TEXT:
        return False
    try:
        call = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    if not isinstance(call, ast.Call) or not re.fullmatch(r"(torch\.)?nn\.[A-Z]\w*", ast.unparse(call.func)):
        return False
    values = [*call.args, *(keyword.value for keyword in call.keywords)]
    return all(isinstance(value, ast.Constant) for value in values) and all(keyword.arg for keyword in call.keywords)


def stock_content(architecture: str) -> Plain:
    """Return what the yaml of a network holds that Ultralytics ships; Ultralytics is not imported.

    Raises:
        ConfigError: There is no such network.
    """
    return _content(architecture)


def stock_files() -> dict[str, Path]:
    """Return the networks' yamls that Ultralytics ships, by name."""
    return dict(_stock())


@cache
def _stock() -> dict[str, Path]:
    """Return the networks' yamls in the installed Ultralytics, by name, without importing it."""
    spec = find_spec("ultralytics")
    folder = Path(spec.origin).parent / "cfg" / "models" if spec is not None and spec.origin else Path()
    return {file.name: file for file in sorted(folder.glob("*/*.yaml"))}


@cache
def _layers() -> frozenset[str]:
    """Return the names of Ultralytics' layers: the classes that its builder of networks imports from its modules."""
    spec = find_spec("ultralytics")
    assert spec is not None and spec.origin is not None  # noqa: PT018 - where it is missing nothing comes this far
    tree = ast.parse((Path(spec.origin).parent / "nn" / "tasks.py").read_text(encoding="utf-8"))
    found = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "ultralytics.nn.modules"]
    return frozenset(alias.name for node in found for alias in node.names if alias.name not in _REACHING)
