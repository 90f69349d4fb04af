"""Precision and recall with each image counted so many times, at the confidence that has the highest mean F1.

As Ultralytics has them (`ap_per_class` of its metrics): for each class precision and recall at an IoU of 0.5 as curves
over 1000 confidences, between detections by straight lines; F1 of each class at each confidence, its mean over classes
smoothed by a moving average; precision and recall where that is highest, averaged over the classes with true objects.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.evaluation.weighted_curves import image_rank
from ablate.records.predictions import Predictions

CONFIDENCES = np.linspace(0, 1, 1000)
WINDOW = 101  # confidences that the moving average is over: a tenth of all, and odd
TINY = 1e-16


@dataclass(frozen=True)
class _OfClass:
    """The n detections of one class, by falling confidence, and its t true objects; images by their rank.

    Attributes:
        confidence: Of each detection, and 0 behind the last, (n + 1,).
        hit: Whether each finds a true object, and 0 behind the last, (n + 1,).
        image, true_image: Of each detection, (n,), and of each true object, (t,).
        above: How many detections have at least each of G confidences, (G,).
    """

    confidence: np.ndarray
    hit: np.ndarray
    image: np.ndarray
    true_image: np.ndarray
    above: np.ndarray

    @classmethod
    def of(cls, confidence: np.ndarray, hit: np.ndarray, image: np.ndarray, true_image: np.ndarray) -> _OfClass:
        """The detections, (n,) each, by falling confidence, and the true objects, (t,)."""
        above = np.searchsorted(-confidence, -CONFIDENCES, side="right")
        return cls(np.append(confidence, 0.0), np.append(hit, 0).astype(np.int64), image, true_image, above)

    def curves(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Precision and recall at each of G confidences, (R, G), NaN where no true object is left; weights (R, I).

        A confidence lies between two detections that are there: the last of the copies of the one above it, and the
        first copy of the one below it. Above all detections precision is 1 and recall 0, below all both stay.
        """
        objects = weights.take(self.true_image, axis=1).sum(axis=1)[:, None].astype(np.float64)
        objects[objects == 0] = np.nan
        times = weights.take(self.image, axis=1)
        number = times.shape[1]
        seen, true = _from_zero(times), _from_zero(times * self.hit[:-1])
        place = np.arange(number)
        last = np.full((len(times), number + 1), -1)
        last[:, 1:] = np.maximum.accumulate(np.where(times > 0, place, -1), axis=1)
        following = np.full((len(times), number + 1), number)
        following[:, :-1] = np.minimum.accumulate(np.where(times > 0, place, number)[:, ::-1], axis=1)[:, ::-1]
        passed, found = seen.take(self.above, axis=1), true.take(self.above, axis=1)
        one, other = last.take(self.above, axis=1), following.take(self.above, axis=1)
        high, low = self.confidence[one], self.confidence[other]
        share = np.divide(high - CONFIDENCES, high - low, out=np.zeros(high.shape), where=(one >= 0) & (other < number))
        next_found, is_above_all = found + self.hit[other], one < 0
        precision = _between(found / np.maximum(passed, 1), next_found / (passed + 1), share)
        precision[is_above_all] = 1.0
        recall = _between(found, next_found, share) / objects
        precision[seen[:, -1] == 0] = 0.0
        precision[np.isnan(objects[:, 0])] = np.nan
        return precision, recall


def _from_zero(counts: np.ndarray) -> np.ndarray:
    """Sums up to each of n places and before the first, (R, n + 1), of counts (R, n)."""
    sums = np.zeros((len(counts), counts.shape[1] + 1), dtype=np.int64)
    np.cumsum(counts, axis=1, out=sums[:, 1:])
    return sums


def _between(one: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return np.asarray(one + (other - one) * share)


@dataclass(frozen=True)
class WeightedBestF1:
    """The detections of each class that has true objects.

    Attributes:
        images: I.
        classes: Those with true objects.
        is_recall: Whether recall is asked for, and not precision.
    """

    images: int
    classes: tuple[_OfClass, ...]
    is_recall: bool

    @classmethod
    def of(cls, predictions: Predictions, *, is_recall: bool) -> WeightedBestF1:
        """Sort an evaluation's predictions."""
        rank = image_rank(predictions)
        order = np.argsort(-predictions.conf, kind="stable")
        classes = []
        for which in np.unique(predictions.true_cls):
            own = order[predictions.cls[order] == which]
            true_image = rank[predictions.true_image[predictions.true_cls == which]]
            of_class = (predictions.conf[own], predictions.hit[own, 0], rank[predictions.image[own]], true_image)
            classes.append(_OfClass.of(*of_class))
        return cls(len(predictions.names), tuple(classes), is_recall)

    @property
    def load(self) -> int:
        """Numbers that one resample works on."""
        detections = max((len(one.image) for one in self.classes), default=0)
        return self.images + detections + len(CONFIDENCES) * (1 + len(self.classes) // 4)

    def accuracy(self, weights: np.ndarray) -> np.ndarray:
        """The mean over classes with each image counted so many times; as `WeightedCurves.accuracy`."""
        if not self.classes:
            return np.full(len(weights), np.nan)
        precision, recall = (np.array(parts) for parts in zip(*(c.curves(weights) for c in self.classes), strict=True))
        f1 = 2 * precision * recall / (precision + recall + TINY)  # (C, R, G)
        answers = np.full(len(weights), np.nan)
        for row in range(len(weights)):
            present = np.isfinite(recall[:, row, 0])
            if present.any():
                ends = np.pad(f1[present, row].mean(axis=0), WINDOW // 2, mode="edge")
                best = np.convolve(ends, np.full(WINDOW, 1 / WINDOW), mode="valid").argmax()
                answers[row] = (recall if self.is_recall else precision)[present, row, best].mean()
        return answers
