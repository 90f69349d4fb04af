"""Check the words of a command before Hydra composes anything from them.

Hydra takes `+key=value` for a key that nothing reads, drops a key with `~`, merges the options of `module=[a,b]` into
one, and reads another configuration instead of ours with `--config-name`. None of that means anything here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from ablate.cli.hydra_internals import flag_parser
from ablate.errors import ConfigError, nearest
from ablate.settings.option_files import GROUPS, check_option_file, known_keys, unknown_key
from ablate.settings.schema import options

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

_FORMS = "key=value, key=a,b -m, key=range(0,3) -m, key=[a,b]"
_FACTORS = ("module", "insertion", "optimizer", "model")  # of which several are a sweep, never the last one alone
_OWN_TREE = ("config_path", "config_name", "config_dir", "experimental_rerun")


def check_words(words: Sequence[str]) -> list[str]:
    """Check overrides and flags of a command; return them with the flags first, as Hydra's parser needs them.

    Raises:
        ConfigError: With one line that says what is wrong and what is valid.
    """
    texts = _overrides_among(words)
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
    remaining = list(texts)
    flags = []
    for word in words:
        if word in remaining:
            remaining.remove(word)
        else:
            flags.append(word)
    return [*flags, *texts]


def _overrides_among(words: Sequence[str]) -> list[str]:
    """Return the words that are no flags."""
    parser = flag_parser()
    parser.error = _refuse_flag  # type: ignore[method-assign]
    namespace = parser.parse_intermixed_args([word for word in words if word not in ("--version", "--help", "-h")])
    for name in _OWN_TREE:
        if getattr(namespace, name, None) is not None:
            raise ConfigError(
                f"--{name.replace('_', '-')}={getattr(namespace, name)}: ablate reads its own configuration; "
                "options of yours go into conf/<group>/<option>.yaml of the working folder"
            )
    return list(namespace.overrides)


def _parsed(text: str) -> Override:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        raise ConfigError(_unreadable(text)) from error
    if not override.key_or_group:
        raise ConfigError(f"'{text}' is no override; the forms are {_FORMS}")
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
    if override.is_add() and not re.match(r"hydra\.(?:launcher|job)\.", key):
        raise ConfigError(f"{word}: no such key of Hydra; see all with --cfg hydra")
    return True


def _refuse_flag(message: str) -> NoReturn:
    raise ConfigError(f"{message.replace('unrecognized arguments', 'no such flag')}; see --hydra-help")


def _unreadable(word: str) -> str:
    if "=" not in word:
        return f"'{word}' is no override; the forms are {_FORMS}; no space may stand beside ="
    key, _, value = word.partition("=")
    hints = [
        (value.endswith(",") or value.startswith(",") or ",," in value, "a value is missing beside a comma"),
        (any(value.count(a) != value.count(b) for a, b in ("()", "[]", "{}")), "a bracket is not closed"),
        (value.count("'") % 2 == 1 or value.count('"') % 2 == 1, "a quote is not closed"),
        (not re.fullmatch(r"[+~]{0,2}[\w./@:-]+", key), f"'{key}' is no key"),
    ]
    reason = next((reason for applies, reason in hints if applies), "quote values with special characters")
    return f"{word}: it cannot be read: {reason}; the forms are {_FORMS}"


def _check_override(override: Override, key: str) -> None:
    group, _, leaf = key.rpartition(".")
    word = override.input_line or key
    if override.package is not None:
        raise ConfigError(f"{word}: an option has one place only; write {key}=...")
    if override.is_delete():
        instead = "module=none" if key == "module" else f"{key}=<value>"
        raise ConfigError(f"{word}: a key cannot be deleted; write {instead}")
    is_group = key in GROUPS
    if "/" in key:
        raise ConfigError(f"{word}: no such group. {nearest(key, GROUPS)}valid: {', '.join(GROUPS)}")
    if is_group:
        _check_choice(override, key, word)
    if override.is_add() or override.is_force_add():
        valid = [*known_keys("")] if not group else known_keys(group)
        if valid and leaf not in valid and group != "data":
            raise unknown_key(leaf, f"{group}." if group else "", group, valid)
        if is_group or (override.is_add() and leaf in valid):
            raise ConfigError(f"{word}: it is there already; write {key}=...")


def _check_range(override: Override) -> None:
    """Check that a range holds a value, and ends."""
    from hydra.core.override_parser.types import RangeSweep

    value = override.value()
    if not isinstance(value, RangeSweep):
        return
    if value.step == 0 or next(iter(value.range()), None) is None:
        raise ConfigError(f"{override.input_line}: this range holds no value; range(0,3) is 0, 1 and 2")


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
        raise ConfigError(f"{word}: it matches no option; valid: {', '.join(valid)}")
    for name in names:
        if isinstance(name, list) or (isinstance(name, str) and name.startswith("[")):
            several = "; several modules in one network are grafts=[hmha@c3k2,acmix@head]" if group == "module" else ""
            raise ConfigError(f"{word}: one option is needed; a sweep is {group}={','.join(valid[:2])} -m{several}")
        if isinstance(name, dict):
            raise ConfigError(f"{word}: the name of an option is needed; single values are {group}.<key>=<value>")
        if name is None or not str(name).strip():
            raise ConfigError(f"{word}: it names no option; valid: {', '.join(valid)}")
        if not isinstance(name, str):
            if str(name) in valid:
                raise ConfigError(
                    f"{word}: the file's name is read as a value; one that begins with a letter is needed"
                )
            raise ConfigError(f"{word}: no such option. valid: {', '.join(valid)}")
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
