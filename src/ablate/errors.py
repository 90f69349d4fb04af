"""Errors that a user can act on, and the nearest valid word for a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class AblateError(Exception):
    """Base of every error that ablate raises on purpose; the message is one line for the user."""


class ConfigError(AblateError, ValueError):
    """Invalid user input; the message is one line: what is wrong, where, and which values are valid."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return a did-you-mean clause with a trailing space, or nothing, for a word that is not among the valid ones."""
    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'? " if close else ""
