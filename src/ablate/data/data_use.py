"""How many images and boxes a training is to use, and how many it used: the two are held against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ablate.data.catalogue import DataSet
from ablate.data.data_errors import DataError
from ablate.data.datafile import SPLITS, DataFile, read
from ablate.data.labels import parse_label

Fraction = float | Sequence[float]  # of a split; a whole number other than 1 is a number of images


@dataclass(frozen=True)
class DataUse:
    """Images and boxes of a training, by split."""

    images: dict[str, int]
    instances: dict[str, int]


class ImagesUsed(NamedTuple):
    """Images of a training: those that it trains on, and those that it is evaluated on."""

    train: int
    val: int


def promised_use(data: DataSet, fraction: Fraction = 1.0, split: str = "val") -> DataUse:
    """What a training is to use of a data set: all of it, or a fraction.

    Args:
        data: the data set, as it was when the trial was planned.
        fraction: Ultralytics' argument: a part or a number of images, of train, or in a list of each split.
        split: the split on which it is evaluated.

    Raises:
        DataError: there is no box in the fraction to train on; or a label file is wrong, which it was not when the data
            set was resolved.
    """
    images = images_used(data, fraction, split)
    file = read(str(data.yaml))

    def boxes(name: str, count: int) -> int:
        return data.instances[name] if count == data.images[name] else _boxes(file, name, count)

    trained = boxes("train", images.train)
    if not trained:
        first = f"the first {images.train} of {data.images['train']} images of split 'train'"
        raise DataError(f"{data.source}: {first} have no boxes (train.fraction={fraction})")
    return DataUse(images._asdict(), {"train": trained, "val": boxes(split, images.val)})


def images_used(data: DataSet, fraction: Fraction = 1.0, split: str = "val") -> ImagesUsed:
    """How many images a training trains on and is evaluated on; the arguments are those of `promised_use`."""

    def count(name: str) -> int:
        return min(_count_of(_fraction_of(fraction, name), data.images[name]), data.images[name])

    return ImagesUsed(count("train"), count(split))


class _Labelled(Protocol):
    """An Ultralytics data set: for each image the arrays of its labels, by name."""

    labels: Sequence[Mapping[str, Sized]]


def used_of(datasets: Mapping[str, _Labelled]) -> DataUse:
    """What is in Ultralytics' own data sets, by split, after all that it drops."""
    return DataUse(
        {split: len(dataset.labels) for split, dataset in datasets.items()},
        {split: sum(len(label["cls"]) for label in dataset.labels) for split, dataset in datasets.items()},
    )


def _fraction_of(fraction: Fraction, split: str) -> float | int:
    """Ultralytics' rule: a single number is meant for train, a list for train, val, test."""
    if isinstance(fraction, Sequence):
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
            label = parse_label(image.label.read_bytes(), image.label, len(file.classes), file.pose_columns)
            boxes += len(label.classes)
    return boxes
