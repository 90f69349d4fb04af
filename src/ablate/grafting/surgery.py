"""Surgery: insert modules into a built network or put them in the place of layers, and report what was done.

The rest of the stock network stays as it is: no layer moves, no index shifts, every tensor keeps its value and, behind
the name of its host, its name. What was done is written into the network's own `yaml`, so that a checkpoint of it can
be rebuilt, resumed and sent to other processes with nothing but `ablate` importable.

The places of all grafts are those of the stock network. Layers are replaced first; a module that is inserted after a
replaced layer receives the output of what replaces it. At a place that several share, each inserted one receives the
output of the one before.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect

from ablate.grafting.construction import Supply, construct, load_class
from ablate.grafting.head_surgery import adapt, facts_of_head, graft_inputs, in_place_of
from ablate.grafting.insertion import GraftError, Place, find_places
from ablate.grafting.module_calls import calling
from ablate.grafting.replaced_layer import MARK, Replaced, keep_weights, set_norms, take_bookkeeping
from ablate.grafting.replacement_points import facts_of
from ablate.records.graft_report import GraftReport, PlaceReport
from ablate.settings.graft import GraftSpec, read_grafts, write_grafts
from ablate.storage.plain_values import Plain

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

SPEC_KEY = "ablate"  # key of the grafts in a network's yaml


class Graft(nn.Module):
    """A module and the way it joins the map that it receives.

    Args:
        module: Maps (B, C, H, W) to (B, C, H, W).
        wiring: ``plain`` y = m(x); ``residual`` y = x + m(x); ``rezero`` y = x + a m(x) with a scalar a that is
            learnt from 0, so that the network starts as the stock one (Bachlechner et al., 2021).
        insertion: Name of the insertion point, for messages.
        shares_input: Whether other layers read the map as well, as those do that feed an input of Detect.
        target: Dotted path of the module's class, or of the function that built it, for messages.
    """

    insertion = ""  # of a network that an earlier version saved
    shares_input = False
    target = ""

    def __init__(
        self,
        module: nn.Module,
        wiring: str = "plain",
        insertion: str = "",
        *,
        shares_input: bool = False,
        target: str = "",
    ) -> None:
        super().__init__()
        self.insertion = insertion
        self.target = target
        self.shares_input = shares_input
        if wiring not in ("plain", "residual", "rezero"):
            raise GraftError(f"unknown wiring '{wiring}'; valid: plain, residual, rezero")
        self.module = module
        self.wiring = wiring
        if wiring == "rezero":
            self.alpha = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H, W)."""
        y: Tensor = self.module(x)
        if self.wiring == "plain":
            return y
        return x + (y if self.wiring == "residual" else self.alpha * y)

    def no_weight_decay(self) -> set[str]:
        """Return the names of the wiring's own parameters that are not weight matrices; the module names its own."""
        return {"alpha"} if self.wiring == "rezero" else set()


class Grafted(nn.Module):
    """A host (a submodule of the stock network, or one that is grafted already) and the graft that follows it."""

    def __init__(self, host: nn.Module, graft: Graft) -> None:
        super().__init__()
        self.host = host
        self.graft = graft
        take_bookkeeping(self, host)

    def forward(self, *inputs: Any) -> Tensor:
        """Return the graft of the host's output."""
        y: Tensor = self.graft(self.host(*inputs))
        return y


@dataclass
class Surgery:
    """What was done to a network.

    Attributes:
        grafts: The requested grafts.
        grafted: Each graft with each of its places, graft by graft and in forward order.
        modules: The module that was built for each of `grafted`.
        kept: For each path of a replaced layer, names of the tensors whose values its replacement has.
        tensors: For each path of a replaced layer, how many tensors it had.
        replaced: For each path of the stock network the submodule that stood there and the one that stands there now.
    """

    grafts: tuple[GraftSpec, ...]
    grafted: list[tuple[GraftSpec, Place]]
    modules: list[nn.Module] = field(default_factory=list)
    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    tensors: dict[str, int] = field(default_factory=dict)
    replaced: dict[str, tuple[nn.Module, nn.Module]] = field(default_factory=dict)

    @property
    def places(self) -> list[Place]:
        """The places of all grafts."""
        return [place for _, place in self.grafted]

    def report(self) -> GraftReport:
        """Return the grafts and their places for a record.

        A place names its module and wiring where there are several grafts; a module adds what its `describe` returns.
        Of a replaced layer it has the class, the channels of the maps that it received, how many tensors it had, and
        how many of those its replacement kept.
        """
        several = len(self.grafts) > 1
        places = []
        for (graft, place), module in zip(self.grafted, self.modules, strict=True):
            row: Plain = {"place": str(place), "channels": place.channels, "stride": place.stride}
            row |= {"module": graft.module.target, "wiring": graft.insertion.wiring} if several else {}
            if graft.replaces:
                row |= self._replaced(place)
            describe = getattr(module, "describe", None)
            if callable(describe):
                with calling(graft.module.target, f"at {graft.insertion.name}: describe"):
                    row |= _plain(describe())
            places.append(PlaceReport(row))
        wiring = "+".join(dict.fromkeys(graft.insertion.wiring for graft in self.grafts))
        return GraftReport(wiring=wiring, places=tuple(places))

    def _replaced(self, place: Place) -> Plain:
        """Return what a record says of a replaced layer."""
        layer = self.replaced[place.path][0]
        inputs = list(place.inputs)
        return {
            "replaced": type(layer).__name__,
            "in_channels": inputs if len(inputs) > 1 else inputs[0],
            "kept": len(self.kept[place.path]),
            "tensors": self.tensors[place.path],
        }


def operate(network: DetectionModel, grafts: Sequence[GraftSpec], seed: int = 0) -> Surgery:
    """Insert grafts into a stock network and replace its layers, in place.

    Args:
        network: A stock Ultralytics detection network; its weights may already be loaded.
        grafts: At least one.
        seed: Seeds the new weights alone. The global random state is left as it was, so that everything that
            follows (batches, augmentation) is the same as for the baseline.

    Raises:
        GraftError: The network has no such place, a module refuses its channels, its class cannot be found, or a place
            lies inside of a layer that is replaced.
    """
    if grafts_of(network):
        raise GraftError("this network carries a graft already")
    pairs = [(graft, find_places(network, graft.insertion.name, graft.insertion.at)) for graft in grafts]
    _check_overlap(pairs)
    surgery = Surgery(tuple(grafts), [(graft, place) for graft, places in pairs for place in places])
    seeds = _Seeds(seed)
    built = [[_build(network, graft, place, places, seeds) for place in places] for graft, places in pairs]
    surgery.modules = [new for news in built for new in news]
    surgery.tensors = {
        place.path: len(network.get_submodule(place.path).state_dict()) for g, place in surgery.grafted if g.replaces
    }
    parents = {place.path: _parent(network, place) for place in surgery.places}  # found before their hosts get a graft
    for (graft, _), news in zip(pairs, built, strict=True):
        link = getattr(type(news[0]), "link", None)
        if link is not None:
            with calling(graft.module.target, f"at {graft.insertion.name}: link"):
                link(news, network)
    in_order = sorted(zip(pairs, built, strict=True), key=lambda each: not each[0][0].replaces)
    for (graft, places), news in in_order:
        if places[0].port is not None:
            _graft_inputs(surgery, parents[places[0].path], places[0].path, [_graft(graft, new, True) for new in news])
            continue
        for place, new in zip(places, news, strict=True):
            parent = parents[place.path]
            if not graft.replaces:
                _follow(surgery, parent, place.path, _graft(graft, new, False))
            elif place.kind == "head":
                _replace_head(surgery, parent, place.path, new, graft)
            else:
                _replace(surgery, parent, place, new, graft)
    network.yaml = {**network.yaml, SPEC_KEY: write_grafts(grafts)}
    network.train(network.training)
    return surgery


def grafts_of(network: nn.Module) -> tuple[GraftSpec, ...]:
    """Return the grafts that a network carries, none for a stock one."""
    return grafts_in(getattr(network, "yaml", None))


def grafts_in(content: object) -> tuple[GraftSpec, ...]:
    """Return the grafts that a network's yaml names."""
    return read_grafts(content[SPEC_KEY]) if isinstance(content, dict) and content.get(SPEC_KEY) else ()


class _Seeds:
    """Seeds of new weights, one for each graft at each place.

    The first graft at a place has the same weights whatever is grafted elsewhere; a further one there is told apart by
    its module and its number.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._grafts: Counter[str] = Counter()  # built so far, by place

    def of(self, place: Place, graft: GraftSpec) -> int:
        """Return the seed for the next graft at a place."""
        if graft.replaces:
            return self._hash(f"{self._seed}/replaced/{place}")
        key = f"{self._seed}/{place}"
        if number := self._grafts[str(place)]:
            key += f"/{graft.module.target}/{number}"
        self._grafts[str(place)] += 1
        return self._hash(key)

    @staticmethod
    def _hash(key: str) -> int:
        return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "big")


def _where(graft: GraftSpec, place: Place, places: Sequence[Place]) -> str:
    """Return where a module goes, for messages; with its layer where the insertion point has several."""
    return f"at {graft.insertion.name}" + (f" ({place})" if len(places) > 1 else "")


def _plain(content: object) -> Plain:
    """Return what a module says of itself as the plain values that a record takes.

    Raises:
        TypeError: It is no mapping of texts to plain values.
    """
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise TypeError(f"returned {type(content).__name__}; a mapping of names to plain values is needed")
    json.dumps(content)
    return content


def _parent(network: DetectionModel, place: Place) -> nn.Module:
    parent: nn.Module = network.get_submodule(place.path.rpartition(".")[0])
    return parent


def _check_overlap(pairs: Sequence[tuple[GraftSpec, Sequence[Place]]]) -> None:
    """Refuse a place inside of a layer that is replaced, and a layer that two grafts replace.

    Raises:
        GraftError: There is one.
    """
    replaced = [(place.path, graft) for graft, places in pairs if graft.replaces for place in places]
    for graft, places in pairs:
        for place in places:
            for path, other in replaced:
                inside = place.path.startswith(f"{path}.")
                if other is not graft and (inside or (graft.replaces and place.path == path)):
                    raise GraftError(
                        f"{graft.text} and {other.text}: {place.path} is {'inside of' if inside else ''} "
                        f"{path if inside else 'a layer'} that {other.insertion.name} replaces".replace("  ", " ")
                    )


def _build(
    network: DetectionModel, graft: GraftSpec, place: Place, places: Sequence[Place], seeds: _Seeds
) -> nn.Module:
    """Build the module of a graft for one of its places."""
    seed, where = seeds.of(place, graft), _where(graft, place, places)
    if not graft.replaces:
        return construct(graft.module, place.channels, seed, where)
    layer = network.get_submodule(place.path)
    facts: dict[str, object] = {"replaced": deepcopy(layer)}
    if place.kind == "head":
        stock, legacy = Detect.legacy, not isinstance(layer.cv3[0][0], nn.Sequential)
        Detect.legacy = legacy  # Ultralytics sets it for the class, by the last network that was built
        try:
            supply = Supply(list(place.inputs), None, {**facts, **facts_of_head(layer, place.inputs)})
            return construct(graft.module, supply, seed, where)
        finally:
            Detect.legacy = stock
    channels = list(place.inputs) if place.kind == "fuse" else place.inputs[0]
    return construct(
        graft.module, Supply(channels, place.channels, {**facts, **facts_of(layer, place.kind)}), seed, where
    )


def _graft(graft: GraftSpec, module: nn.Module, shares_input: bool) -> Graft:
    insertion = graft.insertion
    return Graft(module, insertion.wiring, insertion.name, shares_input=shares_input, target=graft.module.target)


def _replace(surgery: Surgery, parent: nn.Module, place: Place, module: nn.Module, graft: GraftSpec) -> None:
    """Put a module in the place of a layer, with the weights that both have."""
    name = place.path.rpartition(".")[2]
    layer = parent.get_submodule(name)
    set_norms(module)
    kept = keep_weights(module, layer) if _keeps(graft) else ()
    new = Replaced(module, graft.module.target, graft.insertion.name, place.kind, kept, place.channels, layer)
    setattr(parent, name, new)
    surgery.kept[place.path] = kept
    surgery.replaced[place.path] = (layer, new)


def _replace_head(surgery: Surgery, parent: nn.Module, path: str, module: nn.Module, graft: GraftSpec) -> None:
    """Put a subclass of Detect in the place of the head, or another module before it."""
    name, target, insertion = path.rpartition(".")[2], graft.module.target, graft.insertion.name
    head = parent.get_submodule(name)
    if isinstance(module, Detect):
        new: nn.Module = in_place_of(head, module, target, insertion, keep=_keeps(graft))
        setattr(parent, name, new)
        surgery.kept[path] = getattr(new, MARK).kept
    else:
        adapt(head, Replaced(module, target, insertion, "head"))
        new = head
        surgery.kept[path] = tuple(head_name for head_name in head.state_dict() if not head_name.startswith("adapter."))
    surgery.replaced[path] = (head, new)


def _keeps(graft: GraftSpec) -> bool:
    """Tell whether a replacement takes weights of the layer; one that draws its weights anew does not."""
    return not getattr(load_class(graft.module.target), "draws_anew", False)


def _graft_inputs(surgery: Surgery, parent: nn.Module, path: str, grafts: Sequence[Graft]) -> None:
    """Put a graft on each input of the head."""
    head = parent.get_submodule(path.rpartition(".")[2])
    graft_inputs(head, grafts)
    surgery.replaced[path] = (surgery.replaced.get(path, (head,))[0], head)


def _follow(surgery: Surgery, parent: nn.Module, path: str, graft: Graft) -> None:
    """Let a graft follow what stands at a path of the stock network."""
    name = path.rpartition(".")[2]
    host = parent.get_submodule(name)
    grafted = Grafted(host, graft)
    setattr(parent, name, grafted)
    surgery.replaced[path] = (surgery.replaced.get(path, (host,))[0], grafted)
