"""Average precision from stored predictions: Ultralytics' own, to the last digit, and COCO's by the size of objects.

The two differ. Ultralytics interpolates precision linearly between the points of the curve and takes the area by
trapezoids, over all detections kept; COCO takes the precision at the next recall reached, over at most 100 detections
of a class in an image (https://cocodataset.org/#detection-eval; Lin et al. 2014). Sizes exist in COCO's form only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ablate.evaluation.boxes import areas, overlaps
from ablate.records.predictions import Predictions

RECALLS = np.linspace(0, 1, 101)
TINY = 1e-16
MOST = 100  # detections of one class in one image that count for COCO
SIZES = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}  # areas in pixels


@dataclass(frozen=True)
class AveragePrecision:
    """Average precisions of C classes at K thresholds of IoU.

    Attributes:
        classes: Classes that have true objects, (C,), rising.
        instances: True objects of each, (C,).
        ap: Average precision of each class at each threshold, (C, K), fractions.
        thresholds: Thresholds of IoU, (K,).
    """

    classes: np.ndarray
    instances: np.ndarray
    ap: np.ndarray
    thresholds: np.ndarray

    @cached_property
    def map50_95(self) -> float:
        """Mean over classes and thresholds; 0 without any true object, as Ultralytics has it."""
        return float(self.ap.mean()) if self.ap.size else 0.0

    @property
    def map50(self) -> float:
        """Mean over classes at the first threshold, 0.5."""
        return self._at(0)

    @property
    def map75(self) -> float:
        """Mean over classes at the sixth threshold, 0.75."""
        return self._at(5)

    def _at(self, threshold: int) -> float:
        return float(self.ap[:, threshold].mean()) if self.ap.size else 0.0


def ultralytics_ap(predictions: Predictions) -> AveragePrecision:
    """The average precisions that Ultralytics computes from these detections."""
    classes, instances = np.unique(predictions.true_cls, return_counts=True)
    order = np.argsort(-predictions.conf, kind="stable")
    ap = ap_of_ranked(predictions.hit[order], predictions.cls[order], predictions.true_cls)
    return AveragePrecision(classes, instances, ap, predictions.thresholds)


def ap_of_ranked(hit: np.ndarray, cls: np.ndarray, true_cls: np.ndarray) -> np.ndarray:
    """The average precision of each class that has true objects at each threshold, (C, K), rising classes.

    Args:
        hit: Whether each of N detections, by falling confidence, finds a true object at each threshold, (N, K).
        cls: Class of each detection, (N,).
        true_cls: Class of each true object, (T,).
    """
    classes, instances = np.unique(true_cls, return_counts=True)
    ap = np.zeros((len(classes), hit.shape[1] if hit.ndim > 1 else 0))
    for row, (which, count) in enumerate(zip(classes, instances, strict=True)):
        hits = hit[cls == which]
        if not len(hits):
            continue
        true = hits.cumsum(axis=0)
        recall = true / (count + TINY)
        precision = true / np.arange(1, len(hits) + 1)[:, None]
        ap[row] = [_area(recall[:, k], precision[:, k]) for k in range(ap.shape[1])]
    return ap


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Area under the envelope of a precision-recall curve, both of shape (n,), n > 0."""
    curve = np.concatenate(([0.0], recall, [recall[-1], 1.0]))
    envelope = np.concatenate(([1.0], precision, [0.0, 0.0]))
    envelope = np.maximum.accumulate(envelope[::-1])[::-1]
    return float(np.trapezoid(np.interp(RECALLS, curve, envelope), RECALLS))


@dataclass(frozen=True)
class CocoMatches:
    """Detections matched with true objects as COCO matches them, for each of the S sizes of `SIZES`.

    Attributes:
        matched: Whether each of N detections finds a true object at each of K thresholds, (S, K, N).
        left_out: Whether it counts neither as true nor as false, (S, K, N): it, or what it finds, is of another size.
        ignored: Whether each of T true objects is of another size, (S, T).
        counted: Whether a detection is among the most confident of its class and image, (N,).
    """

    matched: np.ndarray
    left_out: np.ndarray
    ignored: np.ndarray
    counted: np.ndarray


def coco_matches(predictions: Predictions) -> CocoMatches:
    """Match detections with true objects as COCO does, size by size. Areas are those of the original images."""
    boxes, true_boxes = predictions.pixels()
    areas_found, true_areas = areas(boxes), areas(true_boxes)
    ranges = np.array(list(SIZES.values()))
    ignored = (true_areas < ranges[:, :1]) | (true_areas > ranges[:, 1:])  # (sizes, T)
    outside = (areas_found < ranges[:, :1]) | (areas_found > ranges[:, 1:])  # (sizes, N)
    shape = (len(ranges), len(predictions.thresholds), len(predictions.cls))
    matched, left_out = np.zeros(shape, dtype=bool), np.zeros(shape, dtype=bool)
    counted = np.zeros(len(predictions.cls), dtype=bool)
    for detected, true in _pairs(predictions):
        counted[detected] = True
        if len(true):
            shared = overlaps(boxes[detected][:, None], true_boxes[true][None])
            matched[..., detected], left_out[..., detected] = _match(shared, ignored[:, true], predictions.thresholds)
    left_out |= ~matched & outside[:, None]
    return CocoMatches(matched, left_out, ignored, counted)


def coco_ap(predictions: Predictions) -> dict[str, float | None]:
    """COCO's AP (mean over classes and thresholds) of small, medium and large objects, by their boxes' areas.

    A size is None where no true object has it.
    """
    matches = coco_matches(predictions)
    matched, left_out, ignored = matches.matched, matches.left_out, matches.ignored
    order = np.flatnonzero(matches.counted)
    order = order[np.argsort(-predictions.conf[order], kind="stable")]
    cls = predictions.cls[order]
    answers: dict[str, float | None] = {}
    for size, name in enumerate(SIZES):
        classes, instances = np.unique(predictions.true_cls[~ignored[size]], return_counts=True)
        means = []
        for which, count in zip(classes, instances, strict=True):
            chosen = order[cls == which]
            true_found = (matched[size] & ~left_out[size])[:, chosen].cumsum(axis=1)
            false_found = (~matched[size] & ~left_out[size])[:, chosen].cumsum(axis=1)
            means += [_mean_precision(t, f, count) for t, f in zip(true_found, false_found, strict=True)]
        answers[name] = float(np.mean(means)) if means else None
    return answers


def _pairs(predictions: Predictions) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each image and class with detections: the most confident ones, and the true objects, as indices."""
    classes = 1 + max(predictions.cls.max(initial=0), predictions.true_cls.max(initial=0))
    key = predictions.image.astype(np.int64) * classes + predictions.cls
    true_key = predictions.true_image.astype(np.int64) * classes + predictions.true_cls
    order = np.lexsort((-predictions.conf, key))
    true_order = np.argsort(true_key, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(key[order]) > 0]) if len(order) else np.empty(0, dtype=int)
    for start, stop in zip(starts, [*starts[1:], len(order)][: len(starts)], strict=True):  # none without detections
        detected = order[start : min(stop, start + MOST)]
        first, last = (
            np.searchsorted(true_key[true_order], key[detected[0]], side="left"),
            np.searchsorted(true_key[true_order], key[detected[0]], side="right"),
        )
        yield detected, true_order[first:last]


def _match(shared: np.ndarray, ignored: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which detections, the most confident first, find a true object, and whether that is one to ignore.

    Args:
        shared: IoU of n detections with t true objects, (n, t).
        ignored: Whether each true object is out of a range of sizes, (sizes, t).
        thresholds: (K,).

    Returns:
        Two arrays of shape (sizes, K, n).
    """
    free = np.ones((len(ignored), len(thresholds), shared.shape[1]), dtype=bool)
    matched = np.zeros((len(ignored), len(thresholds), len(shared)), dtype=bool)
    left_out = np.zeros_like(matched)
    least = np.minimum(thresholds, 1 - 1e-10)
    for d in np.flatnonzero(shared.max(axis=1) >= least[0]):
        reached = free & (shared[d] >= least[:, None])
        wanted = reached & ~ignored[:, None]  # an object that counts goes before one that is ignored
        choice = np.where(wanted.any(axis=2, keepdims=True), wanted, reached)
        score = np.where(choice, shared[d], -1.0)
        best = score.shape[2] - 1 - score[..., ::-1].argmax(axis=2)  # the last of equal ones
        matches = choice.any(axis=2)
        size, threshold = np.nonzero(matches)
        free[size, threshold, best[matches]] = False
        matched[..., d] = matches
        left_out[..., d] = matches & np.take_along_axis(ignored, best, axis=1)
    return matched, left_out


def _mean_precision(true_found: np.ndarray, false_found: np.ndarray, count: int) -> float:
    """Mean over 101 recalls of the precision at the next recall reached; cumulative counts of shape (n,)."""
    if not len(true_found):
        return 0.0
    precision = true_found / (true_found + false_found + np.spacing(1))
    envelope = np.append(np.maximum.accumulate(precision[::-1])[::-1], 0.0)
    return float(envelope[np.searchsorted(true_found / count, RECALLS, side="left")].mean())
