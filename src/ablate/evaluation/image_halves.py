"""Accuracy on two fixed halves of the images: an epoch that is chosen on one half can be judged on the other."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ablate.data.stratified_folds import divide
from ablate.evaluation.average_precision import ap_of_ranked


def second_half(names: Sequence[str], classes: Sequence[np.ndarray]) -> np.ndarray:
    """Return which of I images are in the second half, (I,), bool; the halves differ by one image at most.

    Which half an image is in depends on the names and the objects of the images only, so that it is the same for all
    epochs, variants and seeds. Images are sorted by their rarest class, those of one class by a hash of their names,
    and every other one is taken: both halves have as many images of a rare class, where it can be.

    Args:
        names: Of the images, all different.
        classes: Of the objects of each image.
    """
    present = [np.unique(objects).astype(int).tolist() for objects in classes]
    images_of = Counter(which for objects in present for which in objects)
    rarest = [min(objects, key=lambda which: (images_of[which], which), default=-1) for objects in present]
    hashes = [hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest() for name in names]
    order = sorted(range(len(names)), key=lambda image: (rarest[image], hashes[image]))
    second = np.zeros(len(names), dtype=bool)
    second[order[1::2]] = True
    return second


def second_half_of_groups(
    names: Sequence[str], classes: Sequence[np.ndarray], groups: Sequence[str]
) -> np.ndarray | None:
    """Return which of I images are in the second half, (I,), bool, where images of one group are in one half.

    As `second_half` it depends on names, objects and groups of the images only, in whatever order, and whatever the
    groups are called. The halves are as alike in size and in objects of each class as whole groups can be
    (`stratified_folds`). None where all images are of one group.

    Args:
        names: Of the images, all different.
        classes: Of the objects of each image.
        groups: Of each image.
    """
    if len(set(groups)) < 2:
        return None
    kinds = 1 + max((int(objects.max()) for objects in classes if len(objects)), default=0)
    counts = np.array([np.bincount(objects.astype(int), minlength=kinds) for objects in classes], dtype=np.int64)
    second: np.ndarray = divide(names, groups, counts, 2) == 1
    return second


class HalfAccuracies(NamedTuple):
    """Accuracies on the first and on the second half."""

    map50_95: tuple[float, float]
    map50: tuple[float, float]


def half_accuracies(
    second: np.ndarray,
    hits: Sequence[np.ndarray],
    confidences: Sequence[np.ndarray],
    detected: Sequence[np.ndarray],
    classes: Sequence[np.ndarray],
) -> HalfAccuracies:
    """Return mAP50-95 and mAP50 on each half of I images.

    Args:
        second: Which images are in the second half, (I,), bool.
        hits: For each image whether each of its n detections finds a true object at each threshold, (n, 10), bool.
        confidences: Of its detections, (n,).
        detected: Class of its detections, (n,).
        classes: Classes of its true objects.
    """
    of_half = [np.flatnonzero(second == half).tolist() for half in (False, True)]
    parts = []
    for images in of_half:
        confidence = _joined(confidences, images)
        order = np.argsort(-confidence, kind="stable")
        hit, cls = _joined(hits, images)[order], _joined(detected, images)[order]
        parts.append(ap_of_ranked(hit, cls, _joined(classes, images)))
    first, other = ((part.mean(), part[:, 0].mean()) if part.size else (0.0, 0.0) for part in parts)
    return HalfAccuracies((float(first[0]), float(other[0])), (float(first[1]), float(other[1])))


def _joined(parts: Sequence[np.ndarray], images: Sequence[int]) -> np.ndarray:
    return np.concatenate([parts[image] for image in images], 0) if images else np.empty(0)
