"""The flags of a command that Hydra composes: which there are, and one line about any other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ablate.errors import ConfigError, nearest

OWN_TREE = (
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
    "--experimental-rerun",
)  # read another configuration than ours


@dataclass(frozen=True)
class Flag:
    """A flag of Hydra's.

    Attributes:
        name: The long form.
        short: The short form; empty for none.
        value: What value follows it: ``none``, ``needed`` or ``optional``.
        valid: The values that it may have; empty for any.
        mode: Whether it says what the command does, so that no other such flag goes with it.
    """

    name: str
    short: str = ""
    value: str = "none"
    valid: tuple[str, ...] = ()
    mode: bool = False


FLAGS = (
    Flag("--multirun", "-m", mode=True),
    Flag("--run", "-r", mode=True),
    Flag("--cfg", "-c", "needed", ("job", "hydra", "all"), mode=True),
    Flag(
        "--info", "-i", "optional", ("all", "config", "defaults", "defaults-tree", "plugins", "searchpath"), mode=True
    ),
    Flag("--shell-completion", "-sc", mode=True),
    Flag("--package", "-p", "needed"),
    Flag("--resolve"),
    Flag("--hydra-help"),
    Flag("--help", "-h"),
    Flag("--version"),
)
OF_PLAN = ("--json", "--measure")
_COMPLETION = ("install=", "uninstall=", "query=")
_NAMES = {name: flag for flag in FLAGS for name in (flag.name, flag.short) if name}


class Words(NamedTuple):
    """The words of a command: flags as Hydra's parser takes them, and overrides."""

    flags: list[str]
    overrides: list[str]


def part(words: Sequence[str]) -> Words:
    """Part flags from overrides.

    Raises:
        ConfigError: There is no such flag, it lacks its value or has one that it does not take, or two exclude each
            other.
    """
    parted = Words([], [])
    given: dict[str, Flag] = {}
    remaining = list(reversed(words))
    while remaining:
        word = remaining.pop()
        if not word.startswith("-") or word == "-":
            parted.overrides.append(word)
            continue
        name, sign, value = word.partition("=")
        if word[:2] == "-c" and word[2:] in _NAMES["-c"].valid:
            name, sign, value = "-c", "=", word[2:]
        flag = _flag(name, word)
        if not sign and flag.value != "none" and remaining and _follows(flag, remaining[-1]):
            value = remaining.pop()
        _check_value(flag, bool(sign), value)
        given[flag.name] = flag
        parted.flags.append(f"{flag.name}={value}" if value else flag.name)
    _check_together(given)
    if "--shell-completion" in given and not any(word.startswith(_COMPLETION) for word in parted.overrides):
        raise ConfigError("--shell-completion: say what: install=bash, uninstall=bash or query=bash")
    return parted


def is_mode(word: str) -> bool:
    """Tell whether a word is a flag that says what the command does."""
    flag = _NAMES.get(word.partition("=")[0])
    return flag is not None and flag.mode


def _flag(name: str, word: str) -> Flag:
    if name in OWN_TREE:
        raise ConfigError(
            f"{word}: ablate reads its own configuration; "
            "options of yours go into conf/<group>/<option>.yaml of the working folder"
        )
    if name not in _NAMES:
        valid = [*(flag.name for flag in FLAGS if flag.name != "--run"), "--verbose"]
        if name in OF_PLAN:
            raise ConfigError(f"{word}: {name} takes no value, and only plan has it: python -m ablate plan {name}")
        guess = nearest(name, [*valid, *OF_PLAN])
        raise ConfigError(f"no such flag: {name}. {guess}valid: {', '.join(valid)}; and for plan {', '.join(OF_PLAN)}")
    return _NAMES[name]


def _follows(flag: Flag, word: str) -> bool:
    """Tell whether a word is the value of the flag before it."""
    return word in flag.valid if flag.value == "optional" else "=" not in word and not word.startswith("-")


def _check_value(flag: Flag, has_sign: bool, value: str) -> None:
    valid = f"valid: {', '.join(flag.valid)}" if flag.valid else "such as --package=train"
    if flag.value == "none" and has_sign:
        raise ConfigError(f"{flag.name}={value}: this flag takes no value")
    if flag.value == "needed" and not value:
        raise ConfigError(f"{flag.name}: a value is needed; {valid}")
    if value and flag.valid and value not in flag.valid:
        raise ConfigError(f"{flag.name}={value}: {nearest(value, flag.valid)}{valid}")


def _check_together(given: dict[str, Flag]) -> None:
    modes = [name for name, flag in given.items() if flag.mode]
    if len(modes) > 1:
        raise ConfigError(f"{' and '.join(modes[:2])} exclude each other: leave one out")
    for name in ("--package", "--resolve"):
        if name in given and "--cfg" not in given and "--help" not in given:
            raise ConfigError(
                f"{name} goes with --cfg only, such as --cfg=job {name}{'=train' * (name == '--package')}"
            )
