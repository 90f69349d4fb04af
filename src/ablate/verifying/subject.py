"""A module under examination, as one of the kinds that it can be: how it is built, what it gets, what it returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ablate.grafting.construction import Supply, construct, load_class
from ablate.grafting.contract import ContractError, check_output
from ablate.settings.graft import ModuleSpec
from ablate.sources.parameters import from_callable

CHANNELS = (32, 64, 128, 256)  # the first that the constructor takes is checked
LEVELS = 3  # maps of a head, each half as large as the one before

Maps = list[Tensor]
Shape = tuple[int, ...]


class Concat(nn.Module):
    """What a fusion replaces."""

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Join maps along their channels."""
        return torch.cat(list(maps), 1)


@dataclass(frozen=True)
class Subject:
    """A module that is checked as one kind.

    Attributes:
        spec: Its class and options.
        channels: Of the maps that it is checked with; of a fusion and a head, of the first of several.
        kind: Of `ablate.settings.about.KINDS`.
        widens: Whether a block returns twice as many channels as it receives.
    """

    spec: ModuleSpec
    channels: int = CHANNELS[0]
    kind: str = "insert"
    widens: bool = False

    @property
    def is_head(self) -> bool:
        """Whether it takes the place of Detect, or is made from it: only a whole network can check it."""
        from ultralytics.nn.modules.head import Detect

        built = load_class(self.spec.target)
        made_from_it = any(parameter.name == "replaced" for parameter in from_callable(built).named)
        return made_from_it or (isinstance(built, type) and issubclass(built, Detect))

    @property
    def inputs(self) -> list[int]:
        """Return the channels of the maps that it receives."""
        if self.kind == "fuse":
            return [self.channels, 2 * self.channels]
        return [self.channels * 2**level for level in range(LEVELS)] if self.kind == "head" else [self.channels]

    @property
    def outputs(self) -> list[int]:
        """Return the channels of the maps that it returns."""
        if self.kind in ("insert", "upsample", "head"):
            return self.inputs
        wide = {"fuse": sum(self.inputs), "block": self.channels * (1 + self.widens)}
        return [wide.get(self.kind, 2 * self.channels)]

    def build(self) -> nn.Module:
        """Return a new module, the same each time; no parameter is left at zero or one, where faults hide."""
        module = construct(self.spec, self._supply(), 0, "alone")
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(1)
            for parameter in module.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
        return module

    def maps(self, batch: int, height: int, width: int, seed: int = 1) -> Maps:
        """Return random maps (batch, channels, height, width); those of a head become smaller from level to level."""
        generator = torch.Generator().manual_seed(seed)
        sizes = [(height, width)]
        for _ in self.inputs[1:]:
            sizes.append(_half(*sizes[-1]) if self.kind == "head" else sizes[-1])
        return [
            torch.randn(batch, channels, *size, generator=generator)
            for channels, size in zip(self.inputs, sizes, strict=True)
        ]

    def run(self, module: nn.Module, maps: Maps) -> Maps:
        """Return what a module makes of maps.

        Raises:
            ContractError: A head does not return a list.
        """
        output = module(list(maps)) if self.kind in ("fuse", "head") else module(maps[0])
        if self.kind != "head":
            return [output]
        if not isinstance(output, list | tuple):
            raise ContractError(f"returned a {type(output).__name__} for {len(maps)} maps; a list of maps is needed")
        return list(output)

    def check(self, outputs: Maps, maps: Maps) -> None:
        """Hold outputs to the contract.

        Raises:
            ContractError: One is not a finite tensor of the shape that is needed, or there are more or fewer.
        """
        shapes = self._shapes(maps)
        if len(outputs) != len(shapes):
            raise ContractError(f"returned {len(outputs)} maps for {len(shapes)}")
        for output, shape, like in zip(outputs, shapes, maps, strict=False):
            check_output(output, shape, like)

    def _shapes(self, maps: Maps) -> list[Shape]:
        batch, _, height, width = maps[0].shape
        sizes = {"downsample": _half(height, width), "upsample": (2 * height, 2 * width)}
        if self.kind == "head":
            return [tuple(each.shape) for each in maps]
        return [(batch, channels, *sizes.get(self.kind, (height, width))) for channels in self.outputs]

    def _supply(self) -> int | Supply:
        if self.kind == "insert":
            return self.channels
        if self.kind == "head":
            return Supply(self.inputs, None, {})
        channels = self.inputs if self.kind == "fuse" else self.channels
        return Supply(channels, self.outputs[0], {**_FACTS[self.kind], "replaced": self._replaced()})

    def _replaced(self) -> nn.Module:
        """Return a layer that the module could replace."""
        if self.kind == "fuse":
            return Concat()
        if self.kind == "upsample":
            return nn.Upsample(scale_factor=2)
        return nn.Conv2d(self.channels, self.outputs[0], 3, 2 if self.kind == "downsample" else 1, 1)


# What a layer of a kind tells its replacement, as `ablate.grafting.replacement_points.facts_of` reads it.
_FACTS: dict[str, dict[str, object]] = {
    "block": {
        **{"stride": 1, "s": 1, "kernel_size": 3, "k": 3},
        **{"repeats": 1, "n": 1, "shortcut": True},
    },
    "downsample": {"stride": 2, "s": 2, "kernel_size": 3, "k": 3},
    "upsample": {"stride": 1, "s": 1},
    "fuse": {"stride": 1, "s": 1},
}


def _half(height: int, width: int) -> tuple[int, int]:
    return -(-height // 2), -(-width // 2)
