"""The words in which people write grafts, values and paths, and how Hydra's grammar takes them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from ablate.settings.schema import options

PATH_KEYS = ("data.path", "model.architecture", "model.weights", "root")


def module_names() -> list[str]:
    """Return the names of the modules that can be grafted."""
    return [name for name in options("module") if name != "none"]


def is_graft(text: str) -> bool:
    """Tell whether a text begins with a module's name, as a graft does."""
    name = re.match(r"[^\[\]@=]+", text.strip())
    return name is not None and name[0].strip() in module_names() and text.strip()[name.end() : name.end() + 1] != "="


def quote(words: Iterable[str]) -> str:
    """Return words as a list in Hydra's grammar, whatever characters they hold."""
    return "[" + ",".join("'" + word.replace("'", "\\'") + "'" for word in words) + "]"


def quote_list(argument: str) -> str:
    """Quote the elements of `grafts=[...]` and `components=[...]`, which Hydra's grammar would not take as they are.

    Any other argument, and what is quoted already, is returned as it is.
    """
    key, _, value = argument.partition("=")
    lists = split(value)
    if key not in ("grafts", "components") or re.search(r"[\"'\\]", value):
        return argument
    if not lists or not all(words.startswith("[") and words.endswith("]") for words in lists):
        return argument
    return f"{key}={','.join(quote(split(words[1:-1])) for words in lists)}"


def quote_path(argument: str) -> str:
    """Quote a path that Hydra's grammar would not take as it is, or would take for something else.

    `data.path=my data (v2).yaml` needs quotes. So does `a,b.yaml` where there is such a file, which is then no sweep
    over two; and `${x}` in the name of a file that is there is no interpolation. What Hydra reads as it stands, and any
    other argument, is returned as it is.
    """
    key, _, value = argument.partition("=")
    if key not in PATH_KEYS or re.fullmatch(r"[\w./~-]*", value, re.ASCII):
        return argument
    mark = value[0] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else ""
    path = value[1:-1].replace(f"\\{mark}", mark) if mark else value
    if _exists(path):
        return f"{key}={_quoted_path(path)}"
    if mark or _is_read(argument):
        return argument
    paths = path.split(",")
    return f"{key}={','.join(map(_quoted_path, paths if all(map(_exists, paths)) else [path]))}"


def _exists(path: str) -> bool:
    return os.path.exists(os.path.expanduser(path))  # noqa: PTH110, PTH111 - False, no error, for what cannot be a path


def _is_read(argument: str) -> bool:
    """Whether Hydra's grammar takes an argument."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        OverridesParser.create().parse_override(argument)
    except HydraException:
        return False
    return True


def _quoted_path(path: str) -> str:
    """A path as a quoted word of Hydra's grammar; where it exists as it is written, nothing in it is interpolated."""
    if _exists(path):
        path = path.replace("${", "\\${")
    path = re.sub(r"(\\+)(?='|$)", r"\1\1", path).replace("'", "\\'")
    return f"'{path}'"


def split(text: str) -> list[str]:
    """Split a text at the commas that stand outside of brackets."""
    words, depth = [""], 0
    for letter in text:
        depth += {"[": 1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            words.append("")
        else:
            words[-1] += letter
    return [word.strip() for word in words if word.strip()]


def plain_value(text: str) -> bool | int | float | str | None:
    """Return what a value on the command line means: a truth value, null, a number, or the text itself."""
    constants = {"true": True, "false": False, "null": None}
    if text.lower() in constants:
        return constants[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
