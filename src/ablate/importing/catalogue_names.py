"""Which module of the catalogue does what a class of another collection does, by their names."""

from __future__ import annotations

import re
from functools import cache

from ablate.errors import ConfigError
from ablate.settings.graft import ModuleSpec, module_names
from ablate.settings.points import POINTS
from ablate.settings.schema import CONTROL_MODULES, option_file

_FILLING = re.compile(r"attention|attn|module|block|concat|layer|upsample|(?<=.)att$|\d+$")


def catalogue_name(name: str, point: str | None) -> str | None:
    """Return the module of the catalogue whose name a class has; None where there is none, or none that fits.

    Args:
        name: Of the class in a network file, such as ``EMA_attention`` or ``BiFPN_Concat2``.
        point: The insertion point that it is at, or ``insert`` where it is inserted.
    """
    for candidate in _catalogue().get(_core(name), ()):
        kinds = _kinds(candidate)
        if point == "insert" and (kinds is None or "insert" in kinds):
            return candidate
        if point in POINTS and POINTS[point].takes(kinds):
            return candidate
    return None


@cache
def _catalogue() -> dict[str, list[str]]:
    """Return the modules of the catalogue by the core of their names, and of the names of their classes."""
    names: dict[str, list[str]] = {}
    for name in module_names():
        if name in CONTROL_MODULES:
            continue
        content = option_file("module", name)
        titles = (name.rpartition("/")[2], str(content.get("_target_", "")).rpartition(".")[2])
        for core in dict.fromkeys(_core(title) for title in titles):
            if core:
                names.setdefault(core, []).append(name)
    return names


def _kinds(name: str) -> tuple[str, ...] | None:
    try:
        return ModuleSpec.from_plain(option_file("module", name)).kinds
    except ConfigError:
        return None


def _core(name: str) -> str:
    """Return what tells a name, in small letters: without what collections add to it."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    core = _FILLING.sub("", letters)
    return core or letters
