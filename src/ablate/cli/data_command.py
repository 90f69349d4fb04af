"""The words of `python -m ablate data audit`: which data set, and where the results go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ablate.data.data_settings import DataSettings
from ablate.errors import ConfigError, nearest
from ablate.settings.option_files import known_keys, unknown_key
from ablate.settings.schema import option_file, options

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class AuditRequest:
    """Which data set is audited, and the output folder."""

    data: DataSettings
    root: Path


def audit_request(words: Sequence[str], root: Path) -> AuditRequest:
    """Read words such as data=bccd, data.path=my.yaml and my.yaml.

    Args:
        words: All but flags and `root=`.
        root: The output folder.

    Raises:
        ConfigError: One means nothing here, or no such data set exists.
    """
    name, files, keys = None, [], {}
    for word in words:
        key, sign, text = word.partition("=")
        if key == "data" and sign:
            name = text
        elif key.startswith("data.") and sign:
            keys[key.removeprefix("data.")] = _value(word, text)
        elif word.endswith(SUFFIXES):
            files.append(word)
        else:
            guess = nearest(key, ["data", "data.path", "root"])
            raise ConfigError(
                f"{word}: not understood here. {guess}"
                "valid: data=<name>, data.<key>=<value>, a data file (.yaml), root=<folder>"
            )
    if len(files) > 1:
        raise ConfigError(f"data audit: one data file is audited at a time, not {' and '.join(files)}")
    if files:
        if name or "path" in keys:
            raise ConfigError(f"data audit: give either {files[0]} or data=<name>, not both")
        name, keys["path"] = "custom", files[0]
    name = name or ("custom" if "path" in keys else "shapes")
    valid = options("data")
    if name not in valid:
        raise ConfigError(f"data={name}: no such option. {nearest(name, valid)}valid: {', '.join(valid)}")
    content = option_file("data", name)
    known = known_keys("data", name)
    for key in keys:
        if key not in known or key == "name":
            raise unknown_key(key, "data.", "data", [each for each in known if each != "name"])
    return AuditRequest(DataSettings.from_plain({**content, **keys}), root)


def _value(word: str, text: str) -> str | int | bool | None:
    """The value of a key; numbers, true, false and null as YAML has them, anything else as the text that it is."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        value = text
    if value is None and text not in ("null", "~"):
        raise ConfigError(f"{word}: a value is needed")
    return value if value is None or isinstance(value, bool | int) else text
