"""One pass over a data set: is each file sound, what is in it, its fingerprint; remembered until a change."""

from __future__ import annotations

import hashlib
import json
import os
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from ablate.data.cache import cache_dir
from ablate.data.datafile import DataFile, Image
from ablate.data.errors import DataError
from ablate.data.labels import LabelFile, check_image, parse_label
from ablate.files import atomic_write_text

VERSION: Final = 1
"""Part of every fingerprint: goes up when the same content is to be taken for another data set."""

MEMORY_VERSION: Final = 2
"""Goes up when the checks, or what is remembered of them, change; older memories are then not used."""

clock = time.time
"""Seconds since 1970; a name of its own so that a test can let time pass."""

_RACY_SECONDS = 2.0  # a file changed this recently could change again without a new time of change


@dataclass
class Scan:
    """What one pass over a data set found."""

    fingerprint: str
    """SHA-256 over class names, splits, and names and bytes of images and labels; not over where they lie."""
    images: dict[str, int] = field(default_factory=dict)
    """Images per split."""
    instances: dict[str, int] = field(default_factory=dict)
    """Boxes per split."""
    per_class: dict[str, list[int]] = field(default_factory=dict)
    """Boxes per split and class."""
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Seen:
    """One image with its label, read and checked."""

    image: Image
    image_hash: str
    label_hash: str | None
    label: LabelFile


def scan(data: DataFile, images: dict[str, list[Image]]) -> Scan:
    """Check and count every file of a data set, or recall it while no file has changed.

    Raises:
        DataError: the first file that is not sound; train or val without any box.
    """
    key, newest = _state(data, images)
    memory = cache_dir() / "scans" / f"{key}.json"
    try:
        return Scan(**json.loads(memory.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        pass
    started = clock()
    found = _scan(data, images)
    if started - newest > _RACY_SECONDS:
        atomic_write_text(memory, json.dumps(asdict(found), indent=1))
    return found


def _state(data: DataFile, images: dict[str, list[Image]]) -> tuple[str, float]:
    """A hash over what tells of a change to any file, and the latest time of change in seconds.

    The time of modification can be set back (`touch -r`, `rsync -t`, `cp -p` over a file) and the size stay; the time
    of change and the inode cannot. Where a file system has no time of change, the system gives some other time.
    """
    digest = hashlib.sha256(repr((MEMORY_VERSION, str(data.path), data.classes, sorted(data.extra.items()))).encode())
    newest = 0
    for split, listed in images.items():
        digest.update(f"\0{split}\0".encode())
        for image in listed:
            for path in (image.path, image.label):
                try:
                    stat = os.stat(path)  # noqa: PTH116 - twice per image
                except OSError:
                    digest.update(b"-\n")
                    continue
                newest = max(newest, stat.st_mtime_ns, stat.st_ctime_ns)
                marks = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
                digest.update(f"{path}\0{marks}\n".encode(errors="surrogateescape"))
    return digest.hexdigest(), newest / 1e9


def _scan(data: DataFile, images: dict[str, list[Image]]) -> Scan:
    keypoints: Any = data.extra.get("kpt_shape") or (0, 0)
    pose_columns = int(keypoints[0]) * int(keypoints[1])

    def look(image: Image) -> _Seen:
        content = _bytes(image.path)
        check_image(content, image.path)
        image_hash = hashlib.sha256(content).hexdigest()
        if not image.label.is_file():
            return _Seen(image, image_hash, None, LabelFile(()))
        content = _bytes(image.label)
        label = parse_label(content, image.label, len(data.classes), pose_columns)
        return _Seen(image, image_hash, hashlib.sha256(content).hexdigest(), label)

    found = Scan("", warnings=list(data.warnings))
    parts: list[Any] = [VERSION, data.classes, sorted(data.extra.items())]
    hashes: dict[str, dict[str, str]] = {}
    with warnings.catch_warnings(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        warnings.simplefilter("ignore")  # Pillow's, about very large images and odd metadata
        for split, listed in images.items():
            seen = list(pool.map(look, listed))
            parts.append([split, [(s.image.name, s.image_hash, s.label_hash) for s in seen]])
            counts = Counter(cls for s in seen for cls in s.label.classes)
            found.images[split] = len(seen)
            found.instances[split] = counts.total()
            found.per_class[split] = [counts[index] for index in range(len(data.classes))]
            found.warnings += _warnings(split, seen, found)
            hashes[split] = {s.image_hash: s.image.name for s in reversed(seen)}
    found.warnings += _leaks(hashes)
    for split in ("train", "val"):
        if not found.instances[split]:
            first = images[split][0].label
            raise DataError(f"{data.path}: split '{split}' has no boxes; the first label file would be {first}")
    found.fingerprint = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return found


def _warnings(split: str, seen: list[_Seen], found: Scan) -> Iterable[str]:
    """What is odd in a split but does not stop a training."""
    empty = [(s.image.label.name, line) for s in seen for line in s.label.empty_boxes]
    if empty:
        boxes = _count(len(empty), "box", "boxes")
        yield f"{split}: {boxes} without area (first: {empty[0][0]}, line {empty[0][1]})"
    repeated = [s for s in seen if s.label.repeated]
    if repeated:
        boxes = _count(sum(s.label.repeated for s in repeated), "repeated box", "repeated boxes")
        yield f"{split}: {boxes} left out (first: {repeated[0].image.label.name})"
    bare = [s for s in seen if s.label_hash is None]
    if bare:
        images = _count(len(bare), "image", "images")
        yield f"{split}: {images} without a label file, taken as background (first: {bare[0].image.name})"
    copies = len(seen) - len({s.image_hash for s in seen})
    if copies:
        hashes = Counter(s.image_hash for s in seen)
        first = next(s.image.name for s in seen if hashes[s.image_hash] > 1)
        yield f"{split}: {_count(copies, 'image is a copy', 'images are copies')} of another (first: {first})"
    counts = found.per_class[split]
    if split != "test" and 0 in counts:
        yield f"{split}: {counts.count(0)} of {_count(len(counts), 'class', 'classes')} without a box"


def _leaks(hashes: dict[str, dict[str, str]]) -> Iterable[str]:
    """Images that a model is tested on after it has learnt from them."""
    for split in ("val", "test"):
        both = [name for digest, name in hashes.get(split, {}).items() if digest in hashes["train"]]
        if both:
            images = _count(len(both), "image is", "images are")
            yield f"{split}: {images} in train as well (first: {min(both)})"


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the file cannot be read ({error.strerror})") from error


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"
