"""Components: the parts of a proposal whose share in its success a study is to tell apart.

A component is a graft (`hmha@c3k2`), an option of a group (`musgd`, for `optimizer=musgd`) or any override
(`train.mosaic=1.0`). With it a variant has that; without it, what the command or the defaults say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ablate.errors import ConfigError, nearest
from ablate.settings.graft import GraftSpec, is_graft, module_names, plain_value
from ablate.settings.schema import conf_dir, options
from ablate.settings.trial_settings import OF_COMMAND
from ablate.study.grid import Axes, key_of

GROUPS = ("optimizer", "model", "train", "data")  # whose options are components by their names alone


@dataclass(frozen=True)
class Component:
    """One component of a study.

    Attributes:
        name: As the user wrote it.
        graft: The graft that it is, or None.
        key: What it sets otherwise, such as ``optimizer`` or ``train.mosaic``.
        on: The override of a variant that has it; empty for a graft.
        off: The override of a variant that does not; empty where the default stands.
    """

    name: str
    graft: str | None = None
    key: str = ""
    on: str = ""
    off: str = ""


def read_components(words: Sequence[str], axes: Axes, settings: Mapping[str, Any]) -> list[Component]:
    """Return the components that a command names.

    Args:
        words: As the user wrote them.
        axes: The command's overrides by key.
        settings: The configuration of a variant without any component, plain values.

    Raises:
        ConfigError: One means nothing, is said twice, contradicts another or the command, or has no opposite.
    """
    found: list[Component] = []
    meanings: dict[str, str] = {}
    for word in words:
        graft = is_graft(word)
        component = Component(word, graft=word) if graft else _override(word, axes, settings)
        meaning = repr(GraftSpec.from_text(word, "components")) if graft else component.on
        if meaning in meanings:
            raise ConfigError(f"components: '{meanings[meaning]}' and '{word}' are the same")
        rival = next((other.name for other in found if component.key and other.key == component.key), None)
        if rival is not None:
            raise ConfigError(f"components: '{rival}' and '{word}' both set {component.key}: no variant can have both")
        meanings[meaning] = word
        found.append(component)
    return found


def _override(word: str, axes: Axes, settings: Mapping[str, Any]) -> Component:
    """Return the component that sets a key; `word` is an override, or the name of an option alone."""
    key, sign, value = word.partition("=")
    if not sign:
        key, value = _group_of(word), word
    if key.split(".")[0] in ("module", "insertion", "grafts"):
        raise ConfigError(f"components: '{word}': a graft is named by its module, such as hmha[rerank=batch]@c3k2")
    if key.split(".")[0] in OF_COMMAND or key == "seed":
        raise ConfigError(f"components: '{word}': {key} is no part of a variant")
    given = next((list(levels) for name, levels in axes.items() if key_of(name) == key), [])
    if len(given) > 1:
        raise ConfigError(f"components: '{word}' sets {key}, which is swept as well ({','.join(given)})")
    on = f"{key}={value}"
    _check_grammar(on, word)
    base = given[0].partition("=")[2] if given else _base(key, settings, word)
    if not _same(base, value):
        return Component(word, key=key, on=on, off=given[0] if given else "")
    if key == "optimizer" and not given and value != "sgd":
        return Component(word, key=key, on=on, off="optimizer=sgd")
    other = ("musgd" if value == "sgd" else "sgd") if key == "optimizer" else "<another>"
    raise ConfigError(
        f"components: without '{word}' a variant has {key}={base} all the same; say what it has instead: {key}={other}"
    )


def _group_of(word: str) -> str:
    """Return the group that has an option of this name."""
    found = [group for group in GROUPS if word in options(group)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f"components: '{word}' is an option of {' and of '.join(found)}; write {found[0]}={word}")
    valid = [*module_names(), *(name for group in GROUPS for name in options(group))]
    raise ConfigError(
        f"components: '{word}' is unknown. {nearest(word.split('@')[0].split('[')[0], valid)}A component is a graft "
        f"(hmha@c3k2), an option of {', '.join(GROUPS)} (musgd), or an override (train.mosaic=1.0)"
    )


def _check_grammar(override: str, word: str) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        sweeps = OverridesParser.create().parse_override(override).is_sweep_override()
    except HydraException as error:
        raise ConfigError(f"components: '{word}' is no override: {str(error).splitlines()[0]}") from error
    if sweeps:
        raise ConfigError(f"components: '{word}' has several values; a component is there or it is not")


def _base(key: str, settings: Mapping[str, Any], word: str) -> Any:
    """Return what a key has by default: the option of a group, or a value."""
    if "." not in key and options(key):
        content = yaml.safe_load((conf_dir() / "config.yaml").read_text(encoding="utf-8"))
        chosen: dict[str, Any] = {}
        for entry in content["defaults"]:
            chosen |= entry if isinstance(entry, dict) else {}
        return chosen.get(key)
    node: Any = settings
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, Mapping) or part not in node:
            valid = list(node) if isinstance(node, Mapping) else []
            where = ".".join(parts[:depth])
            raise ConfigError(
                f"components: '{word}': no such key{f' in {where}' if where else ''}. "
                f"{nearest(part, valid)}see all fields with --cfg job".rstrip()
            )
        node = node[part]
    return node


def _same(base: Any, value: str) -> bool:
    told = plain_value(base) if isinstance(base, str) else base
    wanted = plain_value(value.strip("'\""))
    if isinstance(told, bool) or isinstance(wanted, bool):
        return told is wanted
    return bool(told == wanted)
