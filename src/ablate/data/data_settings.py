"""Which data set a trial is trained on, as the option group `data` says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ablate.storage.plain_values import Plain


@dataclass(frozen=True)
class DataSettings:
    """Which data set a trial is trained on.

    Attributes:
        name: The option of the group `data`; for a data file of the user's own the name of that file.
        path: A data file; None for a data set of ours.
        url: Where a data set of ours comes from; None for any other.
        options: What else the group holds: the fields of the built-in shapes.
        download: Whether a data file of the user's may run its own `download:` where its images are missing. Says
            nothing about the data: not recorded, no part of a signature.
    """

    name: str
    path: str | None = None
    url: str | None = None
    options: Mapping[str, int | None] = field(default_factory=dict)
    download: bool = False

    @classmethod
    def from_plain(cls, content: Plain) -> DataSettings:
        """Return the settings of a composed group `data`."""
        name, path = str(content.get("name") or "custom"), content.get("path")
        options = {key: value for key, value in content.items() if key not in ("name", "path", "url", "download")}
        if name == "custom" and path:
            name = Path(str(path)).stem  # tells one data set of the user's from another
        return cls(name, path, content.get("url"), options, content.get("download") is True)

    def to_plain(self) -> Plain:
        """Return the group as a configuration holds it."""
        url = {} if self.url is None else {"url": self.url}
        return {"name": self.name, "path": self.path, **url, **self.options}

    @property
    def is_shapes(self) -> bool:
        """Whether it is the built-in data set."""
        return self.name == "shapes" and not self.path

    @property
    def is_fetched(self) -> bool:
        """Whether it is one that we fetch and convert ourselves."""
        return bool(self.url) and not self.path
