"""Divide images into folds that are alike in size and in objects of each class, with whole groups of images together.

Greedy, in the spirit of iterative stratification (Sechidis, Tsoumakas and Vlahavas 2011, On the stratification of
multi-label data, ECML PKDD, doi:10.1007/978-3-642-23808-6_10): what is hardest to place comes first, large groups and
then images with the rarest class, and each goes to the fold that lacks its classes most. There the fold with the
greatest need of the rarest class is taken; here that with the smallest sum of squared shares, over all classes and the
number of images, because an image has objects of several classes and a group several images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

VERSION: Final = 1
"""Goes up when the same images would be divided in another way: their trials are then others."""

WHOLE: Final = 10_000_000
"""What shares are parts of: whole numbers, so that every machine divides alike."""


@dataclass(frozen=True)
class _Unit:
    """Images that stay together.

    Attributes:
        images: Their indices, ascending by name.
        objects: Of each class, (C,).
        mark: A hash of their names, by which equal units are ordered.
    """

    images: tuple[int, ...]
    objects: npt.NDArray[np.int64]
    mark: str


def divide(
    names: Sequence[str], groups: Sequence[str], objects: npt.NDArray[np.int64], folds: int
) -> npt.NDArray[np.intp]:
    """Return the fold of each of I images, (I,), from 0 to folds - 1.

    The same for the same images in any order. Without groups the folds differ by one image at most.

    Args:
        names: Of the images, all different, (I,).
        groups: Of each image; images of one group stay together, (I,).
        objects: Of each class in each image, (I, C).
        folds: How many; at most as many as there are groups.
    """
    units = _units(names, groups, objects)
    totals = np.maximum(objects.sum(0), 1)
    images_with = (objects > 0).sum(0)

    def place(unit: _Unit) -> tuple[int, int, int, str]:
        rarest = int(images_with[unit.objects > 0].min(initial=len(names)))
        return -len(unit.images), rarest, -int(unit.objects.sum()), unit.mark

    share, whole = len(names) // folds, len(names) % folds
    fold_of = np.zeros(len(names), dtype=np.intp)
    sizes = np.zeros(folds, dtype=np.int64)
    held = np.zeros((folds, objects.shape[1]), dtype=np.int64)  # shares of the objects of each class
    for number, unit in enumerate(sorted(units, key=place)):
        size = len(unit.images)
        part = unit.objects * WHOLE // totals
        larger = whole - int((sizes > share).sum())  # folds that may still have one image more than the others
        room = sizes + size <= share + (1 if larger > 0 else 0)
        if len(units) - number <= int((sizes == 0).sum()):
            room = sizes == 0  # no fold stays empty
        elif not room.any():
            room = sizes == sizes.min()
        score = held @ part + objects.shape[1] * (sizes * WHOLE // len(names)) * (size * WHOLE // len(names))
        chosen = int(np.flatnonzero(room)[np.argmin(score[room])])
        fold_of[list(unit.images)] = chosen
        sizes[chosen] += size
        held[chosen] += part
    return fold_of


def _units(names: Sequence[str], groups: Sequence[str], objects: npt.NDArray[np.int64]) -> list[_Unit]:
    images: dict[str, list[int]] = {}
    for index in sorted(range(len(names)), key=names.__getitem__):
        images.setdefault(groups[index], []).append(index)
    return [
        _Unit(tuple(members), objects[members].sum(0), _mark([names[index] for index in members]))
        for members in images.values()
    ]


def _mark(names: Sequence[str]) -> str:
    return hashlib.sha256("\0".join(names).encode(errors="surrogateescape")).hexdigest()
