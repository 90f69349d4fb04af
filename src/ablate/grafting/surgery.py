"""Surgery: put a module into a built network, and tell what was done.

The stock network stays as it is: no layer moves, no index shifts, every tensor keeps its value and, behind the name of
its host, its name. What was grafted is written into the network's own `yaml`, so that a checkpoint of it can be
rebuilt, resumed and sent to other processes with nothing but `ablate` importable.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect, v10Detect

from ablate.grafting.insertion import GraftError, Place, find_places

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

SPEC_KEY = "ablate"  # where the spec stands in a network's yaml


class Graft(nn.Module):
    """A module and the way it joins the map that it receives.

    Args:
        module: Maps (B, C, H, W) to (B, C, H, W).
        wiring: ``plain`` y = m(x); ``residual`` y = x + m(x); ``rezero`` y = x + a m(x) with a scalar a that is
            learnt from 0, so that the network starts as the stock one (Bachlechner et al., 2021).
    """

    def __init__(self, module: nn.Module, wiring: str = "plain") -> None:
        super().__init__()
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
    """A host of the stock network followed by a graft; stands where the host stood."""

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
        wiring: How the grafts join the network.
        replaced: For each place the submodule that stood there and the one that stands there now.
        places: The places, in forward order.
    """

    wiring: str = "plain"
    places: list[Place] = field(default_factory=list)
    replaced: dict[str, tuple[nn.Module, nn.Module]] = field(default_factory=dict)

    def summary(self) -> dict[str, Any]:
        """Return what was done as plain values, for a record."""
        return {
            "wiring": self.wiring,
            "places": [
                {"place": str(place), "channels": place.channels, "stride": place.stride} for place in self.places
            ],
        }


def operate(network: DetectionModel, spec: Mapping[str, Any], seed: int = 0) -> Surgery:
    """Graft what `spec` says into a stock network, in place.

    Args:
        network: A stock Ultralytics detection network; its weights may already be loaded.
        spec: ``{"module": {"_target_": path, "<option>": value, ...}, "insertion": {"name", "at", "wiring"}}``.
        seed: Seeds the new weights alone. The global random state is left as it was, so that everything that
            follows (batches, augmentation) is the same as for the baseline.

    Raises:
        GraftError: The network has no such place, the module refuses its channels, or its class cannot be found.
    """
    if spec_of(network) is not None:
        raise GraftError("this network carries a graft already")
    insertion = spec["insertion"]
    places = find_places(network, insertion["name"], insertion.get("at"))
    surgery = Surgery(wiring=insertion.get("wiring", "plain"), places=places)
    grafts = [Graft(_build(spec["module"], place, seed), surgery.wiring) for place in places]
    link = getattr(type(grafts[0].module), "link", None)
    if link is not None:
        link([graft.module for graft in grafts], network)
    if places[0].port is not None:
        surgery.replaced[places[0].path] = _graft_inputs(network, places[0].path, grafts)
    else:
        for place, graft in zip(places, grafts, strict=True):
            surgery.replaced[place.path] = _follow(network, place.path, graft)
    network.yaml = {**network.yaml, SPEC_KEY: {"module": dict(spec["module"]), "insertion": dict(insertion)}}
    network.train(network.training)
    return surgery


def graft_spec(module: Mapping[str, Any], insertion: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the spec of a resolved configuration's module and insertion, or None for the baseline."""
    if module.get("_target_") is None:
        return None
    kept = {name: value for name, value in module.items() if name not in ("name", "insertion")}
    return {"module": kept, "insertion": dict(insertion)}


def spec_of(network: nn.Module) -> dict[str, Any] | None:
    """Return the spec that a network carries, or None for a stock one."""
    content = getattr(network, "yaml", None)
    return content.get(SPEC_KEY) if isinstance(content, dict) else None


def stock_name(tensor: str) -> str | None:
    """Return the name that a grafted network's tensor has in the stock network, or None if a graft brought it."""
    parts = tensor.split(".")
    if "graft" in parts or "grafts" in parts:
        return None
    return ".".join(part for part in parts if part != "host")


def load_class(target: str) -> type[nn.Module]:
    """Return the class at a dotted path.

    Raises:
        GraftError: There is no such module or class.
    """
    home, _, name = target.rpartition(".")
    try:
        found = getattr(import_module(home), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise GraftError(f"module._target_: '{target}' cannot be imported: {error}") from error
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise GraftError(f"module._target_: '{target}' is not a torch.nn.Module class")
    return found


def _build(module: Mapping[str, Any], place: Place, seed: int) -> nn.Module:
    """Build the module for one place with weights that depend on the seed and the place alone."""
    options = {name: value for name, value in module.items() if name != "_target_"}
    own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{place}".encode()).digest()[:4], "big")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(own_seed)
        try:
            return load_class(module["_target_"])(place.channels, **options)
        except (ValueError, TypeError) as error:
            if isinstance(error, GraftError):
                raise
            raise GraftError(f"{place} ({place.channels} channels): {error}") from error


def _follow(network: DetectionModel, path: str, graft: Graft) -> tuple[nn.Module, nn.Module]:
    parent, _, name = path.rpartition(".")
    host = network.get_submodule(path)
    grafted = Grafted(host, graft)
    setattr(network.get_submodule(parent), name, grafted)
    return host, grafted


def _graft_inputs(network: DetectionModel, path: str, grafts: list[Graft]) -> tuple[nn.Module, nn.Module]:
    head = network.get_submodule(path)
    if type(head) not in _GRAFTED_HEADS:
        raise GraftError(f"insertion=head: the head {type(head).__name__} is not supported; use neck_p3 to neck_p5")
    head.__class__ = _GRAFTED_HEADS[type(head)]
    head.grafts = nn.ModuleList(grafts)
    return head, head
