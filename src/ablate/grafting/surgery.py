"""Surgery: insert modules into a built network, and report what was done.

The stock network stays as it is: no layer moves, no index shifts, every tensor keeps its value and, behind the name of
its host, its name. What was grafted is written into the network's own `yaml`, so that a checkpoint of it can be
rebuilt, resumed and sent to other processes with nothing but `ablate` importable.

The places of all grafts are those of the stock network; at a place that several share, each graft receives the output
of the one before.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect, v10Detect

from ablate.grafting.construction import construct
from ablate.grafting.insertion import GraftError, Place, find_places
from ablate.grafting.module_calls import calling
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
        for name in ("i", "f", "type", "np"):  # Ultralytics' bookkeeping on the layers of `network.model`
            if hasattr(host, name):
                setattr(self, name, getattr(host, name))

    def forward(self, *inputs: Any) -> Tensor:
        """Return the graft of the host's output."""
        y: Tensor = self.graft(self.host(*inputs))
        return y


class _GraftedInputs:
    """Detect with a graft on each of its inputs."""

    grafts: nn.ModuleList

    def forward(self, x: list[Tensor]) -> Any:
        """Graft every input, then detect."""
        return super().forward([graft(level) for graft, level in zip(self.grafts, x, strict=True)])  # type: ignore[misc]


class GraftedDetect(_GraftedInputs, Detect):
    """Ultralytics' Detect with grafts on its inputs."""


class GraftedV10Detect(_GraftedInputs, v10Detect):
    """Ultralytics' v10Detect with grafts on its inputs."""


_GRAFTED_HEADS: dict[type[nn.Module], type[nn.Module]] = {Detect: GraftedDetect, v10Detect: GraftedV10Detect}


@dataclass
class Surgery:
    """What was done to a network.

    Attributes:
        grafts: The requested grafts.
        grafted: Each graft with each of its places, graft by graft and in forward order.
        modules: The module that was built for each of `grafted`.
        replaced: For each path of the stock network the submodule that stood there and the one that stands there now.
    """

    grafts: tuple[GraftSpec, ...]
    grafted: list[tuple[GraftSpec, Place]]
    modules: list[nn.Module] = field(default_factory=list)
    replaced: dict[str, tuple[nn.Module, nn.Module]] = field(default_factory=dict)

    @property
    def places(self) -> list[Place]:
        """The places of all grafts."""
        return [place for _, place in self.grafted]

    def report(self) -> GraftReport:
        """Return the grafts and their places for a record.

        A place names its module and wiring where there are several grafts; a module adds what its `describe` returns.
        """
        several = len(self.grafts) > 1
        places = []
        for (graft, place), module in zip(self.grafted, self.modules, strict=True):
            row: Plain = {"place": str(place), "channels": place.channels, "stride": place.stride}
            row |= {"module": graft.module.target, "wiring": graft.insertion.wiring} if several else {}
            describe = getattr(module, "describe", None)
            if callable(describe):
                with calling(graft.module.target, f"at {graft.insertion.name}: describe"):
                    row |= _plain(describe())
            places.append(PlaceReport(row))
        wiring = "+".join(dict.fromkeys(graft.insertion.wiring for graft in self.grafts))
        return GraftReport(wiring=wiring, places=tuple(places))


def operate(network: DetectionModel, grafts: Sequence[GraftSpec], seed: int = 0) -> Surgery:
    """Insert grafts into a stock network, in place.

    Args:
        network: A stock Ultralytics detection network; its weights may already be loaded.
        grafts: At least one.
        seed: Seeds the new weights alone. The global random state is left as it was, so that everything that
            follows (batches, augmentation) is the same as for the baseline.

    Raises:
        GraftError: The network has no such place, a module refuses its channels, or its class cannot be found.
    """
    if grafts_of(network):
        raise GraftError("this network carries a graft already")
    pairs = [(graft, find_places(network, graft.insertion.name, graft.insertion.at)) for graft in grafts]
    surgery = Surgery(tuple(grafts), [(graft, place) for graft, places in pairs for place in places])
    seeds = _Seeds(seed)
    built = [
        [
            Graft(
                construct(graft.module, place.channels, seeds.of(place, graft), _where(graft, place, places)),
                graft.insertion.wiring,
                graft.insertion.name,
                shares_input=place.port is not None,
                target=graft.module.target,
            )
            for place in places
        ]
        for graft, places in pairs
    ]
    surgery.modules = [graft.module for news in built for graft in news]
    parents = {place.path: _parent(network, place) for place in surgery.places}  # found before their hosts get a graft
    for (graft, places), news in zip(pairs, built, strict=True):
        link = getattr(type(news[0].module), "link", None)
        if link is not None:
            with calling(graft.module.target, f"at {graft.insertion.name}: link"):
                link([new.module for new in news], network)
        if places[0].port is not None:
            _graft_inputs(surgery, parents[places[0].path], places[0].path, news)
            continue
        for place, new in zip(places, news, strict=True):
            _follow(surgery, parents[place.path], place.path, new)
    network.yaml = {**network.yaml, SPEC_KEY: write_grafts(grafts)}
    network.train(network.training)
    return surgery


def grafts_of(network: nn.Module) -> tuple[GraftSpec, ...]:
    """Return the grafts that a network carries, none for a stock one."""
    return grafts_in(getattr(network, "yaml", None))


def grafts_in(content: object) -> tuple[GraftSpec, ...]:
    """Return the grafts that a network's yaml names."""
    return read_grafts(content[SPEC_KEY]) if isinstance(content, dict) and content.get(SPEC_KEY) else ()


def stock_name(tensor: str) -> str | None:
    """Return the name that a grafted network's tensor has in the stock network, or None if a graft brought it."""
    parts = tensor.split(".")
    if "graft" in parts or "grafts" in parts:
        return None
    return ".".join(part for part in parts if part != "host")


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
        key = f"{self._seed}/{place}"
        if number := self._grafts[str(place)]:
            key += f"/{graft.module.target}/{number}"
        self._grafts[str(place)] += 1
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


def _follow(surgery: Surgery, parent: nn.Module, path: str, graft: Graft) -> None:
    """Let a graft follow what stands at a path of the stock network."""
    name = path.rpartition(".")[2]
    host = parent.get_submodule(name)
    grafted = Grafted(host, graft)
    setattr(parent, name, grafted)
    surgery.replaced[path] = (surgery.replaced.get(path, (host,))[0], grafted)


def _graft_inputs(surgery: Surgery, parent: nn.Module, path: str, grafts: Sequence[Graft]) -> None:
    """Put a graft on each input of the head, behind those that are there already."""
    head = parent.get_submodule(path.rpartition(".")[2])
    if isinstance(head, _GraftedInputs):
        head.grafts = nn.ModuleList(
            nn.Sequential(*(old if isinstance(old, nn.Sequential) else [old]), new)
            for old, new in zip(head.grafts, grafts, strict=True)
        )
        return
    if type(head) not in _GRAFTED_HEADS:
        raise GraftError(f"insertion=head: the head {type(head).__name__} is not supported; use neck_p3 to neck_p5")
    head.__class__ = _GRAFTED_HEADS[type(head)]
    head.grafts = nn.ModuleList(grafts)
    surgery.replaced[path] = (head, head)
