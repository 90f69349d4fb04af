"""How many images and boxes a training is to use, and how many it used: the two are held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ablate.data.catalogue import DataSet
from ablate.data.data_errors import DataError
from ablate.data.datafile import SPLITS, DataFile, read
from ablate.data.labels import parse_label, pose_columns


@dataclass(frozen=True)
class DataUse:
    """Images and boxes of a training, by split."""

    images: dict[str, int]
    instances: dict[str, int]


class ImagesUsed(NamedTuple):
    """Images of a training: those that it trains on, and those that it is evaluated on."""

    train: int
    val: int


def promised_use(data: DataSet, train: Mapping[str, Any]) -> DataUse:
    """What a training with these arguments is to use of a data set: all of it, or a fraction.

    Args:
        data: the data set, as it was when the trial was planned.
        train: Ultralytics' arguments; `fraction` (one for train, or a list by split) and `split` matter.

    Raises:
        DataError: there is no box in the fraction to train on; or a label file is wrong, which it was not when the data
            set was resolved.
    """
    images, instances = images_used(data, train)._asdict(), dict[str, int]()
    file = read(str(data.yaml))
    for part, split in _splits(train).items():
        count = images[part]
        instances[part] = data.instances[split] if count == data.images[split] else _boxes(file, split, count)
        if part == "train" and not instances[part]:
            words = f"the first {count} of {data.images[split]} images of split '{split}'"
            raise DataError(f"{data.source}: {words} have no boxes (train.fraction={train['fraction']})")
    return DataUse(images, instances)


def images_used(data: DataSet, train: Mapping[str, Any]) -> ImagesUsed:
    """How many images a training with these arguments trains on and is evaluated on."""
    fraction = train.get("fraction", 1.0)
    counts = {
        part: min(_count_of(_fraction_of(fraction, split), data.images[split]), data.images[split])
        for part, split in _splits(train).items()
    }
    return ImagesUsed(**counts)


def used_of(datasets: Mapping[str, Any]) -> DataUse:
    """What is in Ultralytics' own data sets, by split, after all that it drops."""
    return DataUse(
        {split: len(dataset.labels) for split, dataset in datasets.items()},
        {split: sum(len(label["cls"]) for label in dataset.labels) for split, dataset in datasets.items()},
    )


def _splits(train: Mapping[str, Any]) -> dict[str, str]:
    """The split that each part of a training reads."""
    return {"train": "train", "val": str(train.get("split", "val"))}


def _fraction_of(fraction: Any, split: str) -> float | int:
    """Ultralytics' rule: a single number is meant for train, a list for train, val, test."""
    if isinstance(fraction, list):
        place = SPLITS.index(split)
        fraction = fraction[place] if place < len(fraction) else 1.0
    elif split != "train":
        return 1.0
    return float(fraction) if fraction == 1 else fraction


def _count_of(fraction: float | int, images: int) -> int:
    return fraction if isinstance(fraction, int) else max(1, round(images * fraction))


def _boxes(file: DataFile, split: str, count: int) -> int:
    """Boxes in the first images of a split, in the order in which Ultralytics takes them."""
    boxes = 0
    for image in file.images(split)[:count]:
        if image.label.is_file():
            label = parse_label(image.label.read_bytes(), image.label, len(file.classes), pose_columns(file.extra))
            boxes += len(label.classes)
    return boxes
