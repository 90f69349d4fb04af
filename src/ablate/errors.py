"""Errors that a user can act on, and words that messages share."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_NAMES = 40  # in one line


class AblateError(Exception):
    """Base of every error that ablate raises on purpose; the message is one line for the user."""


class ConfigError(AblateError, ValueError):
    """Invalid user input; the message is one line: what is wrong, where, and which values are valid."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return a did-you-mean clause with a trailing space, or nothing, for a word that is not among the valid ones."""
    names = list(valid)
    close = [
        match for text in (word, word.lower()) for match in difflib.get_close_matches(text, names, n=1, cutoff=0.5)
    ]
    return f"did you mean '{close[0]}'? " if close else ""


def named(valid: Iterable[str], more: str = "python -m ablate catalogue") -> str:
    """Return the valid names as a list; of very many the first ones, and the command that lists them all."""
    names = list(valid)
    if len(names) <= MOST_NAMES:
        return ", ".join(names)
    return f"{', '.join(names[: MOST_NAMES // 2])} and {len(names) - MOST_NAMES // 2} more ({more})"


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number of things, such as "1 box" and "3 boxes"; the plural is the noun with an s unless given."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"
