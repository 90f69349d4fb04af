"""What can be wrong with a data set, as one line for the person who has to put it right."""

from __future__ import annotations


class DataError(ValueError):
    """A data set cannot be used as it is; the message is one line that says what is wrong and where."""


class NotDownloaded(DataError):
    """The data set is known but its files are not on this machine; `catalogue.fetch` gets them."""
