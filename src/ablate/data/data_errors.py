"""What can be wrong with a data set, as one line for the person who has to put it right."""

from __future__ import annotations

from ablate.errors import AblateError


class DataError(AblateError, ValueError):
    """A data set cannot be used as it is; the message is one line that says what is wrong and where."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(message))


class NotDownloaded(DataError):
    """The data set is known but its files are not on this machine; `catalogue.fetch` gets them."""


def printable(name: str) -> str:
    """A file's name as it can be written anywhere: bytes that are not UTF-8 become replacement characters."""
    return name.encode(errors="surrogateescape").decode(errors="replace")
