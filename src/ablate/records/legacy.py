"""For the time of a conversion: records read by key, as the dictionaries that they were. To be deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Subscriptable:
    """Attributes by key, as far as they are there."""

    __slots__ = ()

    def _content(self) -> dict[str, Any]:
        content = getattr(self, "content", None)
        if content is not None:
            return dict(content)
        names: tuple[str, ...] = getattr(self, "__struct_fields__", ())
        return {name: found for name in names if (found := getattr(self, name)) is not None}

    def __getitem__(self, key: str) -> Any:
        return self._content()[key]

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dictionary."""
        return self._content().get(key, default)

    def __contains__(self, key: object) -> bool:
        return key in self._content()

    def __iter__(self) -> Iterator[str]:
        return iter(self._content())

    def keys(self) -> list[str]:
        """As of a dictionary."""
        return list(self._content())

    def items(self) -> list[tuple[str, Any]]:
        """As of a dictionary."""
        return list(self._content().items())

    def values(self) -> list[Any]:
        """As of a dictionary."""
        return list(self._content().values())
