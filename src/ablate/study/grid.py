"""The grid of a command: factors to cells, with the baseline joined and nothing twice."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

from ablate.settings.imported_network import read_imported

_STOCK = ("loss.box=ciou", "loss.cls=bce", "loss.assigner=ciou")
_NETWORK = "model.architecture"
Cell = tuple[str, ...]  # overrides of one trial, such as ("module=hmha", "seed=0")
Axes = Mapping[str, Sequence[str]]  # for each overridden key its overrides: {"module": ["module=hmha", "module=sta"]}


def expand(axes: Axes) -> list[Cell]:
    """Return the cells of a grid, each combination of the other factors led by its baseline.

    `module=none` does not multiply over insertion points or options of modules: what only a graft has is left out of
    the baseline's cells.
    """
    return list(with_baselines(itertools.product(*axes.values()), join=compares_grafts(axes)))


def compares_grafts(axes: Axes) -> bool:
    """Tell whether a command names grafts, losses or an imported network, to be compared with a baseline without."""
    networks = [level for key, levels in axes.items() for level in levels if key_of(key) == _NETWORK]
    if any(_ancestor(level) is not None for level in networks):
        return True
    return any(key_of(key) in ("module", "grafts", "head") or _of_the_loss(key) for key in axes)


def with_baselines(combinations: Iterable[Cell], *, join: bool) -> dict[Cell, bool]:
    """Return cells, each once and each baseline before what is compared with it.

    Args:
        combinations: One override of each axis.
        join: Whether the baseline of each joins where it was not requested.

    Returns:
        Cell -> whether it is a baseline that joined by itself.
    """
    joined: dict[Cell, bool] = {}
    for combination in combinations:
        if join:
            joined.setdefault(baseline(combination), True)
        joined[_without_leftovers(combination)] = False
    groups: dict[Cell, list[Cell]] = {}
    for cell in joined:
        groups.setdefault(baseline(cell), []).append(cell)
    ordered = [cell for key, group in groups.items() for cell in sorted(group, key=lambda c: c != key)]
    return {cell: joined[cell] for cell in ordered}


def baseline(combination: Cell) -> Cell:
    """Return the cell that a combination is compared with: the same without any graft, and with the stock losses."""
    kept = _without_components(combination)
    ancestor = next((it for it in (_ancestor(item) for item in kept if key_of(item) == _NETWORK) if it), None)
    if ancestor is not None:
        stock = (f"{_NETWORK}={ancestor}", f"model.name={ancestor.removesuffix('.yaml')}")
        kept = [*(item for item in kept if key_of(item) not in (_NETWORK, "model.name")), *stock]
    return ("module=none", *kept)


def _ancestor(override: str) -> str | None:
    """Return the stock network of a network that was imported, which an override names; None for any other."""
    value = override.partition("=")[2]
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    imported = read_imported(value)
    return None if imported is None else imported[1].ancestor


def key_of(override: str) -> str:
    """Return the key of an override, such as ``module.rerank`` of ``+module.rerank=batch``."""
    return override.split("=", 1)[0].lstrip("+~").split("@")[0]


def _without_leftovers(combination: Cell) -> Cell:
    """Leave out what has no meaning because `module` is none: by itself, or for want of it beside `grafts`."""
    keys = {key_of(item) for item in combination}
    if "module=none" not in combination and ("module" in keys or not keys & {"grafts", "head"}):
        return combination
    losses = [item for item in combination if _of_the_loss(item) and item not in _STOCK]
    further = [
        item for item in combination if key_of(item) in ("grafts", "head") and item not in ("grafts=[]", "head=null")
    ]
    return ("module=none", *_without_components(combination), *further, *losses)


def _without_components(combination: Cell) -> list[str]:
    return [item for item in combination if not _of_the_graft(item) and not _of_the_loss(item)]


def _of_the_graft(override: str) -> bool:
    return key_of(override).split(".")[0] in ("module", "insertion", "grafts", "head")


def _of_the_loss(override: str) -> bool:
    return key_of(override).split(".")[0] == "loss"
