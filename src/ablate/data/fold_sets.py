"""The folds of a data set: its images of train and val in as many parts, each with a view of its own.

In the view of a fold its own images are the split val, and all others are the split train; there is no split test.
An image is called `images/val/<split that it comes from>/<name>`. Which image is in which fold follows from the content
of the data set, the number of folds and the groups, and from nothing else: it is the same for every variant and seed.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from ablate.data.cache import cache_dir
from ablate.data.catalogue import DataSet, FoldOf
from ablate.data.data_errors import DataError, printable
from ablate.data.datafile import DataFile, Image, read
from ablate.data.groups import ImageGroups
from ablate.data.labels import parse_label
from ablate.data.stratified_folds import VERSION, divide
from ablate.data.view import ensure_view, state_of
from ablate.errors import count
from ablate.storage.files import atomic_write_text

POOL: Final = ("train", "val")
"""The splits whose images are divided; test stays sealed."""

UNEVEN: Final = 1.5
"""How many times as large as the smallest fold the largest is where a warning says so."""


@dataclass(frozen=True)
class Division:
    """A data set divided into folds.

    Attributes:
        data: The data set.
        file: Its data file.
        images: Of train and val, by name, ascending; (I,).
        fold_of: The fold of each of them, (I,).
        objects: Of each class in each fold, (folds, C).
        groups: How many images each group of several has, descending; None where each image is on its own.
    """

    data: DataSet
    file: DataFile
    images: tuple[Image, ...]
    fold_of: npt.NDArray[np.intp]
    objects: npt.NDArray[np.int64]
    groups: tuple[int, ...] | None

    @property
    def sizes(self) -> list[int]:
        """How many images each fold has."""
        return [int(size) for size in np.bincount(self.fold_of, minlength=len(self.objects))]

    @property
    def assignment(self) -> str:
        """Hash of which image is in which fold."""
        lines = "\n".join(f"{fold}\0{image.name}" for fold, image in zip(self.fold_of, self.images, strict=True))
        return hashlib.sha256(lines.encode(errors="surrogateescape")).hexdigest()[:16]

    @property
    def in_words(self) -> str:
        """How the images are divided, in a clause."""
        low, high = min(self.sizes), max(self.sizes)
        size = count(low, "image") if low == high else f"{low} to {high} images"
        groups = ""
        if self.groups is not None:
            number = count(len(self.groups), "group")
            kept = f"{number} of {_range(self.groups)} images kept whole" if self.groups else "no two belong together"
            groups = f"; {kept}"
        return (
            f"{self.data.name}: {len(self.images)} images of train and val in {len(self.sizes)} folds of {size}{groups}"
        )

    @property
    def warnings(self) -> list[str]:
        """What is odd in it, one sentence each."""
        return [*self._uneven, *self._missing]

    @property
    def _uneven(self) -> list[str]:
        low, high = min(self.sizes), max(self.sizes)
        if high <= UNEVEN * low:
            return []
        return [
            f"folds: {low} to {high} images, as groups are large; the test over folds takes folds to be equally large"
        ]

    @property
    def _missing(self) -> list[str]:
        missing = [index for index in np.flatnonzero((self.objects == 0).any(0)) if self.objects[:, index].any()]
        if not missing:
            return []
        name = printable(self.data.classes[missing[0]])
        where = ", ".join(str(fold) for fold in np.flatnonzero(self.objects[:, missing[0]] == 0))
        classes = count(len(missing), "class has", "classes have")
        return [f"folds: {classes} no box in some folds (first: {name} in {where}), so folds average other classes"]


def divided(data: DataSet, folds: int, groups: ImageGroups | None) -> Division:
    """Divide a data set into folds.

    Args:
        data: The data set.
        folds: How many.
        groups: Images that stay together; None where each is on its own.

    Raises:
        DataError: There are too few images, groups or boxes, or one group is more than half of all.
    """
    file = read(str(data.yaml))
    images = _pool(data, file)
    names = [image.name for image in images]
    group_of = list(names) if groups is None else _groups(data, groups, names)
    sizes = Counter(group_of)
    _check(data, folds, groups, sizes)
    fold_of, objects = _remembered(data, file, images, group_of, folds)
    for fold in range(folds):
        held, rest = objects[fold].sum(), np.delete(objects, fold, axis=0).sum()
        if not held or not rest:
            where = "all but" if held else "the images of"
            raise DataError(f"folds={folds}: {where} fold {fold} of {data.name} have no box; take fewer folds")
    several = tuple(sorted((size for size in sizes.values() if size > 1), reverse=True))
    return Division(data, file, images, fold_of, objects, None if groups is None else several)


def fold_set(division: Division, index: int) -> DataSet:
    """Return the data set of one fold, whose view is made where it is not there yet."""
    data, file = division.data, division.file
    held = division.fold_of == index
    parts = {"train": np.flatnonzero(~held), "val": np.flatnonzero(held)}
    images = {split: [_below_all(division.images[place]) for place in places] for split, places in parts.items()}
    other = np.delete(division.objects, index, axis=0).sum(0)
    objects = {"train": other, "val": division.objects[index]}
    fold = FoldOf(data, index, division.assignment)
    mark = hashlib.sha256(f"{data.fingerprint} {fold.assignment} {index}".encode()).hexdigest()
    return replace(
        data,
        yaml=ensure_view(file, images, mark, state_of(data.yaml.parent)),
        images={split: len(listed) for split, listed in images.items()},
        instances={split: int(counts.sum()) for split, counts in objects.items()},
        instances_per_class={split: [int(number) for number in counts] for split, counts in objects.items()},
        warnings=[*data.warnings, *division.warnings],
        fold=fold,
    )


def check_data_of_groups(groups: ImageGroups, data: DataSet) -> None:
    """Check that groups that `split=` asks for were not made for another data set.

    Raises:
        DataError: They were.
    """
    if groups.fingerprint not in ("", data.fingerprint):
        raise DataError(f"split: these groups were made for another data set than {data.name}")


def _pool(data: DataSet, file: DataFile) -> tuple[Image, ...]:
    """The images of train and val, named by their place in the data set's view, by name."""
    top = data.yaml.parent
    images = [replace(image, name=_place(image.path, top)) for split in POOL for image in file.images(split)]
    return tuple(sorted(images, key=lambda image: image.name))


def _below_all(image: Image) -> Image:
    """An image named by its place below the folder of all images; links of a fold lead to those of the whole view.

    Folders that the whole view has renamed (see `view.ensure_view`) are called what they were, to be renamed once.
    """
    parts = image.name.removeprefix("images/").split("/")
    return replace(image, name="/".join(part[:-1] if part.rstrip("_") == "images" else part for part in parts))


def _place(path: Path, top: Path) -> str:
    return path.relative_to(top).as_posix()


def _groups(data: DataSet, groups: ImageGroups, names: Sequence[str]) -> list[str]:
    check_data_of_groups(groups, data)
    if groups.fingerprint == "" and not any(name in groups.groups for name in names):
        raise DataError(f"split: {groups.source} names none of the images of {data.name}, such as {names[0]}")
    return [groups.group_of(name) for name in names]


def _check(data: DataSet, folds: int, groups: ImageGroups | None, sizes: Mapping[str, int]) -> None:
    images = sum(sizes.values())
    if folds > images:
        raise DataError(f"folds={folds}: {data.name} has {count(images, 'image')} in train and val")
    if folds > len(sizes):
        raise DataError(
            f"folds={folds}: the {images} images of train and val of {data.name} are {count(len(sizes), 'group')}, "
            "each of which stays in one fold"
        )
    largest = max(sizes, key=lambda group: (sizes[group], group))
    if groups is not None and 2 * sizes[largest] > images:
        raise DataError(
            f"split: group {printable(largest)} has {sizes[largest]} of the {images} images of {data.name}, more than "
            "half of them: no other fold could be as large"
        )


def _remembered(
    data: DataSet, file: DataFile, images: Sequence[Image], groups: Sequence[str], folds: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.int64]]:
    """Return the fold of each image, (I,), and the objects of each class in each fold, (folds, C).

    They follow from the content, which the fingerprint stands for, so they are computed once.
    """
    content = json.dumps([VERSION, data.fingerprint, folds, [image.name for image in images], list(groups)])
    memory = cache_dir() / "folds" / f"{hashlib.sha256(content.encode()).hexdigest()}.json"
    try:
        kept = json.loads(memory.read_text(encoding="utf-8"))
        fold_of = np.array(kept["fold_of"], dtype=np.intp)
        objects = np.array(kept["objects"], dtype=np.int64)
        if fold_of.shape == (len(images),) and objects.shape == (folds, len(file.classes)):
            return fold_of, objects
    except (OSError, ValueError, TypeError, KeyError):
        pass
    counts = np.array([_objects(image, file) for image in images], dtype=np.int64)
    fold_of = divide([image.name for image in images], groups, counts, folds)
    objects = np.array([counts[fold_of == fold].sum(0) for fold in range(folds)])
    atomic_write_text(memory, json.dumps({"fold_of": fold_of.tolist(), "objects": objects.tolist()}))
    return fold_of, objects


def _objects(image: Image, file: DataFile) -> npt.NDArray[np.int64]:
    """How many boxes of each class an image has, (C,)."""
    if not image.label.is_file():
        return np.zeros(len(file.classes), dtype=np.int64)
    label = parse_label(image.label.read_bytes(), image.label, len(file.classes), file.pose_columns)
    return np.bincount(np.array(label.classes, dtype=np.int64), minlength=len(file.classes))


def _range(sizes: Sequence[int]) -> str:
    low, high = min(sizes), max(sizes)
    return str(low) if low == high else f"{low} to {high}"
