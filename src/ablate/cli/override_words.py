"""Check the words of a command before Hydra composes anything from them.

Hydra takes `+key=value` for a key that nothing reads, drops a key with `~`, merges the options of `module=[a,b]` into
one, and reads another configuration instead of ours with `--config-name`. None of that means anything here.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ablate.cli.flags import part
from ablate.cli.unreadable import FORMS, explain_unreadable
from ablate.errors import ConfigError, named, nearest
from ablate.settings.option_files import GROUPS, check_option_file, flag_keys, known_keys, unknown_key
from ablate.settings.schema import options

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_FACTORS = ("module", "insertion", "optimizer", "model")  # of which several are a sweep, never the last one alone
_MOST = 1000  # overrides of a command; each takes Hydra a millisecond
_LONGEST_NAME = 200  # bytes; the name of a file has at most 255
_LONGEST = 10_000  # values of one range


def check_words(words: Sequence[str]) -> list[str]:
    """Check overrides and flags of a command; return them with the flags first, as Hydra's parser needs them.

    Raises:
        ConfigError: With one line that says what is wrong and what is valid.
    """
    flags, texts = part(words)
    if len(texts) > _MOST:
        raise ConfigError(f"{len(texts)} overrides; a command has at most {_MOST}")
    overrides = [_parsed(text) for text in texts]
    overrides = [override for override in overrides if not _is_of_hydra(override)]
    for override in overrides:
        _check_range(override)
        _check_override(override, override.key_or_group)
    _check_repeated(overrides)
    chosen = [name for override in overrides if override.key_or_group == "module" for name in _chosen(override)]
    option = next((override for override in overrides if override.key_or_group.startswith("module.")), None)
    if option is not None and set(map(str, chosen)) <= {"none"}:
        raise ConfigError(f"{option.input_line}: the module is none, which has no options; choose one: module=<name>")
    return [*flags, *texts]


def _parsed(text: str) -> Override:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(text)
    except (HydraException, RecursionError) as error:
        raise ConfigError(explain_unreadable(text, error)) from error
    if not override.key_or_group:
        raise ConfigError(f"'{text}': no key stands before =; the forms are {FORMS}")
    return override


def _is_of_hydra(override: Override) -> bool:
    """Tell whether an override is for Hydra itself, and refuse those under which it would not run our sweeps."""
    key, word = override.key_or_group, override.input_line
    if not re.match(r"hydra(?:[./]|$)", key):
        return False
    if re.match(r"hydra[./](?:sweeper|mode)(?:\.|$)", key) and word != "hydra/sweeper=ablate":
        raise ConfigError(f"{word}: refused; a sweep is expanded and run by ablate's own sweeper")
    if override.is_delete() or (override.value() is None and key.count(".") < 2):
        raise ConfigError(f"{word}: refused; a part of Hydra's own configuration cannot be deleted")
    if "/" in key and (override.is_add() or override.is_force_add()):
        raise ConfigError(f"{word}: it is there already; write {key}=...")
    if override.is_add() and not re.match(r"hydra\.(?:launcher|job)\.", key):
        raise ConfigError(f"{word}: no such key of Hydra; see all with --cfg hydra")
    if override.is_sweep_override():
        raise ConfigError(f"{word}: takes one value for the whole command; it is no factor")
    if key == "hydra.launcher._target_":
        raise ConfigError(f"{word}: refused; a launcher is chosen by its name: hydra/launcher=local, ray or slurm")
    if key == "hydra.searchpath":
        _check_search_path(override)
    if "/" in key and not isinstance(override.value(), str):
        raise ConfigError(f"{word}: the name of one option is needed, such as hydra/launcher=local")
    return True


def _check_search_path(override: Override) -> None:
    """Check that each folder is there in which Hydra is to look for options."""
    value = override.value()
    for entry in value if isinstance(value, list) else [value]:
        path = str(entry).removeprefix("file://")
        if "://" not in path and not Path(path).is_dir():
            raise ConfigError(f"hydra.searchpath: {path}: no such folder")


def _check_override(override: Override, key: str) -> None:
    group, _, leaf = key.rpartition(".")
    word = override.input_line or key
    if override.package is not None:
        raise ConfigError(f"{word}: an option has one place only; write {key}=...")
    if override.is_delete():
        instead = "module=none" if key == "module" else f"{key}=<value>"
        raise ConfigError(f"{word}: a key cannot be deleted; write {instead}")
    if key == "loss":
        raise ConfigError(f"{word}: say which one: loss.box=wiou, loss.cls=focal, loss.assigner=siou (docs/losses.md)")
    is_group = key in GROUPS
    if "/" in key:
        raise ConfigError(f"{word}: no such group. {nearest(key, GROUPS)}valid: {', '.join(GROUPS)}")
    if is_group:
        _check_choice(override, key, word)
    elif key in flag_keys():
        _check_flag(override, word)
    elif _has_glob(override.value()):
        raise ConfigError(
            f"{word}: glob lists the options of a group, and {key} is none; list its values: {key}=a,b -m"
        )
    if override.is_add() or override.is_force_add():
        valid = [*known_keys("")] if not group else known_keys(group)
        if valid and leaf not in valid and group != "data":
            raise unknown_key(leaf, f"{group}." if group else "", group, valid)
        if is_group or (override.is_add() and leaf in valid):
            raise ConfigError(f"{word}: it is there already; write {key}=...")


def _check_flag(override: Override, word: str) -> None:
    """Check that what is true or false is no number, which OmegaConf takes for one of the two."""
    value = override.value()
    for each in getattr(value, "list", [value]):
        if not isinstance(each, bool) and isinstance(each, int | float):
            raise ConfigError(f"{word}: true or false is needed")


def _has_glob(value: Any) -> bool:
    """Tell whether a value is a glob, or one of those in it."""
    from hydra.core.override_parser.types import Glob

    if isinstance(value, dict):
        return any(map(_has_glob, value.values()))
    return any(map(_has_glob, value)) if isinstance(value, list) else isinstance(value, Glob)


def _check_range(override: Override) -> None:
    """Check that a range holds a value, and ends."""
    from hydra.core.override_parser.types import RangeSweep

    value = override.value()
    if not isinstance(value, RangeSweep):
        return
    numbers = [number for number in (value.start, value.stop, value.step) if number is not None]
    if not all(map(math.isfinite, numbers)):
        raise ConfigError(f"{override.input_line}: a range needs finite numbers; range(0,3) is 0, 1 and 2")
    if value.step == 0 or next(iter(value.range()), None) is None:
        raise ConfigError(f"{override.input_line}: this range holds no value; range(0,3) is 0, 1 and 2")
    if next(itertools.islice(value.range(), _LONGEST, None), None) is not None:
        raise ConfigError(f"{override.input_line}: this range holds more than {_LONGEST} values")


def _check_repeated(overrides: Sequence[Override]) -> None:
    """Check that no factor is chosen twice: Hydra would take the last choice without a word."""
    before: dict[str, str] = {}
    for override in overrides:
        key, word = override.key_or_group, str(override.input_line)
        if key in _FACTORS and before.setdefault(key, word) != word:
            raise ConfigError(f"{before[key]} {word}: {key} is chosen twice; a sweep over several is {key}=a,b -m")


def _check_choice(override: Override, group: str, word: str) -> None:
    """Check the option that a group is to have, or each of several in a sweep, and the user's files of them."""
    valid = options(group)
    names = _chosen(override)
    if not names:
        raise ConfigError(f"{word}: it matches no option; valid: {named(valid)}")
    for name in names:
        if isinstance(name, list) or (isinstance(name, str) and name.startswith("[")):
            several = "; several modules in one network are grafts=[hmha@c3k2,acmix@head]" if group == "module" else ""
            raise ConfigError(f"{word}: one option is needed; a sweep is {group}={','.join(valid[:2])} -m{several}")
        if isinstance(name, dict):
            raise ConfigError(f"{word}: the name of an option is needed; single values are {group}.<key>=<value>")
        if name is None or str(name).strip() in ("", "???"):
            raise ConfigError(f"{word}: it names no option; valid: {named(valid)}")
        if not isinstance(name, str):
            if str(name) in valid:
                raise ConfigError(
                    f"{word}: the file's name is read as a value; one that begins with a letter is needed"
                )
            raise ConfigError(f"{word}: no such option. valid: {named(valid)}")
        if len(name.encode()) > _LONGEST_NAME:
            raise ConfigError(f"{word}: no such option. valid: {named(valid)}")
        if name.endswith((".yaml", ".yml")):  # Hydra would take off the suffix, after we looked for another file
            raise ConfigError(f"{word}: the option is named without its suffix: {group}={Path(name).stem}")
        if "${" not in name:
            check_option_file(group, name)


def _chosen(override: Override) -> list[Any]:
    """Return the options that an override of a group names, as they are written."""
    from hydra.core.override_parser.types import ChoiceSweep, Glob, QuotedString

    value = override.value()
    if isinstance(value, Glob):
        return list(value.filter(options(override.key_or_group)))
    if not override.is_sweep_override():
        return [value]
    if not isinstance(value, ChoiceSweep):
        return [0]  # a range: numbers name no option
    return [item.text if isinstance(item, QuotedString) else item for item in value.list]
