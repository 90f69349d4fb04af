"""The parser of a verb's words: an error is one line, overrides and flags stand in any order."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, NoReturn

from ablate.errors import ConfigError, nearest


class VerbParser(argparse.ArgumentParser):
    """A parser whose errors are one line, like every other error here."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(allow_abbrev=False, **arguments)

    def error(self, message: str) -> NoReturn:
        """Raise what is wrong with the words as one line."""
        verb = self.prog.split()[-1]
        flag = re.match(r"argument (?:\S+/)?(\S+?): (.*)", message)
        if flag and flag[2].startswith("expected"):
            raise ConfigError(f"{verb}: {flag[1]}: a value is needed: {flag[1]}=<value>")
        if flag and flag[2].startswith("ignored explicit argument"):
            raise ConfigError(f"{verb}: {flag[1]} takes no value")
        if flag and flag[2].startswith("not allowed with argument"):
            raise ConfigError(f"{verb}: {flag[1]} and {flag[2].split()[-1]} exclude each other: leave one out")
        raise ConfigError(f"{verb}: {flag[2] if flag else message}")

    def parse(self, words: Sequence[str]) -> argparse.Namespace:
        """Read the words of a command, whose overrides may stand anywhere among its flags.

        Raises:
            ConfigError: One means nothing here.
        """
        flags = [name for action in self._actions for name in action.option_strings if name.startswith("--")]
        for word in words:
            name = word.partition("=")[0]
            if word.startswith("-") and name not in (*flags, "-h"):
                raise ConfigError(
                    f"{self.prog.split()[-1]}: no such flag: {name}. {nearest(name, flags)}valid: {', '.join(flags)}"
                )
        parsed, others = self.parse_known_intermixed_args(words)
        if others:
            raise ConfigError(
                f"{self.prog.split()[-1]}: '{others[0]}' is not understood here; valid: {', '.join(flags)}"
            )
        return parsed
