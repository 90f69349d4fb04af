"""Any metric with each image counted so many times, from stored predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from ablate.evaluation.average_precision import coco_matches
from ablate.evaluation.weighted_best_f1 import WeightedBestF1
from ablate.evaluation.weighted_curves import WeightedCurves
from ablate.records.predictions import Predictions
from ablate.settings.metric import METRICS, Metric


class WeightedAccuracy(Protocol):
    """An accuracy over I images."""

    @property
    def images(self) -> int:
        """I."""

    @property
    def load(self) -> int:
        """Numbers that one resample works on."""

    def accuracy(self, weights: np.ndarray) -> np.ndarray:
        """The accuracy, (R,), with each image counted so many times: weights by rank, (R, I), int32.

        NaN where no true object is left.
        """


@dataclass(frozen=True)
class _Mean:
    """The mean of several accuracies over the same images."""

    parts: Sequence[WeightedAccuracy]

    @property
    def images(self) -> int:
        return self.parts[0].images

    @property
    def load(self) -> int:
        return max(part.load for part in self.parts)

    def accuracy(self, weights: np.ndarray) -> np.ndarray:
        return np.asarray(np.mean([part.accuracy(weights) for part in self.parts], axis=0))


def weighted_accuracy(predictions: Predictions, metric: Metric) -> WeightedAccuracy:
    """The metric over the images of an evaluation."""
    if metric.size:
        return _Mean(WeightedCurves.of_size(predictions, coco_matches(predictions), metric.size))
    if metric.is_of_counts:
        return WeightedBestF1.of(predictions, is_recall=metric is METRICS["recall"])
    return WeightedCurves.of(predictions, metric.threshold)
