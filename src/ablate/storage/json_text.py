"""JSON of strangers: values that every later step can bear, or a ValueError."""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final

DEEPEST: Final = 100  # lists and objects inside of each other; ours have up to ten
MOST: Final = 500_000  # lists and objects, each of which takes 20 times its text in the memory
_LARGE = re.compile(r"[eE]\+?\d{3}|(?<!\d)\d{300}")  # what numbers beyond all floats are written with
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
    is_large = _LARGE.search(text) is not None
    content = _parse(text, parse_float=_finite, parse_int=_whole) if is_large else _parse(text)
    if count > DEEPEST and _is_deep(content):
        raise ValueError(f"lists and objects are more than {DEEPEST} deep")
    return _whole_letters(content) if _SURROGATE.search(text) else content


def _parse(text: str, **hooks: Any) -> Any:
    try:
        return json.loads(text, parse_constant=lambda _: None, **hooks)
    except RecursionError:
        raise ValueError(f"lists and objects are more than {DEEPEST} deep") from None


def _finite(text: str) -> float | None:
    return number if math.isfinite(number := float(text)) else None


def _whole(text: str) -> int | None:
    return int(text) if len(text) < 300 else None


def _is_deep(content: Any) -> bool:
    level = [content]
    for _ in range(DEEPEST + 1):
        inner = [item.values() if isinstance(item, dict) else item for item in level]
        level = [part for items in inner for part in items if isinstance(part, dict | list)]
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
