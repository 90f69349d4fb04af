"""Messages of one line about invalid input: for errors of Hydra and OmegaConf, and our own.

Hydra's errors have no fields for the key and the reason; their English text is parsed here, and nowhere else.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from contextlib import suppress

from ablate.errors import ConfigError, named, nearest
from ablate.redaction import without_secrets
from ablate.safe_text import escaped
from ablate.settings.option_files import GROUPS, SCHEMAS, known_keys
from ablate.settings.schema import option_file, options
from ablate.settings.training_arguments import OWNED


def fail(message: str) -> int:
    """Print to stderr what is wrong with the input; return the exit code for it."""
    with suppress(OSError):  # standard error may be full or closed
        print(f"ablate: {escaped(without_secrets(message))}", file=sys.stderr)  # noqa: T201
    return 2


def explain(error: Exception, arguments: Sequence[str] = ()) -> str:
    """Return one line about what is wrong with the input: an error of Hydra, of OmegaConf or our own."""
    from hydra.errors import MissingConfigException
    from omegaconf.errors import MissingMandatoryValue

    text = str(error)
    if isinstance(error, ConfigError):
        return text
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and "/" in error.missing_cfg_file:
        group, name = _group_and_name(error.missing_cfg_file)
        valid = sorted({*options(group), "local", "ray"}) if group == "hydra/launcher" else options(group)
        if group == "optimizer" and name == "auto":
            return f"optimizer=auto: refused, because it picks its own learning rate; valid: {', '.join(valid)}"
        if name.startswith("submitit_"):
            return f"{group}: hydra-submitit-launcher is not installed; pip install 'ablate-yolo[slurm]'"
        if group == "module" and (part := _part_of_loss(name)) is not None:
            return f"module={name}: {name} is a loss: loss.{part}={name}, and as a component {name}@{part}"
        listing = f"{nearest(name, valid)}valid: {named(valid)}" if valid else "see --info"
        return f"{group}={name}: no such option. {listing}"
    if isinstance(error, MissingMandatoryValue):
        return f"{getattr(error, 'full_key', None) or 'a key'}=???: a value is needed"
    if text.startswith(("Ambiguous value for argument", "Sweep parameters ")):
        word = text.split(chr(39))[1]
        word = word.partition("=")[0] if "=choice(" in word else word  # in place of a glob, of many names
        return f"{word}: several values are a sweep: add -m (or --multirun)"
    if there := re.match(r"Could not append to config\. An item is already at '(.+?)'", text):
        return f"+{there[1]}: it is there already; write {there[1]}=..."
    key = _unknown_key(text)
    if key is not None:
        return _explain_key(key, arguments)
    full_key = getattr(error, "full_key", None)
    if (reference := _explain_reference(text)) is not None:
        return f"{full_key}: {reference}" if full_key else reference
    line = _first_line(text)
    if "While dereferencing interpolation" in line and (kind := needed_kind(line)) is not None:
        return f"{full_key}: {kind}, and that is not what {line.split(chr(39))[1]} stands for"
    composed = re.match(r"(In '[^']+'): \w+ raised while composing config:\s*(\S.*)", text)
    if composed:  # an option file sets an unknown key, which is in the second line
        return f"{composed[1]}: {composed[2]}"
    if error.__cause__ is not None:
        cause = _first_line(str(error.__cause__))
        line = _explain_value(line, cause) or f"{line}: {cause}"
    return f"{full_key}: {line}" if full_key and full_key not in line else line


def _part_of_loss(name: str) -> str | None:
    """Return the part of the loss that can have this name; None where it is no loss."""
    return next((part for part in ("box", "cls") if name in options(f"loss/{part}")), None)


def _group_and_name(file: str) -> tuple[str, str]:
    """Part a file that Hydra misses into the group and the option that was asked for, whose name may have slashes."""
    for group in (*GROUPS, "hydra/launcher"):
        if file.startswith(f"{group}/"):
            return group, file.removeprefix(f"{group}/")
    first, _, rest = file.partition("/")
    second, slash, name = rest.partition("/")
    return (f"{first}/{second}", name) if slash else (first, rest)


def needed_kind(cause: str) -> str | None:
    """Return what kind of value is needed where OmegaConf says that another one was given; None for another error."""
    return next((kind for words, kind in _KINDS.items() if words in cause), None)


def _explain_reference(text: str) -> str | None:
    """Return what is wrong with a value that refers to another (`${...}`), from OmegaConf's message about it."""
    if variable := re.search(r"Environment variable '(.*?)' not found", text):
        return f"the environment has no variable {variable[1]}"
    if option := re.match(r"Error resolving interpolation '(.*)', possible", text):
        return f"{option[1]}: the name of an option can refer to the option of another group only, such as ${{model}}"
    if resolver := re.search(r"Unsupported interpolation type (\S+)", text):
        return f"${{{resolver[1]}:...}}: there is no such resolver; ${{oc.env:NAME}} reads the environment"
    if key := re.search(r"Interpolation key '(.*?)' not found", text):
        return f"${{{key[1]}}}: there is no such key"
    return None


def _unknown_key(text: str) -> str | None:
    """Return the key that Hydra does not know, from its message."""
    match = re.search(r"Could not (?:override|delete from config\.) '([^']+)'", text)
    return match[1] if match else None


_KINDS = {
    "is not a subclass of int": "a whole number is needed",
    "is not a subclass of str": "a text is needed",
    "to string": "a text is needed",
    "is not a subclass of LatencySettings": "single values are latency.<key>=<value>, such as latency.enabled=false",
    "Cannot merge DictConfig with ListConfig": "a list is needed, in brackets",
    "is not Optional": "a value is needed, not null",
    "could not be converted to Integer": "a whole number is needed",
    "could not be converted to Float": "a number is needed",
    "is not a valid bool": "true or false is needed",
    "is not a ListConfig": "a list is needed, in brackets",
}


def _explain_value(text: str, cause: str) -> str | None:
    """Return what is wrong with a value of another type than its key's, from Hydra's message and its cause."""
    merged = re.match(r"Error merging override \+*(.+)", text)
    kind = needed_kind(cause)
    if re.match(r"token recognition|mismatched|extraneous|no viable|missing ", cause):
        kind = "what stands in ${...} cannot be read; ${train.epochs} is the value of another key"
    return f"{merged[1]}: {kind or 'another kind of value is needed'}" if merged else None


def _explain_key(key: str, arguments: Sequence[str]) -> str:
    parent, _, leaf = key.rpartition(".")
    if re.match(r"hydra(?:[./]|$)", key):
        return f"{key}: no such key of Hydra or of the launcher; see all with --cfg hydra"
    if parent == "train" and leaf in OWNED:
        return f"train.{leaf}: set it with {OWNED[leaf]}"
    if parent in SCHEMAS or parent == "train":
        valid = known_keys(parent)
    elif parent in ("module", "data"):
        valid = _keys_of_chosen(parent, arguments)
    else:
        leaf, valid = parent.partition(".")[0], known_keys("")
    listing = f"valid: {', '.join(valid)}" if valid and len(valid) < 40 else "see all fields with --cfg job"
    return f"{key}: no such key. {nearest(leaf, valid)}{listing}"


def _keys_of_chosen(group: str, arguments: Sequence[str]) -> list[str]:
    """Return the keys of the options of a group that a command chooses."""
    chosen = [value.split(",") for key, _, value in (a.partition("=") for a in arguments) if key == group]
    names = chosen[-1] if chosen else ["shapes" if group == "data" else "none"]
    keys: dict[str, None] = {}
    for name in names:
        keys |= dict.fromkeys(option_file(group, name))
    return [key for key in keys if not key.startswith("_")]


def _first_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[0] if lines else "invalid configuration"
