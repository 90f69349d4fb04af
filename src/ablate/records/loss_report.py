"""Which losses a network was trained with, where they are not the stock network's own."""

from __future__ import annotations

from ablate.records.json_struct import JsonStruct


class LossReport(JsonStruct, frozen=True, kw_only=True):
    """A loss that was replaced.

    Attributes:
        part: "box", "cls" or "assigner".
        loss: Its name with the options that differ from its file.
        heads: The branches of the head that it trained: "one_to_many" and "one_to_one", or "detect".
        classes: Dotted paths of the classes that ran; of a wrapper also that of the loss in it.
    """

    part: str
    loss: str
    heads: tuple[str, ...]
    classes: tuple[str, ...]
