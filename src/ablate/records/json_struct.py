"""Typed content of JSON files: frozen structs that are checked once, where a file is read, and written as they were.

A struct is decoded from what `json.loads` gives (`from_json`) and encoded to it (`to_json`). What a file lacks because
an older version did not write it has its default, and stays away when the struct is encoded. Keys that are not known
are left out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import copy
from typing import Any, ClassVar, Final, Never, TypeAlias, TypeVar

import msgspec

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = dict[str, JsonValue]

T = TypeVar("T")


class JsonStruct(msgspec.Struct, frozen=True, omit_defaults=True):
    """A JSON object with fixed fields; one that has its default is not written, unless the default is `written`."""


def written(default: T) -> T:
    """Return a field's default that is written too, such as the null of a figure that was not measured."""
    return msgspec.field(default_factory=lambda: copy(default))


class _Absent(tuple[Never, ...]):
    """No entries, in place of a list that a file lacks; an empty list that a file has is another object."""

    __slots__ = ()

    def __reduce__(self) -> str:
        return "ABSENT"


ABSENT: Final = _Absent()


class OpenObject:
    """A JSON object of which some names are data, such as those of losses; the others are properties.

    Args:
        content: The object, in the order in which it is written.

    Raises:
        ValueError: It is not what the class says.
    """

    __slots__ = ("content",)
    json_schema: ClassVar[JsonObject] = {"type": "object"}
    content: Mapping[str, JsonValue]

    def __init__(self, content: Mapping[str, JsonValue]) -> None:
        self.content = dict(content)
        self.check()

    def check(self) -> None:
        """Raise ValueError where the content is not what the class says."""

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and self.content == other.content

    def __hash__(self) -> int:
        return hash(tuple(self.content))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.content!r})"

    def number(self, name: str) -> float | None:
        """Return the number of a name; None where there is none, or no finite one."""
        return finite_number(self.content.get(name))

    def text(self, name: str) -> str | None:
        """Return the text of a name; None where there is none."""
        value = self.content.get(name)
        return value if isinstance(value, str) else None


def finite_number(value: object) -> float | None:
    """Return a value if it is a finite number within the range of floats; None for anything else, such as true."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return value if math.isfinite(value) else None
    except OverflowError:  # a whole number beyond all floats
        return None


def from_json(content: object, kind: type[T]) -> T:
    """Return JSON content as a struct.

    Raises:
        ValueError: It is not what the struct says; the message is one line, such as
            ``metrics.map50_95: expected a number or null, not a text``.
    """
    try:
        return msgspec.convert(content, kind, dec_hook=_decode_open)
    except msgspec.ValidationError as error:
        raise ValueError(_in_words(str(error))) from None


def to_json(struct: object) -> Any:
    """Return a struct as JSON content; numbers of numpy are left to who writes them."""
    return _with_lists(msgspec.to_builtins(struct, enc_hook=_encode_open))


def _with_lists(content: Any) -> Any:
    """The same with lists in place of tuples."""
    if isinstance(content, dict):
        return {name: _with_lists(field) for name, field in content.items()}
    return [_with_lists(item) for item in content] if isinstance(content, list | tuple) else content


def _decode_open(kind: type[Any], content: Any) -> Any:
    if issubclass(kind, OpenObject):
        if not isinstance(content, dict):
            raise ValueError(f"Expected `object`, got `{_name_of(content)}`")
        return kind(content)
    raise NotImplementedError(f"no JSON is decoded as {kind}")


def _encode_open(value: Any) -> Any:
    if isinstance(value, OpenObject):
        return value.content
    if hasattr(value, "tolist"):  # numpy, without importing it
        return value.tolist()
    raise NotImplementedError(f"a {type(value).__name__} cannot be written as JSON")


_WORDS: Final = {
    "object": "an object", "array": "a list", "str": "a text", "int": "a whole number", "float": "a number",
    "bool": "true or false", "null": "null",
}  # fmt: skip


def _name_of(value: object) -> str:
    names = {dict: "object", list: "array", str: "str", bool: "bool", int: "int", float: "float", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def _in_words(message: str) -> str:
    """Return msgspec's message in plain words, the place first."""
    text, _, place = message.partition(" - at `")
    where = place.rstrip("`").removeprefix("$").removeprefix(".")
    words = text
    if text.startswith("Expected `"):
        expected, _, got = text.removeprefix("Expected `").partition("`, got `")
        kinds, _, limit = expected.partition("`")
        wanted = " or ".join(_WORDS.get(kind, kind) for kind in kinds.split(" | "))
        words = f"expected {wanted}{limit}" + (f", not {_WORDS.get(got.rstrip('`'), got.rstrip('`'))}" if got else "")
    elif text.startswith("Object missing required field `"):
        words = f"has no field {text.removeprefix('Object missing required field `').rstrip('`')}"
    return f"{where}: {words}" if where else words
