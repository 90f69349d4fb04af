"""What each variant detects that the baseline misses, and the reverse: counted object by object."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.analysis.comparison import Group
from ablate.analysis.variant_row import Row
from ablate.evaluation.boxes import overlaps
from ablate.evaluation.image_bootstrap import NotPaired, same_objects
from ablate.records.loading import DamagedRecordError
from ablate.records.predictions import STEPS, Predictions, load_predictions, predictions_path
from ablate.records.replicate import Replicate
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import TrialRecord
from ablate.report.figures.style import CountTable, written_name

CONFIDENCE = 0.25
IOU = 0.5
COUNTED = 12  # variants whose predictions are read


@dataclass(frozen=True, eq=False)
class Detected:
    """The ground truth that a variant and its baseline detected.

    Attributes:
        row: The variant.
        variant, baseline: Whether each ground-truth box was detected, (T,), bool.
    """

    row: Row
    variant: np.ndarray
    baseline: np.ndarray

    @property
    def gained(self) -> np.ndarray:
        """Detected by the variant only, (T,)."""
        only: np.ndarray = self.variant & ~self.baseline
        return only

    @property
    def lost(self) -> np.ndarray:
        """Detected by the baseline only, (T,)."""
        only: np.ndarray = self.baseline & ~self.variant
        return only


@dataclass(frozen=True)
class GroupDetections:
    """The stored predictions of one comparison group, box by box, for one seed, and fold.

    Attributes:
        predictions: The baseline's; its images and ground truth are those of all.
        baseline: The baseline's row.
        trial: The baseline's trial.
        replicate: Of all trials.
        variants: One for each variant that has predictions on the same images.
        unread: Why others have none, in words.
    """

    predictions: Predictions
    baseline: Row
    trial: TrialRecord
    replicate: Replicate
    variants: list[Detected]
    unread: list[str]

    def counts(self) -> CountTable:
        """One row per variant: how many boxes only it, only the baseline, both and none detected."""
        rows = []
        for one in self.variants:
            both, none = int((one.variant & one.baseline).sum()), int((~one.variant & ~one.baseline).sum())
            numbers = (int(one.gained.sum()), int(one.lost.sum()), both, none)
            rows.append((written_name(one.row), *map(str, numbers)))
        heads = (
            "Variant",
            "detected by variant only",
            "detected by baseline only",
            "detected by both",
            "missed by both",
        )
        return CountTable(heads, tuple(rows))


def compare_detections(sweep: Sweep, group: Group) -> GroupDetections | None:
    """Match the predictions of one comparison group, box by box, for the seed (and fold) that most variants have.

    Returns None where the baseline and at least one variant have no predictions of the same one. Predictions that are
    damaged, missing or of other images or ground truth (`same_objects`) are left out and named.
    """
    baseline = next((row for row in group.rows if row.is_baseline), None)
    if baseline is None:
        return None
    trials = _with_predictions(group)
    shared = [one for one, by_key in trials.items() if baseline.key in by_key and len(by_key) > 1]
    unread: list[str] = []
    for replicate in sorted(shared, key=lambda one: (-len(trials[one]), str(one))):
        of_replicate = trials[replicate]
        record = of_replicate[baseline.key]
        predictions = _load(sweep, record, "the baseline", unread)
        if predictions is None:
            continue
        of_baseline = found_objects(predictions)
        variants = []
        for row in [row for row in group.rows if not row.is_control][: COUNTED + 1]:
            if row.key == baseline.key or row.key not in of_replicate:
                continue
            other = _load(sweep, of_replicate[row.key], row.label, unread)
            if other is None:
                continue
            try:
                index = same_objects(predictions, other)
            except NotPaired as error:
                unread.append(f"the file with the predictions of {row.label} does not match the baseline's ({error})")
                continue
            variants.append(Detected(row, found_objects(other)[index], of_baseline))
        if variants:
            return GroupDetections(predictions, baseline, record, replicate, variants, unread)
    return None


def found_objects(predictions: Predictions) -> np.ndarray:
    """Whether each true object was found: by a detection of its class, IoU >= 0.5, confidence >= 0.25; (T,), bool.

    The most confident detection chooses first, and each detection and each object counts once.
    """
    detected = np.zeros(len(predictions.true_image), dtype=bool)
    confident = np.flatnonzero(predictions.conf >= CONFIDENCE)
    confident = confident[np.argsort(-predictions.conf[confident], kind="stable")]
    kinds = 1 + int(max(predictions.cls.max(initial=0), predictions.true_cls.max(initial=0)))
    predicted = predictions.image[confident].astype(np.int64) * kinds + predictions.cls[confident]
    true = predictions.true_image.astype(np.int64) * kinds + predictions.true_cls
    order = np.argsort(true, kind="stable")
    first, last = (np.searchsorted(true[order], predicted, side=side) for side in ("left", "right"))
    counts = last - first
    detection = np.repeat(np.arange(len(confident)), counts)
    offset = np.arange(len(detection)) - np.repeat(np.cumsum(counts) - counts, counts)
    thing = order[np.repeat(first, counts) + offset]
    boxes, true_boxes = predictions.pixels()
    overlap = overlaps(boxes[confident[detection]], true_boxes[thing])
    close = overlap >= IOU
    detection, thing, overlap = detection[close], thing[close], overlap[close]
    ranked = np.lexsort((-overlap, detection))
    used = np.zeros(len(confident), dtype=bool)
    for d, t in zip(detection[ranked].tolist(), thing[ranked].tolist(), strict=True):
        if not used[d] and not detected[t]:
            used[d] = detected[t] = True
    return detected


def _with_predictions(group: Group) -> dict[Replicate, dict[str, TrialRecord]]:
    """Replicate -> variant key -> trial, for the trials whose record names stored predictions."""
    trials: dict[Replicate, dict[str, TrialRecord]] = {}
    for row in group.rows:
        for trial in row.variant.measured:
            if "best" in trial.artifacts.predictions:
                trials.setdefault(trial.replicate, {}).setdefault(row.key, trial)
    return trials


def _load(sweep: Sweep, record: TrialRecord, who: str, unread: list[str]) -> Predictions | None:
    path = predictions_path(record, sweep.folder.trial(record.signature).path)
    try:
        return load_predictions(path) if path else None
    except FileNotFoundError:
        unread.append(f"the file with the predictions of {who} is not there any more")
    except DamagedRecordError as error:
        unread.append(f"the file with the predictions of {who} {error.reason}")
    return None


def corners(predictions: Predictions, index: np.ndarray) -> np.ndarray:
    """Boxes of true objects as fractions of their image's width and height, (n, 4)."""
    fractions: np.ndarray = predictions.true_box[index] / STEPS
    return fractions
