"""What was grafted into a network, and where."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from ablate.records.json_struct import ABSENT, JsonObject, JsonStruct, OpenObject, written


class PlaceReport(OpenObject):
    """A graft at one place, with the values that the module's own `describe()` returns.

    Of a layer that it replaces: the layer's class (`replaced`), the channels of the maps that the layer received
    (`in_channels`), its tensors, and how many of them kept their values.
    """

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
            "replaced": {"type": "string"},
            "kept": {"type": "integer"},
            "tensors": {"type": "integer"},
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


class KeptTensors(NamedTuple):
    """Tensors of replaced layers: how many keep their values in what replaces them, and how many there are."""

    kept: int
    tensors: int

    def __str__(self) -> str:
        return f"{self.kept} of {self.tensors}"


class GraftReport(JsonStruct, frozen=True, kw_only=True):
    """The grafts of a network: how they are wired, and each place; no places in a stock network."""

    wiring: str | None = written(None)
    places: tuple[PlaceReport, ...] = ABSENT

    @property
    def kept(self) -> KeptTensors | None:
        """Count the tensors of the replaced layers and those that kept their values; None where none is replaced."""
        rows = [row for row in self.places or () if row.text("replaced") is not None]
        if not rows:
            return None
        return KeptTensors(*(int(sum(row.number(name) or 0 for row in rows)) for name in ("kept", "tensors")))

    def joined(self, other: GraftReport) -> GraftReport:
        """Return both in one."""
        wiring = "+".join(dict.fromkeys(it for it in (self.wiring, other.wiring) if it)) or None
        return GraftReport(wiring=wiring, places=(*self.places, *other.places))
