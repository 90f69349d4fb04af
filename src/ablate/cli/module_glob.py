"""What a glob of modules or losses means: those that match, fit the command's insertion points and are in its families.

`*` stands for no slash, as in a shell: `module=glob(*)` are the modules of conf/module, `glob(timm/*)` those of the
folder timm; `loss.box=glob(*)` are all losses of boxes. Controls are never matched.
"""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from ablate.errors import ConfigError, named
from ablate.settings.about import FAMILIES, KINDS, About, selected
from ablate.settings.graft import module_names
from ablate.settings.losses import PARTS, loss_family, loss_names
from ablate.settings.option_files import about_module
from ablate.settings.points import HEAD_POINT, point_of
from ablate.settings.schema import CONTROL_MODULES, options

GLOBBED = ("module", "head", *(f"loss.{part}" for part in PARTS))
CONTROL = "control"
SELECTORS = {"family": FAMILIES, "kind": KINDS}  # words of a command that say which of the matched modules are meant


def expand_glob(words: Sequence[str]) -> list[str]:
    """Return the words of a command with names in place of `module=glob(...)`, and without family= and kind=.

    The same for `head`, `loss.box`, `loss.cls` and `loss.assigner`.

    Raises:
        ConfigError: A family or kind does not exist or selects from no glob, or no module is left.
    """
    chosen = {key: _last(words, key) for key in SELECTORS}
    globs = {word: pattern for word in words if (pattern := _glob(word)) is not None}
    for key, values in chosen.items():
        if values and not any(word.partition("=")[0] in ("module", "head") for word in globs):
            word = f"{key}={','.join(values)}"
            raise ConfigError(f"{word}: it selects from what a glob of modules matches: 'module=glob(*)' {word}")
    meant = {word: _meant(word, pattern, words, chosen) for word, pattern in globs.items()}
    return [meant.get(word, word) for word in words if word.partition("=")[0] not in SELECTORS]


def _meant(word: str, pattern: Any, words: Sequence[str], chosen: dict[str, list[str]]) -> str:
    """Return a word with names in place of its glob."""
    key = word.partition("=")[0]
    part = key.partition(".")[2]
    if part:
        about = {name: loss_family(name, part) for name in loss_names(part)}
        names = [name for name in _matched(word, pattern, list(about)) if about[name] != CONTROL]
    elif key == "head":
        names = _fitting(word, pattern, [HEAD_POINT], chosen)
    else:
        names = _fitting(word, pattern, _points(words), chosen)
    if not names:
        raise ConfigError(f"{word}: only controls match, which are named by themselves")
    return f"{key}=choice({','.join(names)})"


def matches(name: str, pattern: str) -> bool:
    """Tell whether the name of a module matches a pattern, in which `*` stands for no slash."""
    return name.count("/") == pattern.count("/") and fnmatchcase(name, pattern)


def _last(words: Sequence[str], key: str) -> list[str]:
    """Return the values that a command gives a selector last; empty where it does not give it."""
    values = [selected(word, SELECTORS[key]) for word in words if word.partition("=")[0] == key]
    return values[-1] if values else []


def _glob(word: str) -> Any:
    """Return the pattern of a word such as `module=glob(...)`; None for any other word."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Glob
    from hydra.errors import HydraException

    if word.partition("=")[0] not in GLOBBED or "glob" not in word:
        return None
    try:
        value = OverridesParser.create().parse_override(word).value()
    except (HydraException, RecursionError):
        return None  # said later, with all else that cannot be read
    return value if isinstance(value, Glob) else None


def _points(words: Sequence[str]) -> list[str]:
    """Return the insertion points that a command names; empty where each module goes to its default one."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import ChoiceSweep, Glob
    from hydra.errors import HydraException

    names: list[str] = []
    for word in words:
        if not word.startswith("insertion="):
            continue
        try:
            value = OverridesParser.create().parse_override(word).value()
        except (HydraException, RecursionError):
            continue
        if isinstance(value, Glob):
            names += value.filter(options("insertion"))
        else:
            names += map(str, value.list if isinstance(value, ChoiceSweep) else [value])
    return names


def _matched(word: str, pattern: Any, valid: Sequence[str]) -> list[str]:
    """Return the names that match a pattern, in their order."""
    matched = [
        name
        for name in valid
        if any(matches(name, each) for each in pattern.include)
        and not any(matches(name, each) for each in pattern.exclude)
    ]
    if not matched:
        raise ConfigError(f"{word}: it matches no option; valid: {named(valid)}")
    return matched


def _fitting(word: str, pattern: Any, points: Sequence[str], chosen: dict[str, list[str]]) -> list[str]:
    """Return the modules that match, fit every point and are of the families and kinds that were selected."""
    about = {name: about_module(name) for name in _matched(word, pattern, module_names())}
    left = [name for name in about if _is_meant(name, about[name], points, chosen)]
    if not left:
        families = ", ".join(sorted({each.family for each in about.values() if each.family}))
        at = f" insertion={','.join(points)}" if points and not word.startswith("head=") else ""
        limits = "".join(f" {key}={','.join(values)}" for key, values in chosen.items() if values)
        raise ConfigError(f"{word}{at}{limits}: no module that matches fits; those that match are of: {families}")
    return left


def _is_meant(name: str, about: About, points: Sequence[str], chosen: dict[str, list[str]]) -> bool:
    if name in CONTROL_MODULES or about.family == CONTROL:
        return False
    if chosen["family"] and about.family not in chosen["family"]:
        return False
    if chosen["kind"] and not set(about.kinds) & set(chosen["kind"]):
        return False
    fitting = [point for name in points if (point := point_of(name)) is not None]
    return all(point.takes(about.kinds) for point in fitting)
