"""What was grafted into a network, and where."""

from __future__ import annotations

from typing import ClassVar

from ablate.records.json_struct import ABSENT, JsonObject, JsonStruct, OpenObject, written


class PlaceReport(OpenObject):
    """A graft at one place, with the values that the module's own `describe()` returns."""

    __slots__ = ()
    json_schema: ClassVar[JsonObject] = {
        "title": "PlaceReport",
        "type": "object",
        "properties": {
            "place": {"type": "string"},
            "channels": {"type": "integer"},
            "stride": {"type": "integer"},
            "module": {"type": "string"},
            "wiring": {"type": "string"},
        },
        "required": ["place", "channels", "stride"],
    }

    def check(self) -> None:
        """Raise ValueError where the place, its channels or its stride are missing."""
        if not isinstance(self.content.get("place"), str):
            raise ValueError("it names no place")
        for name in ("channels", "stride"):
            if not isinstance(self.content.get(name), int):
                raise ValueError(f"its {name} is no whole number")

    @property
    def place(self) -> str:
        """Path of the place in the stock network."""
        return str(self.content["place"])


class GraftReport(JsonStruct, frozen=True, kw_only=True):
    """The grafts of a network: how they are wired, and each place; no places in a stock network."""

    wiring: str | None = written(None)
    places: tuple[PlaceReport, ...] = ABSENT

    def joined(self, other: GraftReport) -> GraftReport:
        """Return both in one."""
        wiring = "+".join(dict.fromkeys(it for it in (self.wiring, other.wiring) if it)) or None
        return GraftReport(wiring=wiring, places=(*self.places, *other.places))
