"""What an audit of a data set found, as it is written to `audit.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, Literal

from ablate.records.json_struct import JsonStruct, from_json, written
from ablate.storage.confined import read_plain
from ablate.storage.layout import AuditFolder

SCHEMA: Final = 1
MOST_BYTES: Final = 2**28  # some hundred thousand pairs

PairKind = Literal["same file", "copy", "overlap"]


class ImagePair(JsonStruct, frozen=True):
    """Two images that show the same.

    Attributes:
        first, second: Their names, `images/<split>/<name>`.
        kind: "same file": byte for byte; "copy": the same picture, as a whole or a crop; "overlap": a part of the scene
            is on both.
        agreement: Part of the blocks of the common area whose grey levels agree, 0 to 1.
        correlation: Median correlation of the grey levels in these blocks.
        overlap: Common area as part of the smaller image.
        is_mirrored: Whether one is the mirror image of the other.
        labels_differ: Boxes in the common area that only one of the two has, of its class; None where this is not
            compared.
        boxes: Boxes in the common area, of both images.
        area: Corners of the first image on the second, x and y in parts of the second's width and height.
    """

    first: str
    second: str
    kind: PairKind
    agreement: float = written(1.0)
    correlation: float = written(1.0)
    overlap: float = written(1.0)
    is_mirrored: bool = written(False)
    labels_differ: int | None = written(None)
    boxes: int | None = written(None)
    area: tuple[tuple[float, float], ...] = ()

    @property
    def splits(self) -> tuple[str, str]:
        """The split of each of the two."""
        return split_of(self.first), split_of(self.second)

    @property
    def is_leak(self) -> bool:
        """Whether the two are in different splits."""
        return self.splits[0] != self.splits[1]


class Recording(JsonStruct, frozen=True):
    """Images that one recording made, one after the other.

    Attributes:
        images: Their names, in order.
        reason: What speaks for it: names and likeness, or times.
    """

    images: tuple[str, ...]
    reason: str

    @property
    def splits(self) -> tuple[str, ...]:
        """The splits that its images are in."""
        return tuple(dict.fromkeys(split_of(image) for image in self.images))


class NotCompared(JsonStruct, frozen=True):
    """An image that was not compared with others, and why."""

    image: str
    reason: str


class AuditRecord(JsonStruct, frozen=True):
    """What an audit of a data set found.

    Attributes:
        schema: Version of this format.
        data: Name of the data set.
        source: Its data file.
        fingerprint: Of the data set.
        created: When the audit was made, ISO 8601.
        images: Images per split.
        pairs: Images that show the same; those of different splits first.
        recordings: Images that one recording made.
        same_labels: Images that do not show the same, but whose label files are equal, each with several boxes.
        without_labels: Images without a label file.
        not_compared: Images that could not be compared.
        warnings: What the check of the data set says.
    """

    schema: int
    data: str
    source: str
    fingerprint: str
    created: str
    images: dict[str, int]
    pairs: tuple[ImagePair, ...] = written(())
    recordings: tuple[Recording, ...] = written(())
    same_labels: tuple[tuple[str, ...], ...] = written(())
    without_labels: tuple[str, ...] = written(())
    not_compared: tuple[NotCompared, ...] = written(())
    warnings: tuple[str, ...] = written(())

    @property
    def leaks(self) -> tuple[ImagePair, ...]:
        """The pairs of different splits."""
        return tuple(pair for pair in self.pairs if pair.is_leak)

    @property
    def disagreeing(self) -> tuple[ImagePair, ...]:
        """The pairs whose labels differ."""
        return tuple(pair for pair in self.pairs if pair.labels_differ)

    @property
    def split_recordings(self) -> tuple[Recording, ...]:
        """The recordings whose images are in several splits."""
        return tuple(recording for recording in self.recordings if len(recording.splits) > 1)


def load_audit(folder: AuditFolder) -> AuditRecord | None:
    """Return what the audit of a data set found; None where there was none.

    Raises:
        ValueError: The file is damaged, or of another version; the message is one line.
    """
    try:
        record = from_json(json.loads(read_plain(folder.record, most=MOST_BYTES)), AuditRecord)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"it cannot be read ({error.strerror})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if record.schema != SCHEMA:
        raise ValueError(f"it has schema {record.schema}; this version knows {SCHEMA}")
    named = [name for pair in record.pairs for name in (pair.first, pair.second)]
    named += [name for recording in record.recordings for name in recording.images]
    if odd := next((name for name in named if name.count("/") < 2), None):
        raise ValueError(f"it names {odd!r}, which is no images/<split>/<name>")
    return record


def split_of(image: str) -> str:
    """Return the split of an image by its name, `images/<split>/<name>`."""
    return image.split("/", 2)[1]


def grouped(record: AuditRecord) -> dict[str, str]:
    """Return the group of each image that belongs with another one: the name of the first image of its group."""
    leader: dict[str, str] = {}

    def first_of(image: str) -> str:
        while (above := leader.setdefault(image, image)) != image:
            leader[image] = leader[above]
            image = above
        return image

    sets: list[Sequence[str]] = [(pair.first, pair.second) for pair in record.pairs]
    for images in [*sets, *(recording.images for recording in record.recordings)]:
        for image in images[1:]:
            one, other = sorted((first_of(images[0]), first_of(image)))
            leader[other] = one
    return {image: first_of(image) for image in sorted(leader)}
