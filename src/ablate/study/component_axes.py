"""Components: the parts of a proposal whose effects a study separates.

A component is a module at a point (`hmha@c3k2`, `adown@down`, `dyhead@detect`), a loss (`wiou@box`), an option of a
group (`musgd`, for `optimizer=musgd`) or any override (`train.mosaic=1.0`). A variant without it has the value of the
command, or else the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml

from ablate.errors import ConfigError, nearest
from ablate.settings.graft import GraftSpec, is_graft, module_names, plain_value, quote
from ablate.settings.losses import PARTS, LossSettings, LossSpec, loss_names, split_component
from ablate.settings.point_checks import check_kind, check_points
from ablate.settings.points import HEAD_POINT
from ablate.settings.schema import conf_dir, options
from ablate.settings.trial_settings import OF_COMMAND
from ablate.storage.plain_values import Plain
from ablate.study.grid import Axes, key_of

GROUPS = ("optimizer", "model", "train", "data")  # whose options are components by their names alone


@dataclass(frozen=True)
class Component:
    """One component of a study.

    Attributes:
        name: As the user wrote it.
        graft: The module at a point, or None for another component.
        key: The key that another component sets, such as ``optimizer`` or ``train.mosaic``.
        on: The override of a variant that has the component; empty for a graft.
        off: The override of a variant that does not; empty where the default holds.
    """

    name: str
    graft: str | None = None
    key: str = ""
    on: str = ""
    off: str = ""


def read_components(words: Sequence[str], axes: Axes, settings: Plain) -> list[Component]:
    """Return the components that a command names.

    Args:
        words: As the user wrote them.
        axes: The command's overrides by key.
        settings: The configuration of a variant without any component.

    Raises:
        ConfigError: One is invalid or given twice, contradicts another one or the command, or has no opposite.
    """
    components: list[Component] = []
    meanings: dict[str, str] = {}
    grafts: list[GraftSpec] = []
    for word in words:
        component = _read(word, axes, settings)
        meaning = component.on
        if component.graft is not None:
            graft = GraftSpec.from_text(component.graft, "components")
            meaning = repr(graft)
            grafts.append(graft)
        if meaning in meanings:
            raise ConfigError(f"components: '{meanings[meaning]}' and '{word}' are the same")
        rival = next((other.name for other in components if component.key and other.key == component.key), None)
        if rival is not None:
            raise ConfigError(f"components: '{rival}' and '{word}' both set {component.key}: no variant can have both")
        meanings[meaning] = word
        components.append(component)
    _check_together(grafts)
    return components


def _read(word: str, axes: Axes, settings: Plain) -> Component:
    """Return the component of a word by itself."""
    if (loss := split_component(word)) is not None:
        return _loss(word, *loss, axes, settings)
    key, sign, value = word.partition("=")
    if key == "head" and sign:
        return Component(word, graft=f"{value}@{HEAD_POINT}")
    if sign and key.partition(".")[0] == "loss" and key.partition(".")[2] in PARTS:
        return _loss(word, value, key.partition(".")[2], axes, settings)
    return Component(word, graft=word) if is_graft(word) else _override(word, axes, settings)


def _loss(word: str, text: str, part: str, axes: Axes, settings: Plain) -> Component:
    """Return the component that is a loss, such as ``wiou[delta=3]@box``."""
    name, where = text.partition("[")[0].strip(), f"components: '{word}'"
    if name in module_names() and name not in loss_names(part):
        raise ConfigError(f"{where}: {name} is a module, and {part} takes a loss: {', '.join(loss_names(part))}")
    spec, key = LossSpec.from_text(text, part, where), f"loss.{part}"
    levels = next((list(levels) for axis, levels in axes.items() if key_of(axis) == key), [])
    if len(levels) > 1:
        raise ConfigError(f"{where} sets {key}, which is swept as well ({','.join(levels)})")
    of_command = LossSettings.from_plain(settings.get("loss", {})).parts.get(part)
    if spec == of_command or (of_command is None and part not in LossSettings.from_plain({part: text}).parts):
        raise ConfigError(f"{where}: without it a variant has {key}={text} all the same")
    return Component(
        word, key=key, on=f"{key}={quote([text])[1:-1] if '[' in text else text}", off=levels[0] if levels else ""
    )


def _check_together(grafts: Sequence[GraftSpec]) -> None:
    """Check the variant that has all components: whatever the design, it is one of them or holds every other one."""
    try:
        for graft in grafts:
            check_kind(graft)
        check_points(grafts)
    except ConfigError as error:
        raise ConfigError(f"components: {error}") from error


def _override(word: str, axes: Axes, settings: Plain) -> Component:
    """Return the component that sets a key; `word` is an override, or the name of an option alone."""
    key, sign, value = word.partition("=")
    if not sign:
        key, value = _group_of(word), word
    if key.split(".")[0] in ("module", "insertion", "grafts", "loss"):
        raise ConfigError(
            f"components: '{word}': a module is named with its point, such as hmha[rerank=batch]@c3k2; a loss wiou@box"
        )
    if key.split(".")[0] in OF_COMMAND or key == "seed":
        raise ConfigError(f"components: '{word}': {key} is no part of a variant")
    levels = next((list(levels) for name, levels in axes.items() if key_of(name) == key), [])
    if len(levels) > 1:
        raise ConfigError(f"components: '{word}' sets {key}, which is swept as well ({','.join(levels)})")
    on = f"{key}={value}"
    _check_grammar(on, word)
    base = levels[0].partition("=")[2] if levels else _base(key, settings, word)
    if not _same(base, value):
        return Component(word, key=key, on=on, off=levels[0] if levels else "")
    if key == "optimizer" and not levels and value != "sgd":
        return Component(word, key=key, on=on, off="optimizer=sgd")
    other = ("musgd" if value == "sgd" else "sgd") if key == "optimizer" else "<another>"
    raise ConfigError(
        f"components: without '{word}' a variant has {key}={base} all the same; say what it has instead: {key}={other}"
    )


def _group_of(word: str) -> str:
    """Return the group that has an option of this name."""
    groups = [group for group in GROUPS if word in options(group)]
    if len(groups) == 1:
        return groups[0]
    if groups:
        raise ConfigError(f"components: '{word}' is an option of {' and of '.join(groups)}; write {groups[0]}={word}")
    name, losses = word.split("@")[0].split("[")[0], {part: loss_names(part) for part in PARTS}
    part = next((part for part, names in losses.items() if name in names), None)
    if part is not None:
        raise ConfigError(f"components: '{word}': {name} is a loss; as a component it is {name}@{part}")
    valid = [*module_names(), *(name for group in GROUPS for name in options(group)), *losses["box"], *losses["cls"]]
    raise ConfigError(
        f"components: '{word}' is unknown. {nearest(name, valid)}A component is a module at a point (hmha@c3k2), "
        f"a loss (wiou@box), an option of {', '.join(GROUPS)} (musgd), or an override (train.mosaic=1.0)"
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


def _base(key: str, settings: Plain, word: str) -> object:
    """Return what a key has by default: the option of a group, or a value."""
    if "." not in key and options(key):
        content = yaml.safe_load((conf_dir() / "config.yaml").read_text(encoding="utf-8"))
        entries = [entry for entry in content["defaults"] if isinstance(entry, dict)]
        return next((entry[key] for entry in reversed(entries) if key in entry), None)
    node: object = settings
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


def _same(base: object, text: str) -> bool:
    default = plain_value(base) if isinstance(base, str) else base
    value = plain_value(text.strip("'\""))
    if isinstance(default, bool) or isinstance(value, bool):
        return default is value
    return bool(default == value)
