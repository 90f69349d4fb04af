"""Designs: which variants a study consists of.

| design | variants |
|---|---|
| product | every combination of the levels of all factors, and the baselines |
| one_at_a_time | the first level of every factor, and each other level alone; and the baselines |
| leave_one_out | no component, all of them, all but each one |
| add_one_in | no component, each one alone, all of them |
| factorial | every subset of the components |
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from ablate.errors import ConfigError
from ablate.records.sweep_record import Design
from ablate.settings.graft import quote
from ablate.settings.trial_settings import OF_COMMAND, CommandSettings
from ablate.storage.plain_values import Plain
from ablate.study.component_axes import Component, read_components
from ablate.study.grid import Axes, Cell, compares_grafts, key_of, with_baselines

T = TypeVar("T")
Marks = tuple[bool, ...]  # for each component whether a variant has it
LARGEST = 20_000  # trials of a command
MOST = 10  # components of a factorial design: 1024 variants


@dataclass(frozen=True)
class Layout:
    """The cells of a command.

    Attributes:
        cells: Overrides of each trial.
        joined: For each cell whether it is a baseline that joined by itself.
        design: The design's name.
        components: Names of the components, in the order given; empty without a design of components.
        marks: For each cell which components it has; empty without a design of components.
        studies: For each cell the number of the study it belongs to: within one, only components and seed vary.
    """

    cells: list[Cell]
    joined: list[bool]
    design: str = "product"
    components: list[str] = field(default_factory=list)
    marks: list[Marks] = field(default_factory=list)
    studies: list[int] = field(default_factory=list)

    def record(self, variant_keys: Sequence[str | None]) -> Design | None:
        """Return what `sweep.json` says of a design of components, or None for another design.

        Args:
            variant_keys: For each cell the key of its variant, None where it was left out.

        Raises:
            ConfigError: A component makes no difference: two subsets are the same variant.
        """
        if not self.components:
            return None
        marks: dict[str, Marks] = {}
        studies: dict[str, int] = {}
        for key, marked, study in zip(variant_keys, self.marks, self.studies, strict=True):
            if key is not None and marks.setdefault(key, marked) != marked:
                changed = [n for n, a, b in zip(self.components, marks[key], marked, strict=True) if a != b]
                raise ConfigError(f"components: '{changed[0]}' changes nothing: with it and without, it is one variant")
            if key is not None:
                studies[key] = study
        return Design(
            name=self.design,
            components=tuple(self.components),
            marks=marks,
            reference=next((key for key, marked in marks.items() if not any(marked)), None),
            studies=studies if len(set(studies.values())) > 1 else {},
        )

    def over_folds(self, folds: int) -> Layout:
        """Return the layout of the trials of all folds: each cell as often as there are folds, one after the other.

        Raises:
            ConfigError: These are too many trials.
        """
        if not folds:
            return self
        if len(self.cells) * folds > LARGEST:
            raise ConfigError(f"these are {len(self.cells) * folds} trials; a command has at most {LARGEST}")
        return replace(
            self,
            cells=_repeated(self.cells, folds),
            joined=_repeated(self.joined, folds),
            marks=_repeated(self.marks, folds),
            studies=_repeated(self.studies, folds),
        )


def _repeated(items: Sequence[T], times: int) -> list[T]:
    """Return each item so many times, one after the other."""
    return [item for item in items for _ in range(times)]


def lay_out(axes: Axes, settings: Plain) -> Layout:
    """Return the cells that a command means.

    Args:
        axes: For each overridden key its overrides, such as ``{"module": ["module=hmha", "module=acmix"]}``.
        settings: The configuration with the command's fixed overrides.

    Raises:
        ConfigError: The design does not fit what it is to combine.
    """
    command = CommandSettings.from_plain(settings)
    for key, levels in axes.items():
        if key_of(key).split(".")[0] in OF_COMMAND and len(levels) > 1:
            raise ConfigError(f"{key}: takes one value for the whole command; it is no factor")
    if command.until is not None and any(key_of(key) == "seed" and len(levels) > 1 for key, levels in axes.items()):
        raise ConfigError(
            "seed: until=decided adds the seeds by itself; seed= takes one value, the first of them, and max_seeds= "
            "says how many there are at most"
        )
    design = command.design
    if design in SUBSETS:
        if not command.components:
            raise ConfigError(f"design={design} needs components, such as components=[hmha@c3k2,acmix@head,musgd]")
        return _of_components(command, axes, settings)
    if command.components:
        raise ConfigError(f"components need a design that combines them: design={', design='.join(SUBSETS)}")
    combined = math.prod(len(levels) for levels in axes.values())
    if design == "product" and combined > LARGEST:
        raise ConfigError(f"these are {combined} trials; a command has at most {LARGEST}")
    combinations = _one_at_a_time(axes) if design == "one_at_a_time" else itertools.product(*axes.values())
    cells = with_baselines(combinations, join=command.baseline and compares_grafts(axes))
    return Layout(list(cells), list(cells.values()), design)


def _one_at_a_time(axes: Axes) -> Iterator[Cell]:
    """Return the first level of every axis, and each other level alone; each with every seed."""
    first = {key: levels[0] for key, levels in axes.items() if key != "seed"}
    of_the_graft = [
        key for key in first if key_of(key).partition(".")[0] in ("module", "insertion") and key != "module"
    ]
    idle = [key for key in of_the_graft if len(axes[key]) > 1]
    if idle and first.get("module") == "module=none":
        raise ConfigError(
            f"design=one_at_a_time would vary {idle[0]} with the first module named, which is none; name another one "
            "first: the baseline joins by itself"
        )
    variants = [first, *({**first, key: level} for key in first for level in axes[key][1:])]
    for seed in axes.get("seed", [""]):
        for variant in variants:
            yield tuple(seed if key == "seed" else variant[key] for key in axes)


def _leave_one_out(count: int) -> list[Marks]:
    everything = (True,) * count
    return [(False,) * count, everything, *(_with(everything, index, False) for index in range(count))]


def _add_one_in(count: int) -> list[Marks]:
    nothing = (False,) * count
    return [nothing, *(_with(nothing, index, True) for index in range(count)), (True,) * count]


def _factorial(count: int) -> list[Marks]:
    if count > MOST:
        raise ConfigError(
            f"design=factorial: {count} components are {2**count} variants; at most {MOST} can be combined"
        )
    return sorted(
        itertools.product((False, True), repeat=count), key=lambda marks: (sum(marks), [not m for m in marks])
    )


SUBSETS: Mapping[str, Callable[[int], list[Marks]]] = {
    "leave_one_out": _leave_one_out,
    "add_one_in": _add_one_in,
    "factorial": _factorial,
}


def _with(marks: Marks, index: int, there: bool) -> Marks:
    return (*marks[:index], there, *marks[index + 1 :])


def _of_components(command: CommandSettings, axes: Axes, settings: Plain) -> Layout:
    """Return every subset that a design asks for, for each combination of the other axes."""
    for key, levels in axes.items():
        if key_of(key) in ("module", "grafts", "insertion", "head") and len(levels) > 1:
            raise ConfigError(f"{key} is swept together with components: name every module as a component, or none")
    design = command.design
    components = read_components([str(word) for word in command.components], axes, settings)
    subsets = list(dict.fromkeys(SUBSETS[design](len(components))))
    if not command.baseline and design != "factorial":
        subsets = [marks for marks in subsets if any(marks)]
    grafts = [str(graft) for graft in settings.get("grafts") or []]  # in every variant
    others = {key: levels for key, levels in axes.items() if key_of(key) != "grafts"}
    layout = Layout([], [], design, [component.name for component in components])
    studies: dict[Cell, int] = {}
    for combination in itertools.product(*others.values()):
        study = studies.setdefault(tuple(item for item in combination if key_of(item) != "seed"), len(studies))
        for marks in subsets:
            layout.cells.append(_cell(combination, components, marks, grafts))
            layout.marks.append(marks)
            layout.studies.append(study)
            layout.joined.append(False)
    return layout


def _cell(combination: Cell, components: Sequence[Component], marks: Marks, grafts: Sequence[str]) -> Cell:
    """Return the overrides of the variant that has the marked components on top of a combination."""
    present = [component for component, marked in zip(components, marks, strict=True) if marked]
    absent = [component for component, marked in zip(components, marks, strict=True) if not marked]
    overrides = {key_of(item): item for item in combination}
    overrides |= {component.key: component.off for component in absent if component.off}
    overrides |= {component.key: component.on for component in present if component.on}
    grafts = [*grafts, *(component.graft for component in present if component.graft)]
    return (*overrides.values(), *([f"grafts={quote(grafts)}"] if grafts else []))
