"""Whether two images that show the same have the same boxes, and which label files are copies of each other."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from ablate.audit.confirming import Likeness
from ablate.audit.features import ImageFeatures
from ablate.data.data_errors import DataError
from ablate.data.image_listing import bounded_content
from ablate.data.scanning import MOST_LABEL_BYTES

LEAST_IOU: Final = 0.5
"""Overlap of two boxes that are taken for one."""

LEAST_VISIBLE: Final = 0.6
"""Part of a box in the common area from which on it is compared."""

LEAST_BOXES: Final = 2
"""Boxes of a label file from which on an equal one is no coincidence."""

Boxes = npt.NDArray[np.float64]


class LabelDifference(NamedTuple):
    """Boxes in the common area of two images: all, and those that only one of the two has."""

    boxes: int
    different: int


def boxes_of(path: Path) -> Boxes:
    """Return the boxes of a label file, checked before: class, x1, y1, x2, y2 in parts of the image, (B, 5)."""
    rows = []
    for line in _content(path).decode("utf-8-sig", errors="replace").splitlines():
        values = np.array(line.split(), np.float64)
        if len(values) > 6 and len(values) % 2 == 1:
            x, y = values[1::2], values[2::2]
            rows.append([values[0], x.min(), y.min(), x.max(), y.max()])
        elif len(values) >= 5:
            x, y, width, height = values[1:5]
            rows.append([values[0], x - width / 2, y - height / 2, x + width / 2, y + height / 2])
    return np.array(rows, np.float64).reshape(-1, 5)


def label_difference(
    first: Boxes, second: Boxes, sizes: tuple[ImageFeatures, ImageFeatures], laid: Likeness | None
) -> LabelDifference | None:
    """Return how many boxes of two images differ; None where one is turned, so that boxes cannot be compared.

    Args:
        first: Boxes of the first, (B, 5).
        second: Boxes of the second.
        sizes: Features of the two, for their sizes.
        laid: How they lie on each other; None where they are the same file.
    """
    size_1, size_2 = (np.array([each.width, each.height], np.float64) for each in sizes)
    if laid is None:
        matrix = np.array([[size_2[0] / size_1[0], 0, 0], [0, size_2[1] / size_1[1], 0]])
    else:
        matrix = laid.transform
    largest = np.abs(matrix[:, :2]).max()
    if np.sort(np.abs(matrix[:, :2]).ravel())[1] > 0.1 * largest:
        return None
    back = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))[:2]
    moved = _moved(first, matrix, size_1, size_2)
    visible = moved[_is_visible(moved)]
    others = second[_is_visible(_moved(second, back, size_2, size_1))]
    pairs = _matched(visible, others)
    return LabelDifference(len(visible) + len(others), len(visible) + len(others) - 2 * pairs)


def equal_label_files(labels: Mapping[str, Path], same: Iterable[tuple[str, str]]) -> tuple[tuple[str, ...], ...]:
    """Return the images with equal label files of several boxes, without those that show the same.

    Args:
        labels: Image -> its label file.
        same: Pairs of images that show the same.
    """
    images: dict[str, list[str]] = defaultdict(list)
    for image, path in labels.items():
        content = _content(path)
        if sum(bool(line.strip()) for line in content.splitlines()) >= LEAST_BOXES:
            images[hashlib.sha256(content).hexdigest()].append(image)
    alike: dict[str, set[str]] = defaultdict(set)
    for one, other in same:
        alike[one].add(other)
        alike[other].add(one)
    return tuple(kept for names in images.values() if len(kept := _without_copies(names, alike)) > 1)


def _without_copies(names: Sequence[str], alike: Mapping[str, set[str]]) -> tuple[str, ...]:
    kept: list[str] = []
    for name in names:
        if not any(other in alike.get(name, ()) for other in kept):
            kept.append(name)
    return tuple(kept)


def _content(path: Path) -> bytes:
    try:
        return bounded_content(path, MOST_LABEL_BYTES)
    except DataError:
        return b""


def _moved(boxes: Boxes, matrix: Boxes, size: Boxes, other: Boxes) -> Boxes:
    """Boxes of an image, (B, 5), where they lie on another."""
    x, y = boxes[:, [1, 3, 3, 1]] * size[0], boxes[:, [2, 2, 4, 4]] * size[1]
    points = np.einsum("ij,jbk->ibk", matrix[:, :2], np.stack([x, y])) + matrix[:, 2][:, None, None]
    x, y = points[0] / other[0], points[1] / other[1]
    return np.column_stack([boxes[:, 0], x.min(1), y.min(1), x.max(1), y.max(1)]).reshape(-1, 5)


def _is_visible(boxes: Boxes) -> npt.NDArray[np.bool_]:
    """Whether most of each box lies within the image."""
    whole = (boxes[:, 3] - boxes[:, 1]) * (boxes[:, 4] - boxes[:, 2])
    cut = np.clip(boxes[:, 1:], 0, 1)
    inside = (cut[:, 2] - cut[:, 0]) * (cut[:, 3] - cut[:, 1])
    return np.asarray(inside > LEAST_VISIBLE * whole)


def _matched(first: Boxes, second: Boxes) -> int:
    """How many boxes have a partner of their class among the others, each its own."""
    if not len(first) or not len(second):
        return 0
    a, b = np.clip(first[:, None, 1:], 0, 1), np.clip(second[None, :, 1:], 0, 1)
    sides = np.clip(np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2]), 0, None)
    both = sides.prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - both
    iou = np.where(first[:, None, 0] == second[None, :, 0], both / np.maximum(union, 1e-12), 0)
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-(iou >= LEAST_IOU).astype(float))
    return int((iou[rows, columns] >= LEAST_IOU).sum())
