"""A guess at what a misspelt word means."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def nearest(word: str, valid: Iterable[str]) -> str:
    """Return a did-you-mean clause with a trailing space, or nothing, for a word that is not among the valid ones."""
    close = difflib.get_close_matches(word, list(valid), n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'? " if close else ""
