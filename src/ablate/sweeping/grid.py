"""The grid of a command: factors to cells, with the baseline joined and nothing twice."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

Cell = tuple[str, ...]  # overrides of one trial, such as ("module=hmha", "seed=0")


def expand(axes: Mapping[str, Sequence[str]]) -> list[Cell]:
    """Return the cells of a grid, each combination of the other factors led by its baseline.

    Args:
        axes: For each overridden key its overrides, such as ``{"module": ["module=hmha", "module=acmix"]}``.

    `module=none` does not multiply over insertion points or options of modules: what only a graft has is left out of
    the baseline's cells.
    """
    cells: dict[Cell, None] = {}
    for combination in itertools.product(*axes.values()):
        if "module" in axes:
            cells.setdefault(_baseline(combination))
        cells.setdefault(_baseline(combination) if "module=none" in combination else combination)
    return _baselines_first(list(cells))


def _baseline(combination: Cell) -> Cell:
    return ("module=none", *(item for item in combination if not _of_the_graft(item)))


def _of_the_graft(override: str) -> bool:
    key = override.split("=", 1)[0].lstrip("+~")
    return key.split(".")[0].split("@")[0] in ("module", "insertion")


def _baselines_first(cells: list[Cell]) -> list[Cell]:
    """Put each baseline before the first cell that it is compared with; keep the order otherwise."""
    groups: dict[Cell, list[Cell]] = {}
    for cell in cells:
        groups.setdefault(_baseline(cell), []).append(cell)
    return [cell for key, group in groups.items() for cell in sorted(group, key=lambda c: c != key)]
