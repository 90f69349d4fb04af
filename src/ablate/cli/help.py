"""The help of `python -m ablate`: the text of Hydra, without Hydra, which takes a second to start."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from string import Template

import yaml

from ablate.settings.schema import conf_dir
from ablate.storage.plain_values import Plain

FLAGS = ("--help", "-h")


def asks_for_help(words: Sequence[str]) -> bool:
    """Tell whether a command line only requests the help; `plan` takes the same words as a run."""
    arguments = words[1:] if words[:1] == ["plan"] else words
    arguments = [word for word in arguments if word not in ("-m", "--multirun")]
    return bool(arguments) and all(word in FLAGS for word in arguments)


def help_text() -> str:
    """Return the text of `hydra.help` in conf/config.yaml, with all groups and their options, the user's own too."""
    text = (conf_dir() / "config.yaml").read_text(encoding="utf-8")
    content: Plain = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    words: dict[str, str] = content["hydra"]["help"]
    template = words["template"]
    for name in ("header", "footer"):
        template = template.replace(f"${{hydra.help.{name}}}", words[name])
    listing = "".join(f"{group}: {', '.join(names)}\n" for group, names in _groups().items())
    return Template(template).substitute(APP_CONFIG_GROUPS=listing)


def _groups() -> dict[str, list[str]]:
    """Return the folders that hold options, without Hydra's own, each with the names of its files."""
    names: dict[str, set[str]] = {}
    for home in (conf_dir(), Path.cwd() / "conf"):
        for path in home.rglob("*.yaml") if home.is_dir() else ():
            folder = path.parent.relative_to(home)
            if folder.parts and folder.parts[0] != "hydra":
                names.setdefault(folder.as_posix(), set()).add(path.stem)
    return {group: sorted(names[group]) for group in sorted(names)}
