"""The audit of a data set: features, candidates, a check of each, and what follows from them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Final, TypeVar

import cv2
import numpy as np

from ablate.audit.candidates import candidate_pairs
from ablate.audit.confirming import Likeness, likeness
from ablate.audit.feature_cache import FeatureCache
from ablate.audit.features import Bytes, ImageFeatures, features_of, grey_image
from ablate.audit.label_checks import Boxes, boxes_of, equal_label_files, label_difference
from ablate.audit.recordings import find_recordings, neighbours
from ablate.data.catalogue import DataSet
from ablate.data.data_errors import DataError
from ablate.data.datafile import read
from ablate.data.image_listing import bounded_content
from ablate.data.images import quiet_decoders
from ablate.data.scanning import MOST_IMAGE_BYTES
from ablate.records.audit_record import SCHEMA, AuditRecord, ImagePair, NotCompared, PairKind

COPY_OVERLAP: Final = 0.75
"""Common area, as part of the smaller image, from which on two images are copies."""

COPY_CORRELATION: Final = 0.9
"""Median correlation of the blocks from which on two images are copies, whose labels ought to be the same."""

_BATCH: Final = 64  # images after which their features are kept
_IMAGES_IN_MEMORY: Final = 1024

Item = TypeVar("Item")

Report = Callable[[str, int, int], None]
"""Told the step, how much of it is done, and of how much."""


@dataclass(frozen=True)
class AuditedImage:
    """An image of a data set.

    Attributes:
        name: `images/<split>/<name>`.
        path: Its file.
        label: Its label file, which may not exist.
    """

    name: str
    path: Path
    label: Path


@dataclass(frozen=True)
class _Compared:
    """Images with their features and the SHA-256 of their files, one list each."""

    images: list[AuditedImage]
    features: list[ImageFeatures]
    digests: list[str]


def images_of(data: DataSet) -> list[AuditedImage]:
    """Return the images of a data set that a training can use, by split and name."""
    file = read(str(data.yaml))
    top = data.yaml.parent
    return [
        AuditedImage(image.path.relative_to(top).as_posix(), image.path, image.label)
        for split in file.splits
        for image in file.images(split)
    ]


def audit(data: DataSet, report: Report = lambda step, done, total: None) -> AuditRecord:
    """Find copies, leaks, recordings and odd labels in a data set.

    Args:
        data: The data set; its files are read, none is written.
        report: Told how far the audit is.
    """
    images = images_of(data)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # images are spread over threads of ours
    try:
        with quiet_decoders(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
            compared, not_compared = _features(images, pool, report)
            pairs = _pairs(compared, pool, report)
    finally:
        cv2.setNumThreads(threads)
    names = [image.name for image in compared.images]
    place = {name: index for index, name in enumerate(names)}
    same = [(place[pair.first], place[pair.second]) for pair in pairs]
    return AuditRecord(
        schema=SCHEMA,
        data=data.name,
        source=str(data.source),
        fingerprint=data.fingerprint,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        images=dict(data.images),
        pairs=tuple(sorted(pairs, key=lambda pair: (not pair.is_leak, pair.first, pair.second))),
        recordings=find_recordings(names, compared.features, same),
        same_labels=equal_label_files(
            {image.name: image.label for image in images}, [(pair.first, pair.second) for pair in pairs]
        ),
        without_labels=tuple(image.name for image in images if not image.label.is_file()),
        not_compared=tuple(not_compared),
        warnings=tuple(data.warnings),
    )


def _features(
    images: Sequence[AuditedImage], pool: ThreadPoolExecutor, report: Report
) -> tuple[_Compared, list[NotCompared]]:
    compared, odd = _Compared([], [], []), []
    cache = FeatureCache()
    try:
        for number, part in enumerate(_parts(images, _BATCH)):
            report("reading images", number * _BATCH, len(images))
            contents = list(pool.map(lambda image: _content(image.path), part))
            digests = [hashlib.sha256(content).hexdigest() for content in contents]
            known = {digest: features for digest in digests if (features := cache.get(digest)) is not None}
            missing = {d: c for d, c in zip(digests, contents, strict=True) if d not in known}
            fresh = dict(zip(missing, pool.map(features_of, missing.values()), strict=True))
            computed = {digest: features for digest, features in fresh.items() if features is not None}
            cache.put(computed)
            for image, digest in zip(part, digests, strict=True):
                features = known.get(digest) or computed.get(digest)
                if features is None:
                    odd.append(NotCompared(image.name, "it cannot be decoded"))
                    continue
                if features.is_flat:
                    odd.append(NotCompared(image.name, "it shows one colour: compared byte for byte only"))
                compared.images.append(image)
                compared.features.append(features)
                compared.digests.append(digest)
    finally:
        cache.close()
    report("reading images", len(images), len(images))
    return compared, odd


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _content(path: Path) -> bytes:
    try:
        return bounded_content(path, MOST_IMAGE_BYTES)
    except DataError:
        return b""


def _pairs(compared: _Compared, pool: ThreadPoolExecutor, report: Report) -> list[ImagePair]:
    """The pairs that show the same."""
    images, features = compared.images, compared.features
    found = dict.fromkeys(_same_files(compared.digests))
    report("looking for candidates", 0, 1)
    candidates = _candidates(compared, found)
    read_grey = lru_cache(maxsize=_IMAGES_IN_MEMORY)(lambda index: grey_image(_content(images[index].path)))

    def check(candidate: tuple[int, int, bool]) -> Likeness | None:
        first, second, is_mirrored = candidate

        def both() -> tuple[Bytes, Bytes] | None:
            one, two = read_grey(first), read_grey(second)
            return None if one is None or two is None else (one, two)

        return likeness(features[first], features[second], both, is_mirrored)

    laid: dict[tuple[int, int], Likeness] = {}
    for number, part in enumerate(_parts(candidates, 16 * _BATCH)):
        report("comparing candidates", number * 16 * _BATCH, len(candidates))
        for (first, second, _), result in zip(part, pool.map(check, part), strict=True):
            before = laid.get((first, second))
            if result is not None and (before is None or result.agreement > before.agreement):
                laid[first, second] = result
    report("comparing candidates", len(candidates), len(candidates))
    boxes = lru_cache(maxsize=None)(lambda index: boxes_of(images[index].label))
    return [_pair(compared, pair, found_laid, boxes) for pair, found_laid in {**found, **laid}.items()]


def _candidates(compared: _Compared, found: Mapping[tuple[int, int], None]) -> list[tuple[int, int, bool]]:
    """Pairs that are worth a check, and whether the first is mirrored; files that are the same are not among them."""
    pairs = candidate_pairs(compared.features)
    follow = [(one, other, 0) for one, other in neighbours([image.name for image in compared.images])]
    every = np.unique(np.concatenate([pairs, np.array(follow, np.int64).reshape(-1, 3)]), axis=0)
    return [(one, other, bool(mirrored)) for one, other, mirrored in every.tolist() if (one, other) not in found]


def _same_files(digests: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Files that are equal byte for byte: each with the first of its kind."""
    first: dict[str, int] = {}
    for index, digest in enumerate(digests):
        if first.setdefault(digest, index) != index:
            yield first[digest], index


def _pair(
    compared: _Compared, pair: tuple[int, int], laid: Likeness | None, boxes: Callable[[int], Boxes]
) -> ImagePair:
    first, second = pair
    names = (compared.images[first].name, compared.images[second].name)
    sizes = (compared.features[first], compared.features[second])
    kind: PairKind = "same file"
    if laid is not None:
        kind = "copy" if laid.overlap >= COPY_OVERLAP and laid.correlation >= COPY_CORRELATION else "overlap"
    difference = None if kind == "overlap" else label_difference(boxes(first), boxes(second), sizes, laid)
    return ImagePair(
        *names,
        kind,
        agreement=1.0 if laid is None else round(laid.agreement, 3),
        correlation=1.0 if laid is None else round(laid.correlation, 3),
        overlap=1.0 if laid is None else round(laid.overlap, 3),
        is_mirrored=laid is not None and laid.is_mirrored,
        labels_differ=None if difference is None else difference.different,
        boxes=None if difference is None else difference.boxes,
        area=() if laid is None else _area(laid, sizes),
    )


def _area(laid: Likeness, sizes: tuple[ImageFeatures, ImageFeatures]) -> tuple[tuple[float, float], ...]:
    first, second = sizes
    corners = np.array([[0, 0], [first.width, 0], [first.width, first.height], [0, first.height]], np.float64)
    points = (corners @ laid.transform[:, :2].T + laid.transform[:, 2]) / (second.width, second.height)
    return tuple((round(float(x), 4), round(float(y), 4)) for x, y in points)
