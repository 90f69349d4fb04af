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

    `conf`, `hit` and `image` have shape (n,), `true_image` (t,).
    """

    conf: np.ndarray
    hit: np.ndarray
    image: np.ndarray
    true_image: np.ndarray

    def curves(self, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        """Precision and recall at each of `CONFIDENCES`; None where no true object is left. `weight` is (I,)."""
        objects = weight[self.true_image].sum()
        if not objects:
            return None
        times = weight[self.image]
        hit = np.repeat(self.hit, times)
        if not len(hit):
            return np.zeros_like(CONFIDENCES), np.zeros_like(CONFIDENCES)
        falling = -np.repeat(self.conf, times)
        true = hit.cumsum()
        precision = np.interp(-CONFIDENCES, falling, true / np.arange(1, len(hit) + 1), left=1)
        return precision, np.interp(-CONFIDENCES, falling, true / (objects + TINY), left=0)


@dataclass(frozen=True)
class WeightedBestF1:
    """The detections of each class that has true objects.

    Attributes:
        images: I.
        is_recall: Whether recall is asked for, and not precision.
    """

    images: int
    classes: tuple[_OfClass, ...]
    is_recall: bool

    @classmethod
    def of(cls, predictions: Predictions, *, is_recall: bool) -> WeightedBestF1:
        """Sort an evaluation's predictions."""
        rank = image_rank(predictions)
        classes = []
        order = np.argsort(-predictions.conf, kind="stable")
        for which in np.unique(predictions.true_cls):
            own = order[predictions.cls[order] == which]
            true_image = rank[predictions.true_image[predictions.true_cls == which]]
            classes.append(
                _OfClass(predictions.conf[own], predictions.hit[own, 0], rank[predictions.image[own]], true_image)
            )
        return cls(len(predictions.names), tuple(classes), is_recall)

    @property
    def load(self) -> int:
        """Numbers that one resample works on."""
        return self.images + sum(len(one.conf) + len(one.true_image) + 4 * len(CONFIDENCES) for one in self.classes)

    def accuracy(self, weights: np.ndarray) -> np.ndarray:
        """The mean over classes with each image counted so many times; as `WeightedCurves.accuracy`."""
        return np.array([self._of(weight) for weight in weights])

    def _of(self, weight: np.ndarray) -> float:
        curves = [found for one in self.classes if (found := one.curves(weight)) is not None]
        if not curves:
            return float("nan")
        precision, recall = (np.array(parts) for parts in zip(*curves, strict=True))
        f1 = (2 * precision * recall / (precision + recall + TINY)).mean(axis=0)
        ends = np.pad(f1, WINDOW // 2, mode="edge")
        best = np.convolve(ends, np.full(WINDOW, 1 / WINDOW), mode="valid").argmax()
        return float((recall if self.is_recall else precision)[:, best].mean())
