"""Average precision with each image counted so many times: what the bootstrap over images computes for every resample.

Nothing is copied for a resample: with detections in the order of their confidence, the counts of true and of all
detections up to each of them are sums of their images' counts, and only where a detection is true does recall move.
Both forms of average precision are those of `ablate.evaluation.average_precision`, to rounding: Ultralytics' of all
objects, COCO's of the objects of one size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.evaluation.average_precision import RECALLS, SIZES, CocoMatches
from ablate.records.predictions import Predictions

GRID = 100  # recall is sampled at 0, 1/100, ..., 1


def image_rank(predictions: Predictions) -> np.ndarray:
    """Place of each image among their names in alphabetical order, (I,): what pairs images of two evaluations."""
    rank = np.empty(len(predictions.names), dtype=np.intp)
    rank[np.argsort(predictions.names, kind="stable")] = np.arange(len(predictions.names))
    return rank


@dataclass(frozen=True)
class WeightedCurves:
    """Detections and true objects in the order in which average precision needs them.

    N detections of the C classes that have true objects, by class and then by falling confidence (equal ones in the
    order of the file). M true detections in S segments: one segment for each class and threshold that has any, by class
    and then threshold, each in the order of the detections. T true objects, by class.

    Attributes:
        images: I.
        thresholds: K.
        image: Rank of each detection's image, (N,).
        place: Which detection each true one is, (M,).
        starts: First true detection of each segment, (S,).
        segment: Segment of each true detection, (M,).
        cls: Index of the class of each segment, (S,).
        first: First detection of each class, (C,).
        true_image: Rank of each true object's image, (T,).
        true_starts: First true object of each class, (C,).
        is_coco: Whether precision is taken as COCO takes it, at the next recall reached, and not as Ultralytics does.
    """

    images: int
    thresholds: int
    image: np.ndarray
    place: np.ndarray
    starts: np.ndarray
    segment: np.ndarray
    cls: np.ndarray
    first: np.ndarray
    true_image: np.ndarray
    true_starts: np.ndarray
    is_coco: bool = False

    @classmethod
    def of(cls, predictions: Predictions, threshold: int | None = None) -> WeightedCurves:
        """Sort an evaluation's predictions, for Ultralytics' average precision at one threshold, or over all (None)."""
        hit = predictions.hit if threshold is None else predictions.hit[:, [threshold]]
        every, objects = np.ones(len(predictions.cls), dtype=bool), np.ones(len(predictions.true_cls), dtype=bool)
        return cls._sorted(predictions, hit, every, objects)

    @classmethod
    def of_size(cls, predictions: Predictions, matches: CocoMatches, size: str) -> list[WeightedCurves]:
        """Sort an evaluation's predictions, for COCO's average precision of objects of a size, threshold by threshold.

        Args:
            predictions: Of the evaluation.
            matches: Its detections matched as COCO matches them.
            size: "small", "medium" or "large".
        """
        index = list(SIZES).index(size)
        return [
            cls._sorted(
                predictions,
                matches.matched[index, k][:, None],
                matches.counted & ~matches.left_out[index, k],
                ~matches.ignored[index],
                is_coco=True,
            )
            for k in range(len(predictions.thresholds))
        ]

    @classmethod
    def _sorted(
        cls,
        predictions: Predictions,
        hit: np.ndarray,
        detected: np.ndarray,
        objects: np.ndarray,
        *,
        is_coco: bool = False,
    ) -> WeightedCurves:
        """Sort those detections, (N,), and true objects, (T,), that take part; `hit`, (N, K), is of all detections."""
        rank = image_rank(predictions)
        true_cls, true_image = predictions.true_cls[objects], predictions.true_image[objects]
        classes, true_starts = np.unique(np.sort(true_cls), return_index=True)
        order = np.lexsort((-predictions.conf, predictions.cls))
        order = order[np.isin(predictions.cls[order], classes) & detected[order]]
        which = np.searchsorted(classes, predictions.cls[order])
        thresholds = hit.shape[1]
        place, threshold = np.nonzero(hit[order])
        key = which[place] * thresholds + threshold
        by_segment = np.argsort(key, kind="stable")
        segments, starts, segment = np.unique(key[by_segment], return_index=True, return_inverse=True)
        return cls(
            images=len(predictions.names),
            thresholds=thresholds,
            image=rank[predictions.image[order]],
            place=place[by_segment],
            starts=starts,
            segment=segment,
            cls=segments // max(1, thresholds),
            first=np.searchsorted(which, np.arange(len(classes))),
            true_image=rank[true_image[np.argsort(true_cls, kind="stable")]],
            true_starts=true_starts,
            is_coco=is_coco,
        )

    @property
    def load(self) -> int:
        """Numbers that one resample works on."""
        return len(self.image) + len(self.place) + len(self.true_image) + self.images

    def accuracy(self, weights: np.ndarray) -> np.ndarray:
        """Mean over classes and thresholds with each image counted so many times.

        Args:
            weights: Of the images by rank, (R, I), int32.

        Returns:
            (R,); NaN where no true object is left.
        """
        if not len(self.true_image):
            return np.full(len(weights), np.nan)
        instances = np.add.reduceat(weights.take(self.true_image, axis=1), self.true_starts, axis=1)  # (R, C)
        present = (instances > 0).sum(axis=1)
        total = self._areas(weights, instances).sum(axis=1) if len(self.place) else np.zeros(len(weights))
        with np.errstate(invalid="ignore"):
            return np.asarray(np.where(present > 0, total / (self.thresholds * present), np.nan))

    def _areas(self, weights: np.ndarray, instances: np.ndarray) -> np.ndarray:
        """Average precision of each segment, (R, S), from weights (R, I) and true objects of each class (R, C).

        Between two recalls reached, the envelope of precision is level: it is what the next true detection has. So
        the area comes to: how many samples of recall lie up to what a true detection reaches and beyond the one before,
        times its envelope. Behind the last true detection precision is 0.
        """
        weight = weights.take(self.image, axis=1)  # (R, N)
        seen = weight.cumsum(axis=1, dtype=np.int32)
        true = weight.take(self.place, axis=1)  # (R, M)
        at_start = true[:, self.starts].copy()
        true = true.cumsum(axis=1, dtype=np.int32)
        true -= (true[:, self.starts] - at_start).take(self.segment, axis=1)  # true ones of the segment up to here
        before = np.where(self.first > 0, seen.take(self.first - 1, axis=1, mode="wrap"), 0)  # (R, C)
        passed = seen.take(self.place, axis=1)
        passed -= before.take(self.cls, axis=1).take(self.segment, axis=1)  # all ones of the class up to here
        del seen, weight
        np.maximum(passed, 1, out=passed)  # 0 of 0 is no precision; of weight 0, it adds nothing
        envelope = true / passed
        # One running maximum for all segments: each stands above all that come behind it.
        floor = 2.0 * np.arange(len(self.starts) - 1, -1, -1)
        envelope += floor.take(self.segment)
        backwards = envelope[:, ::-1]
        np.maximum.accumulate(backwards, axis=1, out=backwards)
        envelope -= floor.take(self.segment)
        count = np.maximum(instances, 1).take(self.cls, axis=1).take(self.segment, axis=1)
        return self._coco(true, count, envelope) if self.is_coco else self._ultralytics(true, count, envelope)

    def _ultralytics(self, true: np.ndarray, count: np.ndarray, envelope: np.ndarray) -> np.ndarray:
        """Trapezoids over 101 samples, of which the first, at 0, counts half; arguments of shape (R, M)."""
        # Samples below each recall. Exact also where recall is k/100: the sample there is not below.
        step = self._steps(np.ceil(np.divide(GRID * true, count)))
        first = envelope[:, self.starts]
        step *= envelope
        return np.asarray((np.add.reduceat(step, self.starts, axis=1) - first / 2) / GRID)

    def _coco(self, true: np.ndarray, count: np.ndarray, envelope: np.ndarray) -> np.ndarray:
        """Mean over 101 samples, each at the next recall that is reached; arguments of shape (R, M)."""
        step = self._steps(np.searchsorted(RECALLS, true / count, side="right").astype(np.float64))
        step *= envelope
        return np.asarray(np.add.reduceat(step, self.starts, axis=1) / len(RECALLS))

    def _steps(self, reached: np.ndarray) -> np.ndarray:
        """Samples that each true detection adds to those reached before it in its segment, (R, M)."""
        step = np.empty_like(reached)
        step[:, 1:] = reached[:, 1:] - reached[:, :-1]
        step[:, self.starts] = reached[:, self.starts]
        return step
