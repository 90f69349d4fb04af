"""Words that several findings share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from ablate.analysis.number_format import points


def names(found: Iterable[object], most: int = 12) -> str:
    """Names in a row; behind the first few, how many more there are."""
    listed = [str(name) for name in found]
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more


def together(found: Iterable[str]) -> str:
    """All names in a row, the last with 'and'."""
    *first, last = found
    return f"{', '.join(first)} and {last}" if first else last


def limited(texts: Sequence[str], most: int, noun: str = "") -> str:
    """The first few of texts between semicolons, and how many more there are, of what."""
    more = f"; and {len(texts) - most} more{noun and ' ' + noun}" if len(texts) > most else ""
    return "; ".join(texts[:most]) + more


def minus(text: str) -> str:
    """Typographic minus signs before numbers, but not in exponents or inside words."""
    return re.sub(r"(?<![\w.])-(?=\.?\d)", "\N{MINUS SIGN}", text)


def count(number: int, noun: str) -> str:
    """A number of things, in the right one of singular and plural."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def span(texts: Iterable[str]) -> str:
    """The first and the last of texts that rise, as 'a to b'; one of them where they are the same."""
    listed = list(texts)
    return listed[0] if listed[0] == listed[-1] else f"{listed[0]} to {listed[-1]}"


def gain(row: dict[str, Any], name: str = "delta_map50_95") -> str:
    """A row's difference to its baseline, such as '+1.80 points'."""
    return f"{points(row[name])} points"


def interval(low: float, high: float) -> str:
    """An interval of a difference, such as '95% interval +1.52 to +2.08'."""
    return f"95% interval {points(low)} to {points(high)}"
