"""One pass over a data set: is each file sound, what is in it, its fingerprint; remembered until a change."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from ablate.data.cache import cache_dir
from ablate.data.data_errors import DataError, printable
from ablate.data.datafile import DataFile, Image
from ablate.data.image_listing import bounded_content
from ablate.data.images import decoders, image_problem, quiet_decoders
from ablate.data.labels import LabelFile, parse_label
from ablate.errors import count
from ablate.storage.files import atomic_write_text

VERSION: Final = 1
"""Part of every fingerprint: goes up when the same content is to be taken for another data set."""

MEMORY_VERSION: Final = 3
"""Goes up when the checks, or what is remembered of them, change; older memories are then not used."""

clock = time.time
"""Seconds since 1970; a name of its own so that a test can let time pass."""

UNREADABLE: Final = "cannot be read"
"""Why an image cannot be used whose file the system does not give; it may at another time."""

MOST_IMAGE_BYTES: Final = 2**30
MOST_LABEL_BYTES: Final = 8 * 2**20

_RACY_SECONDS = 2.0  # a file changed this recently could change again without a new time of change


@dataclass
class Scan:
    """What one pass over a data set found."""

    fingerprint: str
    """SHA-256 over class names, splits, and names and bytes of images and labels; not over where they lie."""
    images: dict[str, int] = field(default_factory=dict)
    """Usable images per split."""
    instances: dict[str, int] = field(default_factory=dict)
    """Boxes of the usable images per split."""
    per_class: dict[str, list[int]] = field(default_factory=dict)
    """The same boxes per split and class."""
    warnings: list[str] = field(default_factory=list)
    unusable: dict[str, dict[str, str]] = field(default_factory=dict)
    """Split -> name of an image that a training cannot use -> why."""
    state: str = ""
    """Hash over what tells of a change to any file: another one as soon as a file was written to."""

    def usable(self, images: dict[str, list[Image]]) -> dict[str, list[Image]]:
        """The images per split without those that a training cannot use."""
        return {
            split: [image for image in listed if image.name not in self.unusable[split]]
            for split, listed in images.items()
        }


NO_BOXES: Final = LabelFile(())


@dataclass(frozen=True)
class _Seen:
    """One image with its label, read and checked."""

    image: Image
    image_hash: str | None
    """None where the file cannot be read."""
    problem: str
    """Why a training cannot use the image; empty where it can."""
    label_hash: str | None
    """None where there is no label file."""
    label: LabelFile = NO_BOXES
    error: str = ""
    """What is wrong with the label file; empty where nothing is."""


def scan(data: DataFile, images: dict[str, list[Image]]) -> Scan:
    """Check and count every file of a data set, or recall it while no file has changed.

    Raises:
        DataError: the first file that is not sound; train or val without any box.
    """
    key, newest = _state(data, images)
    memory = cache_dir() / "scans" / f"{key}.json"
    try:
        return Scan(**{**json.loads(memory.read_text(encoding="utf-8")), "state": key})
    except (OSError, ValueError, TypeError):
        pass
    started = clock()
    scanned = _scan(data, images)
    scanned.state = key
    settled = started - newest > _RACY_SECONDS
    if settled and not any(UNREADABLE in reason for split in scanned.unusable.values() for reason in split.values()):
        atomic_write_text(memory, json.dumps(asdict(scanned), indent=1))
    return scanned


def _state(data: DataFile, images: dict[str, list[Image]]) -> tuple[str, float]:
    """A hash over what tells of a change to any file, and the latest time of change in seconds.

    The time of modification can be set back (`touch -r`, `rsync -t`, `cp -p` over a file) and the size stay; the time
    of change and the inode cannot. Where a file system has no time of change, the system gives some other time.
    """
    memory = (MEMORY_VERSION, decoders(), str(data.path), data.classes, sorted(data.extra.items()))
    digest = hashlib.sha256(repr(memory).encode())
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
    def look(image: Image) -> _Seen:
        try:
            content = bounded_content(image.path, MOST_IMAGE_BYTES)
        except DataError as error:
            image_hash, problem = None, str(error).removeprefix(printable(f"{image.path}: the file "))
            if UNREADABLE not in problem:
                problem = f"{UNREADABLE}: {problem.removeprefix(printable(f'{image.path}: '))}"
        else:
            image_hash, problem = hashlib.sha256(content).hexdigest(), image_problem(content, image.path, data.channels)
        if not image.label.is_file():
            return _Seen(image, image_hash, problem, None)
        try:
            content = bounded_content(image.label, MOST_LABEL_BYTES)
        except DataError as error:
            return _Seen(image, image_hash, problem, None, error=str(error))
        label_hash = hashlib.sha256(content).hexdigest()
        if problem:
            return _Seen(image, image_hash, problem, label_hash)
        try:
            label = parse_label(content, image.label, len(data.classes), data.pose_columns)
        except DataError as error:
            return _Seen(image, image_hash, problem, label_hash, error=str(error))
        return _Seen(image, image_hash, problem, label_hash, label)

    scanned = Scan("", warnings=list(data.warnings))
    parts: list[Any] = [VERSION, data.classes, sorted(data.extra.items())]
    errors: list[str] = []
    hashes: dict[str, dict[str, str]] = {}
    with quiet_decoders(), ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        for split, listed in images.items():
            every = list(pool.map(look, listed))
            parts.append([split, [(s.image.name, s.image_hash, s.label_hash) for s in every]])
            errors += [s.error for s in every if s.error]
            scanned.unusable[split] = {s.image.name: s.problem for s in every if s.problem}
            seen = [s for s in every if not s.problem]
            counts = Counter(cls for s in seen for cls in s.label.classes)
            scanned.images[split] = len(seen)
            scanned.instances[split] = counts.total()
            scanned.per_class[split] = [counts[index] for index in range(len(data.classes))]
            scanned.warnings += _warnings(split, seen, scanned)
            hashes[split] = {str(s.image_hash): s.image.name for s in reversed(seen)}
    scanned.warnings[:0] = _left_out(scanned.unusable)  # where a reader of a few lines sees it
    scanned.warnings += _leaks(hashes)
    if errors:
        more = f" ({len(errors) - 1} more of its label files have errors)" if len(errors) > 1 else ""
        raise DataError(errors[0] + more)
    for split in ("train", "val"):
        if not scanned.images[split]:
            raise DataError(f"{data.path}: no image of split '{split}' can be used: {_first(scanned.unusable[split])}")
        if not scanned.instances[split]:
            first = images[split][0].label
            raise DataError(f"{data.path}: split '{split}' has no boxes; the first label file would be {first}")
    scanned.fingerprint = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return scanned


def _left_out(unusable: dict[str, dict[str, str]]) -> Iterable[str]:
    """Images that a training cannot use."""
    for split, reasons in unusable.items():
        if reasons:
            images = count(len(reasons), "image is", "images are")
            yield f"{split}: {images} left out, which a training cannot use: {_first(reasons)}"


def _first(unusable: dict[str, str], most: int = 3) -> str:
    """The first few images that cannot be used, each with the reason."""
    named = [f"{printable(name)} ({reason})" for name, reason in list(unusable.items())[:most]]
    more = len(unusable) - most
    return ", ".join(named) + (f" and {more} more" if more > 0 else "")


def _warnings(split: str, seen: list[_Seen], scanned: Scan) -> Iterable[str]:
    """What is odd in a split but does not stop a training."""
    empty = [(s.image.label.name, line) for s in seen for line in s.label.empty_boxes]
    if empty:
        boxes = count(len(empty), "box", "boxes")
        yield f"{split}: {boxes} without area (first: {printable(empty[0][0])}, line {empty[0][1]})"
    repeated = [s for s in seen if s.label.repeated]
    if repeated:
        boxes = count(sum(s.label.repeated for s in repeated), "repeated box", "repeated boxes")
        yield f"{split}: {boxes} left out (first: {printable(repeated[0].image.label.name)})"
    bare = [s for s in seen if s.label_hash is None]
    if bare:
        images = count(len(bare), "image", "images")
        yield f"{split}: {images} without a label file, taken as background (first: {printable(bare[0].image.name)})"
    copies = len(seen) - len({s.image_hash for s in seen})
    if copies:
        hashes = Counter(s.image_hash for s in seen)
        first = printable(next(s.image.name for s in seen if hashes[s.image_hash] > 1))
        yield f"{split}: {count(copies, 'image is a copy', 'images are copies')} of another (first: {first})"
    counts = scanned.per_class[split]
    if split != "test" and 0 in counts:
        yield f"{split}: {counts.count(0)} of {count(len(counts), 'class', 'classes')} without a box"


def _leaks(hashes: dict[str, dict[str, str]]) -> Iterable[str]:
    """Images that a model is tested on after it has learnt from them."""
    for split in ("val", "test"):
        both = [name for digest, name in hashes.get(split, {}).items() if digest in hashes["train"]]
        if both:
            images = count(len(both), "image is", "images are")
            yield f"{split}: {images} in train as well (first: {printable(min(both))})"


def passed_over(data: DataFile, images: dict[str, list[Image]]) -> list[str]:
    """Files beside the images and labels that a training takes no notice of, one sentence for each kind and split.

    Labels without an image are looked for where every split is a folder: a list may leave images out on purpose.
    """
    sentences = []
    for split in images:
        if others := data.other_images(split):
            files = count(len(others), "file has", "files have")
            sentences.append(f"{split}: {files} the ending of no image that is read (first: {printable(others[0])})")
        if again := data.listed_again(split):
            named = count(len(again), "image is", "images are")
            sentences.append(
                f"{split}: {named} listed more than once, taken once (first: {printable(_name(again[0]))})"
            )
    if not data.has_lists():
        used = {str(image.label) for listed in images.values() for image in listed}
        used |= {f"{os.path.dirname(path)}{os.sep}classes.txt" for path in used}  # noqa: PTH120 - as labelling tools write it
        for split, listed in images.items():
            folders = {os.path.dirname(image.label) for image in listed}  # noqa: PTH120
            bare = [
                name for folder in sorted(folders) for name in _texts(folder) if f"{folder}{os.sep}{name}" not in used
            ]
            if bare:
                files = count(len(bare), "label file", "label files")
                sentences.append(f"{split}: {files} without an image (first: {printable(bare[0])})")
    return list(dict.fromkeys(sentences))


def _texts(folder: str) -> list[str]:
    """Names of the text files in a folder, in order; none where there is no such folder."""
    try:
        return sorted(name for name in os.listdir(folder) if name.endswith(".txt"))  # noqa: PTH208
    except OSError:
        return []


def _name(path: str) -> str:
    return path.rpartition(os.sep)[2]
