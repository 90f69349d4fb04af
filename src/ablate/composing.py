"""Compose many cells quickly: through Hydra once for each distinct choice of groups, values laid over it after that.

Hydra takes about 70 ms to compose a configuration, whatever the size of the grid. What makes that long is choosing and
merging group files; a plain value such as `seed=3` or `optimizer.lr0=0.02` only replaces a leaf, and leaves can be
replaced here by the same rules (types, unknown keys). Whatever is not so plain goes through Hydra itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Any

from ablate.config import options

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

Cell = Sequence[str]


class Composer:
    """Compose the cells of one grid.

    Args:
        load: Composes a cell through Hydra.
        plain: Turns a composed configuration into plain values.
    """

    def __init__(self, load: Callable[[Cell], DictConfig], plain: Callable[[DictConfig], dict[str, Any]]) -> None:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        self._load = load
        self._plain = plain
        self._parser = OverridesParser.create()
        self._parsed: dict[str, Override] = {}
        self._bases: dict[Cell, DictConfig | None] = {}

    def __call__(self, cell: Cell) -> dict[str, Any]:
        """Return the plain configuration of a cell.

        Raises:
            HydraException, OmegaConfBaseException: It cannot be composed; the error is Hydra's own.
        """
        from omegaconf.errors import OmegaConfBaseException

        values = [item for item in cell if _is_value(item)]
        choices = tuple(item for item in cell if item not in values)
        if choices not in self._bases:
            self._bases[choices] = self._base(choices)
        base = self._bases[choices]
        if base is not None:
            try:
                with self._laid_over(base, values):
                    return self._plain(base)
            except (OmegaConfBaseException, TypeError):
                pass  # Hydra says better what is wrong
        return self._plain(self._load(cell))

    def _base(self, choices: Cell) -> DictConfig | None:
        """Compose the groups alone; None where that is not possible without the values."""
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        try:
            return self._load(choices)
        except (HydraException, OmegaConfBaseException):
            return None

    @contextmanager
    def _laid_over(self, base: DictConfig, values: Cell) -> Iterator[None]:
        """Replace leaves of `base` while the block runs."""
        from omegaconf import OmegaConf

        overrides = [self._override(value) for value in values]
        before = []  # leaves, and where they stand; copying whole groups would take longer than all the rest
        try:
            for override in overrides:
                parent, leaf = self._home(base, override.key_or_group)
                before.append((parent, leaf, deepcopy(parent._get_node(leaf))))
                OmegaConf.update(base, override.key_or_group, override.value(), merge=True)
            yield
        finally:
            for parent, leaf, node in reversed(before):
                if node is not None:
                    parent._set_item_impl(leaf, node)

    def _home(self, base: DictConfig, key: str) -> tuple[DictConfig, str]:
        """Return the mapping that a key's leaf stands in, and the leaf's name.

        Raises:
            TypeError: There is no such mapping.
        """
        *path, leaf = key.split(".")
        node: Any = base
        for part in path:
            node = node._get_node(part) if isinstance(node, type(base)) else None
        if not isinstance(node, type(base)):
            raise TypeError(f"{key}: no mapping holds it")
        return node, leaf

    def _override(self, item: str) -> Override:
        if item not in self._parsed:
            self._parsed[item] = self._parser.parse_override(item)
        return self._parsed[item]


def _is_value(item: str) -> bool:
    """Tell whether an override replaces a leaf, and neither chooses a group's option nor adds or deletes a key."""
    key = item.partition("=")[0]
    return item[:1] not in "+~" and "@" not in key and "/" not in key and ("." in key or not options(key))
