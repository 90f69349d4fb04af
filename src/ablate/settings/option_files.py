"""Check the user's own option files, `./conf/<group>/<option>.yaml`.

Hydra lays a file over the defaults, so that a key which is missing or misspelt would leave the default in its place
silently: a module file without `_target_` would train the baseline.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path

from ablate.errors import ConfigError, nearest
from ablate.settings.about import About
from ablate.settings.schema import (
    Config,
    InsertionConfig,
    LatencySettings,
    LossConfig,
    ModelSettings,
    OptimizerSettings,
    TrackingSettings,
    conf_dir,
    option_file,
    training_arguments,
)
from ablate.settings.training_arguments import OWNED
from ablate.storage.plain_values import Plain
from ablate.storage.yaml_files import YamlFileError, read_mapping

SCHEMAS: dict[str, type] = {
    "": Config,
    "insertion": InsertionConfig,
    "optimizer": OptimizerSettings,
    "model": ModelSettings,
    "loss": LossConfig,
    "tracking": TrackingSettings,
    "latency": LatencySettings,
}
GROUPS = ("module", "insertion", "optimizer", "data", "model", "train", "tracking")
RESERVED = (
    "name",
    "_target_",
    "insertion",
    "about",
    "defaults",
)  # keys of a module's file that its class does not take
DATA_KEYS = ("name", "path", "url", "download")
_NEEDS = "a module file needs name, _target_ (package.module.Class) and insertion"
_SIMILAR = 0.75  # from this likeness on a key is a misspelt one, not one of its own


def check_option_file(group: str, name: str) -> None:
    """Check the user's own file of an option; nothing where the option is one of ours or there is no such file.

    Raises:
        ConfigError: It is no YAML mapping, lacks what it needs, has keys that mean nothing, or is never read because
            an option of ours has its name.
    """
    path = Path.cwd() / "conf" / group / f"{name}.yaml"
    ours = conf_dir() / group / f"{name}.yaml"
    title = f"conf/{group}/{name}.yaml"
    if not path.is_file() and (path.exists() or path.is_symlink()):
        raise ConfigError(f"{title} is {_kind(path)}, where a file is needed")
    if not path.is_file() or path.resolve() == ours.resolve():
        return
    try:
        content = read_mapping(path, title)
    except YamlFileError as error:
        raise ConfigError(str(error)) from error
    if ours.is_file():
        if content != read_mapping(ours):
            raise ConfigError(f"{title} is never read: ablate has an option {group}={name}; give the file another name")
        return
    if not content and group != "train":
        needs = _NEEDS if group == "module" else f"valid keys: {', '.join(known_keys(group))}"
        raise ConfigError(f"{title} is empty; {needs}")
    package = _package(path, group)
    if group == "module":
        if package != group:
            raise ConfigError(f"{title}: # @package {package}: a module file sets the keys of its module only")
        _check_module_file(content, name, title)
    elif package == group:
        _check_section(content, group, title)
    elif package == "_global_":
        _check_global(content, title)


def _kind(path: Path) -> str:
    if path.is_dir():
        return "a folder"
    return "no regular file" if path.exists() else "a link to nothing"


def module_file(name: str) -> Plain:
    """Return what the file of a module holds: the one reading of it for grafts, components, controls and `verify`.

    What Hydra reads of it for `module=<name>` is the same: a file that refers to other files or values is refused.

    Raises:
        ConfigError: It is not what a module needs (see `check_option_file`).
    """
    check_option_file("module", name)
    content = option_file("module", name)
    content.pop("defaults", None)
    return content


def about_module(name: str) -> About:
    """Return what the file of a module says about it.

    Raises:
        ConfigError: It is no YAML mapping, or what it says about the module is not valid.
    """
    return About.from_plain(option_file("module", name).get("about"), f"conf/module/{name}.yaml: about")


def check_plain(options: Mapping[str, object], where: str) -> None:
    """Check that no option of a module asks for an object to be made, as Hydra's `instantiate` would.

    Raises:
        ConfigError: One has a key such as `_target_` or `_partial_`.
    """
    for key, _ in _leaves(options):
        asked = next((part for part in key.split(".") if re.fullmatch(r"_\w+_", part)), None)
        if asked is not None and key != "_target_":
            instead = "make it in a function: _target_: my_blocks.make"
            raise ConfigError(f"{where}{key}: an option is a plain value, and no object is made from it; {instead}")


def _leaves(value: object, key: str = "") -> Iterator[tuple[str, object]]:
    """Yield the values in mappings and lists with their dotted keys."""
    if isinstance(value, Mapping) and value:
        for name, item in value.items():
            yield from _leaves(item, f"{key}.{name}" if key else str(name))
    elif isinstance(value, list) and value:
        for item in value:
            yield from _leaves(item, key)
    elif value not in ({}, []):
        yield key, value


def known_keys(group: str, name: str | None = None) -> list[str]:
    """Return the keys that a group may have; empty for `module`, whose class says.

    Args:
        group: A group, or empty for the configuration itself.
        name: The `name` of a data set, whose file of ours has further keys.
    """
    if group == "train":
        return list(training_arguments())
    if group == "data":
        return list(dict.fromkeys([*DATA_KEYS, *fields_of_data(name)]))
    return [entry.name for entry in fields(SCHEMAS[group])] if group in SCHEMAS else []


@cache
def flag_keys() -> frozenset[str]:
    """Return the keys whose value is true or false, but those of `train`."""
    keys = ((group, entry) for group, schema in SCHEMAS.items() for entry in fields(schema))
    return frozenset(f"{group}.{entry.name}".lstrip(".") for group, entry in keys if entry.type == "bool")


def fields_of_data(name: str | None) -> Plain:
    """Return the keys of a data set of ours with their defaults; empty for one of the user's."""
    ours = (conf_dir() / "data" / f"{name}.yaml").is_file()
    return option_file("data", str(name)) if ours else {}


def unknown_key(key: str, where: str, group: str, valid: list[str]) -> ConfigError:
    """Return the error about a key that a group does not have; `where` leads the message."""
    if group == "train" and key in OWNED:
        return ConfigError(f"{where}{key}: set it with {OWNED[key]}")
    if group == "train":
        return ConfigError(f"{where}{key}: not an Ultralytics training argument. {nearest(key, valid)}".rstrip())
    home = "" if group else _home_of(key)
    guess = f"did you mean '{home}.{key}'? " if home else nearest(key, valid)
    return ConfigError(f"{where}{key}: no such key. {guess}valid: {', '.join(valid)}")


def _home_of(key: str) -> str:
    """Return the group that has a key of this name, of those that are often left out; empty for none."""
    if key in training_arguments():
        return "train"
    return "optimizer" if key in {entry.name for entry in fields(OptimizerSettings)} else ""


def misspelt_reserved(key: str) -> str | None:
    """Return the reserved key of a module's file that another key looks like, or None."""
    if key in RESERVED:
        return None
    ratios = {name: SequenceMatcher(None, key.strip("_"), name.strip("_")).ratio() for name in RESERVED}
    best = max(ratios, key=lambda name: ratios[name])
    return best if ratios[best] >= _SIMILAR else None


def _check_module_file(content: Plain, name: str, title: str) -> None:
    if content.get("defaults", ["_self_"]) != ["_self_"]:
        raise ConfigError(f"{title}: defaults: a module file is read by itself; write the keys of the others into it")
    for key, value in _leaves({name: value for name, value in content.items() if name != "defaults"}):
        if isinstance(value, str) and "${" in value:
            instead = f"write the value, or give it on the command line: module.{key}=<value>"
            raise ConfigError(f"{title}: {key}: {value}: a module file is read by itself; {instead}")
        if value == "???":
            raise ConfigError(f"{title}: {key} is missing: a module file gives every option a value")
        if not isinstance(value, str | int | float | bool | None):
            raise ConfigError(f"{title}: {key}: {value!r} is no text, number, truth value, list or mapping")
    target, own_name = content.get("_target_"), content.get("name")
    missing = [key for key in ("_target_", "name") if content.get(key) is None]
    for key in missing:
        if key in content:
            raise ConfigError(f"{title}: {key} has no value; {_NEEDS}")
        close = next((other for other in content if misspelt_reserved(other) == key), None)
        guess = f" (is '{close}' meant to be it?)" if close else ""
        raise ConfigError(f"{title}: {key} is missing{guess}; {_NEEDS}")
    if not isinstance(target, str):
        raise ConfigError(f"{title}: _target_: {target!r} is no dotted path; {_NEEDS}")
    if not isinstance(own_name, str):
        raise ConfigError(f"{title}: name: {own_name} is no text; file and name must begin with a letter")
    if own_name != name:
        raise ConfigError(f"{title}: name: {own_name}: it must be that of the file: name: {name}")
    About.from_plain(content.get("about"), f"{title}: about")
    close = next((other for other in content if misspelt_reserved(other)), None)
    if "insertion" not in content and close is not None and misspelt_reserved(close) == "insertion":
        raise ConfigError(f"{title}: {close}: no such key. did you mean 'insertion'? {_NEEDS}")


def _check_section(content: Plain, group: str, title: str) -> None:
    name = content.get("name")
    valid = known_keys(group, str(name))
    for key in content:
        if key not in (*valid, "defaults"):
            raise unknown_key(key, f"{title}: ", group, valid)
    places = sorted(path.stem for path in (conf_dir() / "insertion").glob("*.yaml"))
    if group == "insertion" and content.get("at") is None and name not in places and "defaults" not in content:
        raise ConfigError(
            f"{title}: it names no place in a network: layers by their index, such as at: [4, 6], or name: with one of "
            f"{', '.join(places)}"
        )


def _check_global(content: Plain, title: str) -> None:
    """Check a file that sets keys of several groups (`# @package _global_`)."""
    valid = known_keys("")
    for key, value in content.items():
        if key in ("defaults", "hydra"):
            continue
        if key not in valid:
            raise unknown_key(key, f"{title}: ", "", valid)
        inner = known_keys(key) if key in (*GROUPS, "loss", "latency") else []
        for name in value if isinstance(value, Mapping) and inner and key != "data" else []:
            if name not in inner:
                raise unknown_key(name, f"{title}: {key}.", key, inner)


def _package(path: Path, group: str) -> str:
    """Return where Hydra puts a file's content: its group, or what its first lines say."""
    for line in path.read_text(encoding="utf-8-sig").splitlines():
        directive = re.fullmatch(r"\s*#\s*@package\s+(\S+)\s*", line)
        if directive:
            return group if directive[1] in (group, "_group_") else directive[1]
        if line.strip() and not line.lstrip().startswith("#"):
            break
    return group
