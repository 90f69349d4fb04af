"""Compose many cells quickly: Hydra composes each option of a group once, and cells are put together from the parts.

Hydra takes about 70 ms to compose a configuration, whatever the size of the grid. Three ways lead to the same result,
and a cell takes the first that it may:

1. From parts. An option whose file fills its own section only, such as `optimizer=sgd`, has the same section in every
   cell; a plain value, such as `seed=3` or `optimizer.lr0=0.02`, only replaces a leaf. Both come from a configuration
   that Hydra composed, so types and unknown keys are judged by its rules, once for each option and value.
2. Hydra composes the cell's options together, and values are laid over that by the same rules. For configurations in
   which one value refers to another (`${...}`), or keys that are nested in each other.
3. Hydra composes the cell. For whatever else there is, and for everything that is wrong: the errors are its own.

An option whose file reaches further (`# @package _global_`, its own `defaults`), such as `train=demo`, is not a part:
parts are made for each combination of such options.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ablate.cli.hydra_internals import get_node, parent_of, set_node
from ablate.settings.schema import option_path, options
from ablate.storage.plain_values import Plain, plain_copy

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

Cell = Sequence[str]


@dataclass(frozen=True)
class _Cell:
    """A cell, taken apart.

    Attributes:
        context: Overrides that may reach into any section.
        options: By group, the override that chooses an option which fills its own section only.
        values: Overrides of leaves, by key.
    """

    context: Cell
    options: dict[str, str]
    values: dict[str, str]

    def choices(self, *groups: str) -> Cell:
        """Return the context with the options of these groups."""
        return (*self.context, *(self.options[group] for group in groups if group in self.options))


class Composer:
    """Compose the cells of one grid.

    Args:
        load: Composes a cell through Hydra.
        complete: Finishes plain values in place, each by itself: paths made absolute.
        cells: The cells that are to be composed.
    """

    def __init__(
        self, load: Callable[[Cell], DictConfig], complete: Callable[[Plain], None], cells: Sequence[Cell]
    ) -> None:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        self._load = load
        self._complete = complete
        self._parser = OverridesParser.create()
        self._is_value = cache(_is_value)
        self._options = self._worth_sharing(cells)
        self._parsed: dict[str, Override] = {}
        self._bases: dict[Cell, DictConfig | None] = {}
        self._contents: dict[Cell, Plain | None] = {}
        self._leaves: dict[tuple[Cell, str], Any] = {}

    def __call__(self, cell: Cell) -> Plain:
        """Return the plain configuration of a cell, none of whose parts is shared with another.

        Raises:
            HydraException, OmegaConfBaseException: It cannot be composed; the error is Hydra's own.
        """
        parts = self._take_apart(cell)
        content = None if parts is None else self._put_together(parts)
        if content is None:
            content = self._laid_over_choices(cell)
        if content is None:
            content = contents(self._load(cell))
        self._complete(content)
        return content

    def _worth_sharing(self, cells: Sequence[Cell]) -> Set[str]:
        """Return the options to make parts of: where they combine so often that it spares Hydra work."""
        everywhere = set(cells[0]).intersection(*cells[1:]) if cells else set()
        alone = cache(_fills_its_own_section)
        chosen = [
            frozenset(item for item in cell if item not in everywhere and not self._is_value(item) and alone(item))
            for cell in cells
        ]
        options: frozenset[str] = frozenset().union(*chosen)
        return options if len(set(chosen)) > len(options) + 1 else frozenset()

    def _take_apart(self, cell: Cell) -> _Cell | None:
        """Return a cell's parts; None where they would depend on each other."""
        context, chosen, values = [], {}, {}
        for item in cell:
            key = item.partition("=")[0]
            if key in chosen or key in values or "${" in item:
                return None
            if self._is_value(item):
                values[key] = item
            elif item in self._options:
                chosen[key] = item
            else:
                context.append(item)
        if any(f"{key}.".startswith(f"{other}.") for key in values for other in values if key != other):
            return None
        return _Cell(tuple(context), chosen, values)

    def _put_together(self, cell: _Cell) -> Plain | None:
        """Return what a cell's parts give; None where they do not tell."""
        common = self._content(cell.choices())
        if common is None:
            return None
        content: Plain = plain_copy(common)
        for group in cell.options:
            section = self._section(cell.choices(), cell.choices(group), group)
            if section is None:
                return None
            content[group] = plain_copy(section)
        for key, item in cell.values.items():
            *path, leaf = key.split(".")
            try:
                value = self._leaf(cell.choices(*path[:1]), item)
            except (_errors(), TypeError):
                return None  # Hydra says better what is wrong
            node = content
            for part in path:
                node = node[part]
            node[leaf] = plain_copy(value)
        return None if _is_missing(content) else content

    def _content(self, choices: Cell) -> Plain | None:
        """Return what Hydra composes of choices alone; None where it cannot, or where a value refers to another."""
        if choices not in self._contents:
            base = self._base(choices)
            content = None if base is None else contents(base, resolve=False)
            self._contents[choices] = None if content is None or _refers(content) else content
        return self._contents[choices]

    def _section(self, context: Cell, choices: Cell, group: str) -> Any:
        """Return the section that an option fills; None where it turns out to change anything else."""
        before, after = self._content(context), self._content(choices)
        if before is None or after is None:
            return None
        if any(after.get(name) != before.get(name) for name in {*before, *after} - {group}):
            return None
        return after.get(group)

    def _leaf(self, choices: Cell, item: str) -> Any:
        """Return a leaf's plain value after an override.

        Raises:
            OmegaConfBaseException, TypeError: There is no such leaf, or the value is of another type.
        """
        if (choices, item) not in self._leaves:
            from omegaconf import OmegaConf

            base = self._base(choices)
            if base is None:
                raise TypeError(f"{item}: nothing to lay it over")
            with self._laid_over(base, [item]):
                parent, leaf = parent_of(base, self._override(item).key_or_group)
                node = parent[leaf]
                self._leaves[choices, item] = OmegaConf.to_container(node) if OmegaConf.is_config(node) else node
        return self._leaves[choices, item]

    def _laid_over_choices(self, cell: Cell) -> Plain | None:
        """Return a cell whose values are laid over its choices; None where that is not possible."""
        values = [item for item in cell if self._is_value(item)]
        base = self._base(tuple(item for item in cell if item not in values))
        if base is None:
            return None
        try:
            with self._laid_over(base, values):
                return contents(base)
        except (_errors(), TypeError):
            return None  # Hydra says better what is wrong

    def _base(self, choices: Cell) -> DictConfig | None:
        """Compose choices alone; None where that is not possible without the values."""
        from hydra.errors import HydraException

        if choices not in self._bases:
            try:
                self._bases[choices] = self._load(choices)
            except (HydraException, _errors()):
                self._bases[choices] = None
        return self._bases[choices]

    @contextmanager
    def _laid_over(self, base: DictConfig, values: Cell) -> Iterator[None]:
        """Replace leaves of `base` while the block runs."""
        from omegaconf import OmegaConf

        overrides = [self._override(value) for value in values]
        before = []  # leaves, and where they stand; copying whole groups would take longer than all the rest
        try:
            for override in overrides:
                parent, leaf = parent_of(base, override.key_or_group)
                before.append((parent, leaf, deepcopy(get_node(parent, leaf))))
                OmegaConf.update(base, override.key_or_group, override.value(), merge=True)
            yield
        finally:
            for parent, leaf, node in reversed(before):
                if node is not None:
                    set_node(parent, leaf, node)

    def _override(self, item: str) -> Override:
        if item not in self._parsed:
            self._parsed[item] = self._parser.parse_override(item)
        return self._parsed[item]


def contents(config: DictConfig, *, resolve: bool = True) -> Plain:
    """Return a composed configuration as plain values, without Hydra's own part.

    Args:
        config: The configuration.
        resolve: Replace what refers to another value; else leave it, and what is missing, as it is written.

    Raises:
        OmegaConfBaseException: A value is missing, or what it refers to is.
    """
    from omegaconf import OmegaConf

    return {
        str(name): OmegaConf.to_container(node, resolve=resolve, throw_on_missing=resolve)
        if OmegaConf.is_config(node)
        else node
        for name, node in config.items_ex(resolve=resolve)
        if name != "hydra"
    }


def _refers(value: Any) -> bool:
    """Tell whether a value, or one in it, refers to another."""
    if isinstance(value, dict):
        return any(map(_refers, value.values()))
    if isinstance(value, list):
        return any(map(_refers, value))
    return isinstance(value, str) and "${" in value


def _is_missing(value: Any) -> bool:
    """Tell whether a mandatory value is missing."""
    if isinstance(value, dict):
        return any(map(_is_missing, value.values()))
    return isinstance(value, str) and value == "???"


def _errors() -> type[Exception]:
    from omegaconf.errors import OmegaConfBaseException

    error: type[Exception] = OmegaConfBaseException
    return error


def _fills_its_own_section(item: str) -> bool:
    """Tell whether an override chooses an option of ours or of the user's whose file fills its group's section only."""
    group, _, option = item.partition("=")
    if item[:1] in "+~" or "@" in group or "/" in group:
        return False
    path = option_path(group, option)
    if path is None:
        return False
    text = path.read_text(encoding="utf-8")
    return not any(word in text for word in ("@package", "defaults", "${"))


def _is_value(item: str) -> bool:
    """Tell whether an override replaces a leaf, and neither chooses a group's option nor adds or deletes a key."""
    key = item.partition("=")[0]
    return item[:1] not in "+~" and "@" not in key and "/" not in key and ("." in key or not options(key))
