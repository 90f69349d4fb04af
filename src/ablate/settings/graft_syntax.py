"""Grafts as people write them, `hmha[rerank=batch]@c3k2[rezero]`, and guesses at what misspelt words mean."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

from ablate.errors import ConfigError, nearest
from ablate.settings.option_files import check_option_file
from ablate.settings.schema import option_file, options

Graft = dict[
    str, Any
]  # {"module": {...}, "insertion": {"name", "at", "wiring"}}, as `module=` and `insertion=` give it

_GRAFT = re.compile(r"(?P<name>[^\[\]@=]+)(\[(?P<options>[^\]]*)\])?(@(?P<place>[^\[\]@=]+)(\[(?P<wiring>[^\]]*)\])?)?")
_LAYERS = re.compile(r"(layer)?(\d+(\+\d+)*)")
MATCHED = "ablate.modules.convblock.ConvBlock"  # a block with as many parameters as the module in its option `like`
PATH_KEYS = ("data.path", "model.architecture", "model.weights", "root")
FORM = "name[option=value,...]@place[wiring]"


def modules() -> list[str]:
    """Return the names of the modules that can be grafted."""
    return [name for name in options("module") if name != "none"]


def read_graft(text: str, where: str = "grafts") -> Graft:
    """Return the graft that a text such as ``hmha[rerank=batch]@c3k2[rezero]`` or ``sta@4+6`` means.

    Without a place it goes to the module's customary one; options that are not given have the values of the module's
    file. Whether the options and the place exist is not looked at here.

    Raises:
        ConfigError: The text has another form, or there is no such module.
    """
    found = _GRAFT.fullmatch(text.strip())
    if found is None:
        raise ConfigError(f"{where}: '{text}' is no graft; the form is {FORM}, for example hmha@c3k2")
    name, valid = found["name"].strip(), modules()
    if name not in valid:
        raise ConfigError(f"{where}: '{text}': no module '{name}'. {nearest(name, valid)}valid: {', '.join(valid)}")
    module = {**deepcopy(_usual(name, Path.cwd())), **_options(found["options"] or "", text, where)}
    insertion: dict[str, Any] = {"name": "customary", "at": None, "wiring": (found["wiring"] or "plain").strip()}
    place = (found["place"] or "customary").strip()
    if layers := _LAYERS.fullmatch(place):
        insertion["at"] = [int(index) for index in layers[2].split("+")]
    else:
        insertion["name"] = place
    return {"module": settle_like(module, where), "insertion": settle_insertion(module, insertion)}


def settle_like(module: Mapping[str, Any], where: str = "module.like") -> dict[str, Any]:
    """Return a module with what it is to be like resolved: from a module's name to its class and options.

    Only the block of the control `params` is like another module; any other is returned as it is.

    Raises:
        ConfigError: There is no such module.
    """
    like = module.get("like")
    if module.get("_target_") != MATCHED or like is None:
        return dict(module)
    found = read_graft(like, where)["module"] if isinstance(like, str) else like
    return {**module, "like": {name: value for name, value in found.items() if name != "insertion"}}


def settle_insertion(module: Mapping[str, Any], insertion: Mapping[str, Any]) -> dict[str, Any]:
    """Return where a graft goes, with the customary place or the layers by name."""
    settled = dict(insertion)
    if settled["at"] is not None:
        settled["at"] = list(dict.fromkeys(settled["at"]))
        settled["name"] = "layer" + "+".join(map(str, settled["at"]))
    elif settled["name"] == "customary":
        settled["name"] = module.get("insertion") or "head"
    return settled


def show_graft(graft: Mapping[str, Any]) -> str:
    """Return a settled graft as people write it, with the options that are not those of its module's file."""
    insertion = graft["insertion"]
    wiring = "" if insertion["wiring"] == "plain" else f"[{insertion['wiring']}]"
    return f"{_show_module(graft['module'])}@{insertion['name']}{wiring}"


def _show_module(module: Mapping[str, Any]) -> str:
    usual = _usual(str(module.get("name")), Path.cwd())
    matched = module.get("_target_") == MATCHED
    changed = [
        f"{name}={_show_module(value) if matched and isinstance(value, Mapping) else value}"
        for name, value in module.items()
        if name in usual and usual[name] != value
    ]
    settings = f"[{','.join(changed)}]" if changed else ""
    return f"{module.get('name') or str(module.get('_target_')).rpartition('.')[2]}{settings}"


def is_graft(text: str) -> bool:
    """Tell whether a text begins with a module's name, as a graft does."""
    found = re.match(r"[^\[\]@=]+", text.strip())
    return found is not None and found[0].strip() in modules() and text.strip()[found.end() : found.end() + 1] != "="


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


def plain_value(text: str) -> Any:
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


@cache
def _usual(module: str, folder: Path) -> Mapping[str, Any]:
    """Return what a module's file holds, read once for each working folder, where a user may keep her own."""
    check_option_file("module", module)
    return option_file("module", module)


def _options(text: str, graft: str, where: str) -> dict[str, Any]:
    found = {}
    for item in split(text):
        name, sign, value = (part.strip() for part in item.partition("="))
        if not sign or not name or name in ("name", "_target_", "insertion"):
            raise ConfigError(f"{where}: '{graft}': '{item}' is no option=value; the form is {FORM}")
        found[name] = plain_value(value)
    return found
