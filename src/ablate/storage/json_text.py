"""JSON of strangers: values that every later step can bear, or a ValueError."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

import msgspec

DEEPEST: Final = 100  # lists and objects inside of each other; ours have up to ten
MOST: Final = 500_000  # lists and objects, each of which takes 20 times its text in the memory
DIGITS: Final = 300  # of whole numbers that are beyond all floats
_NESTED = frozenset((dict, list))  # types of what holds other values
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse_json(text: str) -> Any:
    """Return what a JSON text holds; of a key that is there twice the last value.

    NaN, infinities and numbers beyond all floats are null. Halves of a character, which no file takes, are replaced.

    Raises:
        ValueError: It is no JSON, more than `DEEPEST` deep, or has more than `MOST` lists and objects.
    """
    count = text.count("[") + text.count("{")
    if count > MOST:
        raise ValueError(f"more than {MOST} lists and objects")
    try:  # it refuses all that has to be replaced, but for long whole numbers
        content = _mended(text) if _has_long_numbers(text) else msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeEncodeError, RecursionError):
        content = _mended(text)
    if count > DEEPEST and _is_deep(content):
        raise ValueError(f"lists and objects are more than {DEEPEST} deep")
    return content


def _mended(text: str) -> Any:
    """What a JSON text holds, with null and replacements where no later step could bear it."""
    try:
        content = json.loads(text, parse_constant=lambda _: None, parse_float=_finite, parse_int=_whole)
    except RecursionError:
        raise ValueError(f"lists and objects are more than {DEEPEST} deep") from None
    if not _SURROGATE.search(text):
        return content
    if _is_deep(content):
        raise ValueError(f"lists and objects are more than {DEEPEST} deep")
    return _whole_letters(content)


def _finite(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) < DIGITS else None


def _has_long_numbers(text: str) -> bool:
    """Whether `DIGITS` digits may stand in a row: a block of a third as many would then hold digits alone."""
    block = DIGITS // 3
    return any(text[start : start + block].isdigit() for start in range(0, len(text), block))


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(DEEPEST + 1):
        inner = [item.values() if type(item) is dict else item for item in level]
        nested = [items for items in inner if not _NESTED.isdisjoint(map(type, items))]
        level = [part for items in nested for part in items if type(part) in _NESTED]
        if not level:
            return False
    return True


def _whole_letters(content: Any) -> Any:
    """The same without halves of characters: a surrogate has no UTF-8."""
    if isinstance(content, str):
        return content.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(content, list):
        return [_whole_letters(item) for item in content]
    if isinstance(content, dict):
        return {_whole_letters(name): _whole_letters(item) for name, item in content.items()}
    return content
