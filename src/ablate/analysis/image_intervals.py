"""How far a difference depends on which images it was measured on: computed once from stored predictions, and kept.

The interval over seeds says what another training would change, the interval over images what other images of the
same kind would change. The latter needs no second seed; it needs what each detector said of every image, as trials
keep it (`ablate.records.predictions`). Computing it takes seconds to minutes for a large data set, so that results are
kept in the sweep's folder, `image_intervals.json`, each with what it was computed from: as long as those files are
the same, a second report reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np

from ablate.analysis.image_groups import UnfitGroups, fit_groups, groups_for, numbered_groups
from ablate.analysis.looks import variant_looks
from ablate.analysis.pairing import VariantGroup, comparison_groups, trial_pairs
from ablate.analysis.variants import Variant, accuracy_by, variants_of
from ablate.data.data_errors import DataError
from ablate.data.groups import ImageGroups
from ablate.errors import AblateError
from ablate.evaluation.image_bootstrap import RESAMPLES, NotPaired, image_interval, resampled_accuracy, same_objects
from ablate.records.json_struct import JsonStruct, from_json, to_json, written
from ablate.records.judged import judged_sweep
from ablate.records.loading import DamagedRecordError, load_object
from ablate.records.predictions import Predictions, load_predictions, predictions_path
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import TrialRecord, short
from ablate.settings.metric import MAP50_95, Metric
from ablate.statistics.interval import Interval
from ablate.statistics.paired import LEVEL
from ablate.statistics.seeds_and_images import ImageVariance
from ablate.storage.files import atomic_write_json

SCHEMA = 2  # 1 had no variances
ABOUT = "Intervals over images, by what they were computed from; delete this file to compute them again."
SEED = 0  # of the resamples; the same for all variants, so that rows differ in their detections only
AGREEMENT = 1e-4  # as far as predictions and record may be apart before one of them is not what it says


class StoredInterval(JsonStruct, frozen=True, kw_only=True):
    """The difference of a variant to its baseline with its 95 % interval over images; or why there is none.

    Accuracies are fractions; variances are of the mean difference, and of one seed's beyond what all seeds share.
    `resamples` had a true object, of those `asked` for. Where `groups` is a number, so many groups of images were drawn
    whole. `reason` is empty where there is an interval. `choice`: metric, judge and groups of the report that it was
    computed for.
    """

    estimate: float | None = written(None)
    low: float | None = written(None)
    high: float | None = written(None)
    resamples: int = written(0)
    images: int = written(0)
    groups: int | None = None
    seeds: int = written(0)
    variance_of_mean: float | None = written(None)
    variance_seed_by_image: float | None = written(None)
    asked: int = written(0)
    reason: str = written("")
    choice: str = ""

    @property
    def interval(self) -> Interval | None:
        """The difference with its interval."""
        if self.reason or self.estimate is None or self.low is None or self.high is None:
            return None
        return Interval(self.estimate, self.low, self.high)

    @property
    def variance(self) -> ImageVariance | None:
        """What the images contribute to the difference."""
        if self.interval is None or self.variance_of_mean is None or self.variance_seed_by_image is None:
            return None
        return ImageVariance(self.variance_of_mean, self.variance_seed_by_image, self.groups or self.images)


class _IntervalsFile(JsonStruct, frozen=True, kw_only=True):
    """`image_intervals.json`: intervals by what they were computed from."""

    schema: int
    about: str = written(ABOUT)
    intervals: dict[str, StoredInterval]


@dataclass(frozen=True)
class _Task:
    """One interval to compute: the predictions of both sides, seed by seed, and what identifies the files."""

    variant: Variant
    baseline: Variant
    pairs: list[tuple[TrialRecord, TrialRecord]]
    identity: str
    groups: ImageGroups | None
    problem: str


def stored_intervals(sweep: Sweep, groups: Sequence[VariantGroup]) -> dict[tuple[str, str], StoredInterval]:
    """The intervals that were computed from the predictions as they are now, by variant key and comparison key.

    Reads `image_intervals.json` only. A variant that is not in the answer has no predictions, or was not computed yet.
    """
    if not sweep.intervals_file.is_file():
        return {}
    stored = _stored(sweep)
    tasks = _tasks(sweep, groups)
    return {(t.variant.key, t.variant.comparison_key): stored[t.identity] for t in tasks if t.identity in stored}


def compute_intervals(
    sweep: Sweep,
    *,
    resamples: int = RESAMPLES,
    on_progress: Callable[[str, float], None] | None = None,
) -> int:
    """Compute the intervals over images that are not known yet, and keep them in the sweep's folder.

    What is done is kept after every variant, so that an interrupted report goes on where it was. Those of reports by
    another metric, judge or groups stay; those of trials or files that are others by now go. Damaged, missing or
    foreign predictions are kept as a reason. In a folder that cannot be written nothing is kept, and known.

    Args:
        sweep: What `load_sweep` read.
        resamples: Of the images; 0 computes nothing.
        on_progress: Called with the name of the variant and the share of all work that is done.

    Returns:
        How many intervals were computed.
    """
    if resamples < 1:
        return 0
    sweep = judged_sweep(sweep)
    stored = _stored(sweep)
    tasks = _tasks(sweep, comparison_groups(variants_of(sweep)))
    current = {task.identity for task in tasks}
    missing = [t for t in tasks if t.identity not in stored or _is_coarser(stored[t.identity], resamples)]
    trials = {(task.variant.comparison_key, one.signature) for task in missing for pair in task.pairs for one in pair}
    evaluations = _Evaluations(sweep, resamples, len(trials), on_progress)
    choice = f"metric={sweep.metric.name} judge={sweep.judge} groups={Path(sweep.groups).name}"
    for task in missing:
        stored[task.identity] = _computed(task, evaluations)
        stored = {
            identity: msgspec.structs.replace(interval, choice=choice) if identity in current else interval
            for identity, interval in stored.items()
            if identity in current or interval.choice not in ("", choice)
        }
        with contextlib.suppress(OSError):
            _save(sweep, stored)
    return len(missing)


def _is_coarser(stored: StoredInterval, resamples: int) -> bool:
    return not stored.reason and stored.asked < resamples


def _computed(task: _Task, evaluations: _Evaluations) -> StoredInterval:
    """The interval of one variant, or why there is none."""
    if task.problem:
        return StoredInterval(reason=task.problem)
    try:
        # The baseline first: it is what all of a group are held against, so that it is the foreign one that is named.
        base = [evaluations.of(task, baseline) for _, baseline in task.pairs]
        variants = [evaluations.of(task, variant) for variant, _ in task.pairs]
    except (_NoPredictions, NotPaired) as error:
        return StoredInterval(reason=str(error))
    predictions = evaluations.images[task.variant.comparison_key]
    try:
        groups = fit_groups(task.groups, predictions)
    except UnfitGroups as error:
        return StoredInterval(reason=str(error))
    result = image_interval(list(zip(variants, base, strict=True)), LEVEL, predictions, groups)
    if not math.isfinite(result.interval.low + result.interval.high):
        return StoredInterval(reason=f"{result.images} images are too few")
    if result.interval.low == result.interval.high:
        return StoredInterval(reason="no choice of images changes the difference")
    return StoredInterval(
        **result.interval._asdict(),
        resamples=result.resamples,
        images=result.images,
        groups=result.groups,
        seeds=result.seeds,
        variance_of_mean=result.variance.of_mean if result.variance else None,
        variance_seed_by_image=result.variance.seed_by_image if result.variance else None,
        asked=evaluations.resamples,
    )


class _NoPredictions(AblateError, ValueError):
    """Predictions that cannot be used; the message says whose, and why."""


class _Evaluations:
    """Accuracy of each trial on each resample of the images: computed once a trial and comparison group.

    Of the predictions themselves only one trial's a comparison group is held, `images`, which all others must match:
    the first that was asked for and is sound.
    """

    def __init__(
        self, sweep: Sweep, resamples: int, trials: int, on_progress: Callable[[str, float], None] | None
    ) -> None:
        self.images: dict[str, Predictions] = {}
        self._sweep = sweep
        self.resamples = resamples
        self._trials = trials
        self._on_progress = on_progress
        self._accuracies: dict[tuple[str, str], np.ndarray | ValueError] = {}

    def of(self, task: _Task, record: TrialRecord) -> np.ndarray:
        """Accuracies of a trial on the images as they are and on each resample, (1 + resamples,).

        Raises _NoPredictions or NotPaired.
        """
        trial = task.variant.comparison_key, record.signature
        if trial not in self._accuracies:
            try:
                self._accuracies[trial] = self._resampled(task, record)
            except (_NoPredictions, NotPaired) as error:
                self._accuracies[trial] = error
        accuracies = self._accuracies[trial]
        if isinstance(accuracies, ValueError):
            raise accuracies
        return accuracies

    def _resampled(self, task: _Task, record: TrialRecord) -> np.ndarray:
        trial = f"trial {short(record.signature)}"
        predictions = self._load(record, trial)
        try:
            same_objects(self.images.get(task.variant.comparison_key, predictions), predictions)
        except NotPaired as error:
            raise NotPaired(f"{trial} was evaluated on other images than the rest ({error})") from None
        if not len(predictions.true_image):
            raise NotPaired("the images have no true objects")
        ahead = len(self._accuracies)

        def report(done: int) -> None:
            if self._on_progress is not None:
                self._on_progress(task.variant.label, (ahead + done / self.resamples) / self._trials)

        groups = numbered_groups(task.groups, predictions)
        metric = task.variant.metric
        accuracies = resampled_accuracy(
            predictions, metric=metric, resamples=self.resamples, seed=SEED, groups=groups, on_progress=report
        )
        _check_agreement(record, metric, accuracies[0], trial)
        self.images.setdefault(task.variant.comparison_key, predictions)
        return accuracies

    def _load(self, record: TrialRecord, trial: str) -> Predictions:
        path = _path(self._sweep, record)
        if path is None:
            raise _NoPredictions(f"{trial} kept no predictions of single images")
        try:
            return load_predictions(path)
        except FileNotFoundError:
            raise _NoPredictions(f"the file with the predictions of {trial} is not there") from None
        except DamagedRecordError as error:
            raise _NoPredictions(f"the file with the predictions of {trial} {error.reason}") from None


def _tasks(sweep: Sweep, groups: Sequence[VariantGroup]) -> list[_Task]:
    """The intervals that can be computed: of variants at least one of whose trials has kept some."""
    tasks = []
    for group in groups:
        for variant in group.compared:
            assert group.baseline is not None
            pairs = trial_pairs(variant, group.baseline)
            if looks := variant_looks(variant, group.baseline, sweep):
                pairs = pairs[: len(looks.differences)]  # seeds that ran beyond the decision take no part in it
            if any(_path(sweep, record) is not None for pair in pairs for record in pair):
                of_images, problem = _groups_of(sweep, pairs[0][0])
                identity = _identity(sweep, pairs, of_images, problem)
                if any(record.fold is not None for record, _ in pairs):
                    problem = "each fold is validated on other images; the interval over folds covers them"
                tasks.append(_Task(variant, group.baseline, pairs, identity, of_images, problem))
    return tasks


def _groups_of(sweep: Sweep, record: TrialRecord) -> tuple[ImageGroups | None, str]:
    """The groups of a trial's images, and why they cannot be used."""
    try:
        return groups_for(sweep, record), ""
    except DataError as error:
        return None, str(error)


def _check_agreement(record: TrialRecord, metric: Metric, accuracy: float, trial: str) -> None:
    recorded = accuracy_by(record, metric)
    if abs(accuracy - recorded) > AGREEMENT:
        raise _NoPredictions(
            f"the file with the predictions of {trial} gives {metric.label} {accuracy:.4f}, its record {recorded:.4f}"
        )


def _identity(
    sweep: Sweep, pairs: Sequence[tuple[TrialRecord, TrialRecord]], groups: ImageGroups | None, problem: str
) -> str:
    """What an interval was computed from: trials, their accuracies, and the files of predictions by size and time."""
    metric = sweep.metric
    files = [[[r.signature, accuracy_by(r, metric), *_stamp(_path(sweep, r))] for r in pair] for pair in pairs]
    grouping = [] if groups is None and not problem else [problem, sorted(groups.groups.items()) if groups else []]
    of = [] if metric is MAP50_95 else [metric.name]
    return hashlib.sha256(json.dumps([SCHEMA, SEED, LEVEL, files, *grouping, *of]).encode()).hexdigest()[:32]


def _stamp(path: Path | None) -> Iterator[int]:
    """Size and time of a file's content; nothing where there is none."""
    with contextlib.suppress(OSError):
        if path is not None:
            status = path.stat()
            yield from (status.st_size, status.st_mtime_ns)


def _path(sweep: Sweep, record: TrialRecord) -> Path | None:
    return predictions_path(record, sweep.folder.trial(record.signature).path)


def _stored(sweep: Sweep) -> dict[str, StoredInterval]:
    """What `image_intervals.json` holds; nothing where it cannot be understood."""
    try:
        content = from_json(load_object(sweep.intervals_file), _IntervalsFile)
    except ValueError:
        return {}
    return dict(content.intervals) if content.schema == SCHEMA else {}


def _save(sweep: Sweep, stored: dict[str, StoredInterval]) -> None:
    content = to_json(_IntervalsFile(schema=SCHEMA, intervals=stored))
    atomic_write_json(sweep.intervals_file, content)
