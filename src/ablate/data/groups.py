"""Which images of a data set belong together, such as the frames of one recording: written by an audit, or by hand.

An audit writes `groups.json`. A table of one's own, such as of patients, is a CSV file with the columns `image` and
`group`. An image that neither names is a group of its own.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from ablate.data.data_errors import DataError
from ablate.storage.confined import read_plain
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import OutputFolder

SCHEMA: Final = 1
MOST_BYTES: Final = 2**28  # a million images with names of some hundred characters
AUDIT: Final = "audit"
COLUMNS: Final = ("image", "group")
MOST_SHOWN: Final = 100  # characters of a table's heads


@dataclass(frozen=True)
class ImageGroups:
    """The group of each image.

    Attributes:
        groups: Name of an image -> name of its group. Images are named as in `Predictions.names`: by their place below
            the data set's view, `images/<split>/<name>` (see `view.name_in_view`).
        source: What made the groups: "audit", or the name of the file that the user gave.
        fingerprint: Of the data set that they were made for; empty in a table of the user's own.
    """

    groups: Mapping[str, str]
    source: str
    fingerprint: str = ""

    def group_of(self, image: str) -> str:
        """Return the group of an image; one that is not listed is a group of its own, named as the image is."""
        return self.groups.get(image, image)

    def numbered(self, images: Sequence[str]) -> npt.NDArray[np.intp]:
        """Return the number of the group of each image, (I,), from 0 in the order in which the groups appear."""
        numbers: dict[str, int] = {}
        return np.array([numbers.setdefault(self.group_of(image), len(numbers)) for image in images], dtype=np.intp)


class GroupsFile(msgspec.Struct, frozen=True, forbid_unknown_fields=False):
    """The file `groups.json` of an audit.

    Attributes:
        schema: Version of this format.
        source: What made the groups.
        fingerprint: Of the data set.
        groups: Name of an image -> name of its group.
    """

    schema: int
    source: str
    fingerprint: str
    groups: dict[str, str]


def find_groups(root: Path, fingerprint: str) -> ImageGroups | None:
    """Return the groups that an audit of a data set has written to an output folder; None where there is none.

    Args:
        root: The output folder, `root=`.
        fingerprint: Of the data set, `DataSet.fingerprint`.

    Raises:
        DataError: The file is damaged, or is of another data set.
    """
    path = OutputFolder(root).audit(fingerprint).groups
    if not path.exists():
        return None
    groups = read_groups(path)
    if groups.fingerprint != fingerprint:
        raise DataError(f"{path}: the groups are of another data set; python -m ablate data audit makes them again")
    return groups


def groups_named(name: str) -> ImageGroups:
    """Read the groups of a file that the user names; see `read_groups`. It may be a link, to wherever."""
    path = Path(name).absolute()
    return read_groups(path, Path(path.anchor))


def read_groups(path: Path, folder: Path | None = None) -> ImageGroups:
    """Read the groups of a file: JSON as an audit writes it, or a CSV table with the columns `image` and `group`.

    A file is a table unless it is called `.json` or begins as JSON does.

    Args:
        path: The file.
        folder: Which it may not lead out of; the one that it is in by default.

    Raises:
        DataError: The file is missing, damaged, empty, or of another version.
    """
    try:
        text = read_plain(path, folder, most=MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: the groups cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the groups cannot be read: this is no UTF-8 text") from error
    is_json = path.suffix.lower() == ".json" or text.lstrip().startswith("{")
    return _of_json(text, path) if is_json else _of_table(text, path)


def write_groups(path: Path, groups: ImageGroups) -> None:
    """Write groups as JSON, whole or not at all. Raises OSError where the disk refuses."""
    file = GroupsFile(SCHEMA, groups.source, groups.fingerprint, dict(groups.groups))
    atomic_write_json(path, msgspec.to_builtins(file))


def _of_json(text: str, path: Path) -> ImageGroups:
    try:
        file = msgspec.convert(json.loads(text), GroupsFile)
    except (ValueError, RecursionError) as error:  # msgspec's are ValueErrors
        raise DataError(f"{path}: no file of groups: {error}") from error
    if file.schema != SCHEMA:
        raise DataError(f"{path}: the groups have schema {file.schema}; this version knows {SCHEMA}")
    return ImageGroups(file.groups, file.source, file.fingerprint)


def _of_table(text: str, path: Path) -> ImageGroups:
    try:
        rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
        names = tuple(rows.fieldnames or ())
        if not set(COLUMNS) <= set(names):
            shown = ", ".join(names)[:MOST_SHOWN] or "none"
            raise DataError(f"{path}: a table of groups has the columns {' and '.join(COLUMNS)}, not {shown}")
        groups: dict[str, str] = {}
        for row in rows:
            image, group = row[COLUMNS[0]], row[COLUMNS[1]]
            if not image or not group:
                raise DataError(f"{path}, line {rows.line_num}: an image and a group are needed")
            if groups.setdefault(image, group) != group:
                raise DataError(f"{path}, line {rows.line_num}: {image} is in the groups {groups[image]} and {group}")
    except csv.Error as error:
        raise DataError(f"{path}: no table of groups: {error}") from error
    if not groups:
        raise DataError(f"{path}: the table of groups is empty")
    return ImageGroups(groups, path.name)
