"""Which of the networks that Ultralytics ships a modified one is made from."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

from ablate.errors import ConfigError, nearest
from ablate.importing.alignment import Alignment, align
from ablate.importing.network_file import NetworkFile, network_file
from ablate.settings.architecture import stock_files
from ablate.storage.yaml_files import read_mapping

HEADS = ("Detect", "v10Detect")  # of the networks that ablate trains
OTHER_TASKS = (
    "Segment", "Segment26", "Pose", "Pose26", "OBB", "OBB26", "Classify", "Depth", "SemanticSegment", "WorldDetect",
    "YOLOEDetect", "YOLOESegment", "YOLOESegment26", "RTDETRDecoder",
)  # fmt: skip
_LIKE = 0.4  # the least likeness by which an ancestor is told
_LIKE_NAMED = 0.25  # the same where the file's name says it
_SURELY = 0.7  # the same, by which no other generation is looked at
_APART = 0.02  # by which the best must be ahead of one of another generation
_GENERATION = re.compile(r"yolo(?:e-)?v?(\d+)", re.IGNORECASE)


def find_ancestor(network: NetworkFile, where: str, stock: str | None = None) -> Alignment:
    """Return the stock network that a modified one is made from, aligned with it.

    Args:
        network: The modified network.
        where: Leads the message of an error.
        stock: Name of the ancestor as the user says it, such as ``yolo26``; else it is the likest one.

    Raises:
        ConfigError: It is no detector; the ancestor cannot be told, or there is none of this name.
    """
    head = network.layers[-1].name
    if head in OTHER_TASKS:
        raise ConfigError(f"{where}: it ends with {head}, which is no detector; ablate trains networks with Detect")
    names = stock_names()
    if stock is not None:
        name = stock.removesuffix(".yaml")
        name = name if name in names else re.sub(r"(\d+)[nsmblx](-|$)", r"\1\2", name)
        if name not in names:
            raise ConfigError(f"--stock={stock}: {nearest(stock, names)}valid: {', '.join(names)}")
        return align(_stock_network(name, network.scale), network)
    generation = _generation(network.name)
    named = _ranked([name for name in names if generation and _generation(name) == generation], network)
    if named and named[0].likeness >= _SURELY:
        return _of_its_scale(named)
    ranked = _ranked(names, network)
    if named and named[0].likeness >= max(_LIKE_NAMED, ranked[0].likeness - 0.2):
        return _of_its_scale(named)
    best = ranked[0]
    rivals = [it for it in ranked[1:] if _generation(it.stock.name) != _generation(best.stock.name)]
    if best.likeness < _LIKE:
        raise ConfigError(
            f"{where}: its stock ancestor cannot be told: the likest is {best.stock.name}, {best.likeness:.0%}; "
            f"say it: --stock={_bare(best.stock.name)}"
        )
    if rivals and best.likeness - rivals[0].likeness < _APART:
        raise ConfigError(
            f"{where}: its stock ancestor cannot be told: it is as like {best.stock.name} as {rivals[0].stock.name}; "
            f"say it: --stock={_bare(best.stock.name)}"
        )
    return _of_its_scale([best, *ranked[1:]])


@cache
def stock_names() -> list[str]:
    """Return the names of the stock detectors, without scale and ending."""
    return [name.removesuffix(".yaml") for name, file in stock_files().items() if _is_detector(name, file.read_text())]


def with_scale(name: str, scale: str) -> str:
    """Return the name by which Ultralytics builds a stock network in a scale, such as ``yolo26n-p2``."""
    return re.sub(r"(\d+)(?=-|$)", rf"\g<1>{scale}", name, count=1) if scale else name


def _of_its_scale(ranked: Sequence[Alignment]) -> Alignment:
    """Return the likest of its layout; of those with equal layers the one whose scaling is the file's own."""
    best = ranked[0]
    equal = [it for it in ranked if it.likeness == best.likeness]
    return next((it for it in equal if it.stock.scaling == it.other.scaling), best)


def _ranked(names: Sequence[str], network: NetworkFile) -> list[Alignment]:
    """Align a network with stock networks; return them by likeness, the likest first."""
    aligned = [align(_stock_network(name, network.scale), network) for name in names]
    return sorted(aligned, key=lambda it: it.likeness, reverse=True)


@cache
def _stock_network(name: str, scale: str) -> NetworkFile:
    file = stock_files()[f"{name}.yaml"]
    content = read_mapping(file, of_hydra=False)
    scales = content.get("scales") or {}
    taken = scale if scale in scales else next(iter(scales), "")
    title = with_scale(name, taken) if len(scales) > 1 else name
    return network_file(content, title, name, taken or None)


def _is_detector(name: str, text: str) -> bool:
    rows = [line for line in text.splitlines() if line.strip().startswith("- [")]
    return bool(rows) and any(re.search(rf"\b{head}\b", rows[-1].split("#")[0]) for head in HEADS)


def _generation(name: str) -> str:
    match = _GENERATION.search(name)
    return match[1] if match else ""


def _bare(name: str) -> str:
    return re.sub(r"(\d+)[nsmblx](-|$)", r"\1\2", name)
