"""What a modified network is made of: its differences from the stock network, in words, and as components of ours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ablate.importing.alignment import Alignment
from ablate.importing.catalogue_names import catalogue_name
from ablate.importing.network_file import IMAGE, Layer, NetworkFile

_OWN = "no module of the catalogue has this name; a file in conf/module/ makes it one (docs/own-modules.md)"
_PLACES = {"nn.Upsample": "up", "Concat": "fuse", "SPPF": "sppf", "C2PSA": "c2psa", "C3k2": "c3k2_block"}


@dataclass(frozen=True)
class Change:
    """One difference.

    Attributes:
        kind: ``inserted``, ``replaced``, ``arguments``, ``inputs``, ``added``, ``removed`` or ``settings``.
        text: In words.
        layer: Its layer in the modified network, None where there is none.
        stock: The stock layer that it is about: replaced, changed, removed, or the one that is followed.
        name: The class of the layer.
        component: What says the same on our command line, such as ``ema@10``; None where nothing does.
        why_not: Why nothing does; empty where something does.
    """

    kind: str
    text: str
    layer: int | None = None
    stock: int | None = None
    name: str = ""
    component: str | None = None
    why_not: str = ""


def describe(alignment: Alignment) -> tuple[Change, ...]:
    """Return the differences of a modified network from its stock network, in the order of its layers."""
    changes = [*_settings(alignment), *_layers(alignment), *_removed(alignment)]
    return tuple(_with_components(alignment, changes))


def components_of(changes: Sequence[Change]) -> list[str] | None:
    """Return the components that say all of some changes, each once; None where something cannot be said."""
    if not changes or any(change.component is None for change in changes):
        return None
    return list(dict.fromkeys(str(change.component) for change in changes))


def point_of_layer(stock: NetworkFile, index: int) -> str | None:
    """Return the insertion point whose places include a stock layer; None where none does."""
    layer = stock.layers[index]
    if index == len(stock.layers) - 1:
        return "detect"
    if layer.halves:
        if IMAGE in layer.sources:
            return "down_stem"
        return "down_backbone" if index < stock.backbone else "down_neck"
    return _PLACES.get(layer.name)


def _settings(alignment: Alignment) -> Iterator[Change]:
    ours, modified = alignment.stock, alignment.other
    if ours.scaling != modified.scaling:
        names = ("depth", "width", "largest number of channels")
        pairs = zip(names, ours.scaling, modified.scaling, strict=True)
        different = ", ".join(f"{name} {a:g} -> {b:g}" for name, a, b in pairs if a != b)
        yield Change("settings", f"other scaling: {different}", why_not="a component changes no widths of the network")
    for name in ("activation", "end2end", "reg_max"):
        a, b = ours.settings.get(name), modified.settings.get(name)
        if a != b:
            yield Change("settings", f"{name}: {a} -> {b}", why_not="it is a setting of the whole network")


def _layers(alignment: Alignment) -> Iterator[Change]:
    for layer in alignment.other.layers:
        pair = alignment.pairs[layer.index]
        if pair is None:
            yield _added(alignment, layer)
            continue
        ours = alignment.stock.layers[pair]
        point = point_of_layer(alignment.stock, pair)
        where = f"{ours.title.replace(f' ({ours.name})', '')}{f' ({point})' if point else ''}"
        if ours.name != layer.name:
            text = f"replaced {ours.name} -> {layer.name}{_shown(layer)} at {where}"
            yield Change("replaced", text, layer.index, pair, layer.name)
        elif ours.same != layer.same:
            times = f", {ours.repeats} -> {layer.repeats} times" if ours.repeats != layer.repeats else ""
            differ = f" {_shown(ours)} -> {_shown(layer)}" if ours.arguments != layer.arguments else ""
            what = "changed width of" if ours.width != layer.width else "changed"
            text = f"{what} {ours.name} at {where}:{differ}{times}"
            yield Change("arguments", text, layer.index, pair, layer.name, why_not="other arguments of a stock layer")
        meant = tuple(alignment.meaning(source) for source in layer.sources)
        if meant != ours.sources:
            a = ", ".join(map(_source, ours.sources))
            b = ", ".join(_read(alignment, source) for source in layer.sources)
            text = f"other inputs of {ours.title}: {a} -> {b}"
            yield Change(
                "inputs", text, layer.index, pair, layer.name, why_not="a component leaves the wiring as it is"
            )


def _added(alignment: Alignment, layer: Layer) -> Change:
    shown = f"{layer.name}{_shown(layer)}"
    follows = alignment.meaning(layer.sources[0]) if not layer.many else None
    if follows is None or follows == IMAGE:
        reads = ", ".join(_read(alignment, source) for source in layer.sources)
        text = f"added {shown}, which reads {reads}"
        return Change("added", text, layer.index, None, layer.name, why_not="a component adds no branch")
    ours = alignment.stock.layers[follows]
    others = [it for it in _readers(alignment, follows) if it.index != layer.index]
    readers = _readers_of(alignment.other, layer.index)
    if not readers:
        text = f"added {shown} after {ours.title}"
        return Change("added", text, layer.index, follows, layer.name, why_not="nothing reads it")
    text = f"inserted {shown} after {ours.title}"
    bypassed = [
        it
        for it in others
        if it.index not in {each.index for each in readers} and alignment.pairs[it.index] is not None
    ]
    if bypassed:
        text += f", for {readers[0].title} and not for {bypassed[0].title}"
        return Change("inserted", text, layer.index, follows, layer.name, why_not="only some of the readers get it")
    return Change("inserted", text, layer.index, follows, layer.name)


def _removed(alignment: Alignment) -> Iterator[Change]:
    for ours in alignment.stock.layers:
        if ours.index not in alignment.layer_of:
            yield Change("removed", f"removed {ours.title}{_shown(ours)}", None, ours.index, ours.name,
                         why_not="a component removes no layer")  # fmt: skip


def _with_components(alignment: Alignment, changes: Sequence[Change]) -> Iterator[Change]:
    """Yield the changes with the components that say them, where several places of one module are one component."""
    for change in changes:
        if change.why_not or change.kind not in ("inserted", "replaced"):
            yield change
            continue
        kind = "insert" if change.kind == "inserted" else "replace"
        point = None if change.stock is None else point_of_layer(alignment.stock, change.stock)
        name = catalogue_name(change.name, kind if kind == "insert" else point)
        alike = [it for it in changes if it.kind == change.kind and it.name == change.name and not it.why_not]
        layers = sorted({it.stock for it in alike if it.stock is not None})
        if name is None:
            yield replace(change, why_not=_OWN)
        elif kind == "insert":
            head = sorted(set(alignment.stock.layers[-1].sources))
            place = "head" if layers == head else "+".join(map(str, layers))
            yield replace(change, component=f"{name}@{place}")
        elif (problem := _other_width(alignment, change)) is not None:
            yield replace(change, why_not=problem)
        else:
            yield replace(change, component=f"{name}@{_point_of(alignment.stock, layers)}")


def _other_width(alignment: Alignment, change: Change) -> str | None:
    assert change.layer is not None
    assert change.stock is not None
    ours, modified = alignment.stock.layers[change.stock], alignment.other.layers[change.layer]
    if ours.width is not None and modified.width is not None and ours.width != modified.width and modified.width >= 8:
        return f"other channels: {ours.width} -> {modified.width}"
    return None


def _point_of(stock: NetworkFile, layers: Sequence[int]) -> str:
    """Return the point that means exactly these layers, else the layers by number."""
    places: dict[str, list[int]] = {}
    for index in range(len(stock.layers)):
        if (point := point_of_layer(stock, index)) is not None:
            places.setdefault(point, []).append(index)
    places["down"] = sorted([*places.get("down_backbone", []), *places.get("down_neck", [])])
    exact = next((point for point, indices in places.items() if indices == list(layers)), None)
    return exact or "replace_layer" + "+".join(map(str, layers))


def _readers(alignment: Alignment, stock: int) -> list[Layer]:
    """Return the layers of the modified network that read a stock layer itself."""
    return _readers_of(alignment.other, alignment.layer_of[stock])


def _readers_of(network: NetworkFile, index: int) -> list[Layer]:
    return [layer for layer in network.layers if index in layer.sources]


def _shown(layer: Layer) -> str:
    return str(list(layer.arguments)) if layer.arguments else ""


def _source(source: int) -> str:
    return "the image" if source == IMAGE else str(source)


def _read(alignment: Alignment, source: int) -> str:
    """Return a layer of the modified network by the number of its stock layer, or as what it is."""
    if source == IMAGE:
        return "the image"
    pair = alignment.pairs[source]
    return str(pair) if pair is not None else f"the added {alignment.other.layers[source].name}"
