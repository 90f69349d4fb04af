"""How far a difference depends on which images it was measured on: computed from evidence, once, and kept.

The interval over seeds says what another training would change, the interval over images what other images of the
same kind would change. The latter needs no second seed; it needs what each detector said of every image, as trials
keep it (`ablate.records.predictions`). Computing it takes seconds to minutes for a large data set, so that results are
kept in the sweep's folder, `image_intervals.json`, each with what it was computed from: as long as the evidence is
the same, a second report reads them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ablate.analysis.pairing import Group, comparison_groups, trial_pairs
from ablate.analysis.variants import Variant
from ablate.evaluation.image_bootstrap import RESAMPLES, NotPaired, check_paired, image_interval, resampled_map
from ablate.records.predictions import Evidence, evidence_path, load_evidence
from ablate.records.records import DamagedRecordError, Record, Sweep, load_object, mapping, number, short, value
from ablate.statistics.paired import LEVEL
from ablate.storage.files import atomic_write_json

FILE = "image_intervals.json"
SCHEMA = 1
SEED = 0  # of the resamples; the same for all variants, so that rows differ in their detections only
AGREEMENT = 1e-4  # mAP50-95: as far as evidence and record may be apart before one of them is not what it says


@dataclass(frozen=True)
class KnownInterval:
    """The difference of a variant to its baseline with its 95 % interval over images; or why there is none.

    Accuracies are fractions. `resamples` had a true object, of those `asked` for. `reason` is empty where there is
    an interval.
    """

    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    resamples: int = 0
    images: int = 0
    seeds: int = 0
    asked: int = 0
    reason: str = ""


@dataclass(frozen=True)
class _Task:
    """One interval to compute: the evidence of both sides, seed by seed, and what identifies the files."""

    variant: Variant
    baseline: Variant
    pairs: list[tuple[Record, Record]]
    identity: str


def known_intervals(sweep: Sweep, groups: Sequence[Group]) -> dict[tuple[str, str], KnownInterval]:
    """The intervals that were computed from evidence as it is now, by variant key and comparison key.

    Reads `image_intervals.json` only. A variant that is not in the answer has no evidence, or nobody computed it yet.
    """
    if not (sweep.directory / FILE).is_file():
        return {}
    kept = _kept(sweep)
    tasks = _tasks(sweep, groups)
    return {(t.variant.key, t.variant.group): kept[t.identity] for t in tasks if t.identity in kept}


def compute_intervals(
    sweep: Sweep,
    *,
    resamples: int = RESAMPLES,
    on_progress: Callable[[str, float], None] | None = None,
) -> int:
    """Compute the intervals over images that are not known yet, and keep them in the sweep's folder.

    What is done is kept after every variant, so that an interrupted report goes on where it was. Damaged, missing or
    foreign evidence is kept as a reason. In a folder that cannot be written nothing is kept, and known.

    Args:
        sweep: What `load_sweep` read.
        resamples: Of the images; 0 computes nothing.
        on_progress: Called with the name of the variant and the share of all work that is done.

    Returns:
        How many intervals were computed.
    """
    if resamples < 1:
        return 0
    kept = _kept(sweep)
    tasks = _tasks(sweep, comparison_groups(sweep))
    wanted = {task.identity for task in tasks}
    missing = [t for t in tasks if t.identity not in kept or _is_coarser(kept[t.identity], resamples)]
    trials = {
        (task.variant.group, str(record["signature"])) for task in missing for pair in task.pairs for record in pair
    }
    evaluations = _Evaluations(sweep, resamples, len(trials), on_progress)
    for task in missing:
        kept[task.identity] = _computed(task, evaluations)
        with contextlib.suppress(OSError):
            _save(sweep, {identity: found for identity, found in kept.items() if identity in wanted})
    return len(missing)


def _is_coarser(found: KnownInterval, resamples: int) -> bool:
    return not found.reason and found.asked < resamples


def _computed(task: _Task, evaluations: _Evaluations) -> KnownInterval:
    """The interval of one variant, or why there is none."""
    try:
        # The baseline first: it is what all of a group are held against, so that it is the foreign one that is named.
        base = [evaluations.of(task, theirs) for _, theirs in task.pairs]
        pairs = [(evaluations.of(task, mine), known) for (mine, _), known in zip(task.pairs, base, strict=True)]
    except (_NoEvidence, NotPaired) as error:
        return KnownInterval(reason=str(error))
    found = image_interval(pairs, LEVEL, evaluations.images[task.variant.group])
    if not math.isfinite(found.low + found.high):
        return KnownInterval(reason=f"{found.images} images are too few")
    if found.low == found.high:
        return KnownInterval(reason="no choice of images changes the difference")
    return KnownInterval(
        found.estimate, found.low, found.high, found.resamples, found.images, found.seeds, evaluations.resamples
    )


class _NoEvidence(ValueError):
    """Evidence that cannot be used; the message says whose, and why."""


class _Evaluations:
    """Accuracy of each trial on each resample of the images: computed once a trial and comparison group.

    Of the evidence itself only one trial's a comparison group is held, `images`, which all others must match: the
    first that was asked for and is sound.
    """

    def __init__(
        self, sweep: Sweep, resamples: int, trials: int, on_progress: Callable[[str, float], None] | None
    ) -> None:
        self.images: dict[str, Evidence] = {}
        self._sweep = sweep
        self.resamples = resamples
        self._trials = trials
        self._told = on_progress
        self._found: dict[tuple[str, str], np.ndarray | ValueError] = {}

    def of(self, task: _Task, record: Record) -> np.ndarray:
        """Accuracies on the images as they are and on each resample, (1 + resamples,).

        Raises _NoEvidence or NotPaired.
        """
        trial = task.variant.group, str(record["signature"])
        if trial not in self._found:
            try:
                self._found[trial] = self._resampled(task, record)
            except (_NoEvidence, NotPaired) as error:
                self._found[trial] = error
        found = self._found[trial]
        if isinstance(found, ValueError):
            raise found
        return found

    def _resampled(self, task: _Task, record: Record) -> np.ndarray:
        trial = f"trial {short(record['signature'])}"
        evidence = self._load(record, trial)
        try:
            check_paired(self.images.get(task.variant.group, evidence), evidence)
        except NotPaired as error:
            raise NotPaired(f"{trial} was evaluated on other images than the rest ({error})") from None
        if not len(evidence.true_image):
            raise NotPaired("the images have no true objects")
        ahead = len(self._found)

        def report(done: int) -> None:
            if self._told is not None:
                self._told(task.variant.label, (ahead + done / self.resamples) / self._trials)

        found = resampled_map(evidence, resamples=self.resamples, seed=SEED, on_progress=report)
        if abs(found[0] - _accuracy(record)) > AGREEMENT:
            said = f"the evidence of {trial} gives mAP50-95 {found[0]:.4f}, its record {_accuracy(record):.4f}"
            raise _NoEvidence(said)
        self.images.setdefault(task.variant.group, evidence)
        return found

    def _load(self, record: Record, trial: str) -> Evidence:
        path = _path(self._sweep, record)
        if path is None:
            raise _NoEvidence(f"{trial} kept no evidence of single images")
        try:
            return load_evidence(path)
        except FileNotFoundError:
            raise _NoEvidence(f"the evidence of {trial} is not there") from None
        except DamagedRecordError as error:
            raise _NoEvidence(f"the evidence of {trial} {error.reason}") from None


def _tasks(sweep: Sweep, groups: Sequence[Group]) -> list[_Task]:
    """The intervals that evidence may tell of: of variants at least one of whose trials has kept some."""
    tasks = []
    for group in groups:
        for variant in group.compared:
            assert group.baseline is not None
            pairs = trial_pairs(variant, group.baseline)
            if any(_path(sweep, record) is not None for pair in pairs for record in pair):
                tasks.append(_Task(variant, group.baseline, pairs, _identity(sweep, pairs)))
    return tasks


def _identity(sweep: Sweep, pairs: Sequence[tuple[Record, Record]]) -> str:
    """What an interval was computed from: trials, their accuracies, and the evidence files by size and time."""
    told = [[[str(r["signature"]), _accuracy(r), *_stamp(_path(sweep, r))] for r in pair] for pair in pairs]
    return hashlib.sha256(json.dumps([SCHEMA, SEED, LEVEL, told]).encode()).hexdigest()[:32]


def _stamp(path: Path | None) -> Iterator[int]:
    """Size and time of a file's content; nothing where there is none."""
    with contextlib.suppress(OSError):
        if path is not None:
            found = path.stat()
            yield from (found.st_size, found.st_mtime_ns)


def _path(sweep: Sweep, record: Record) -> Path | None:
    return evidence_path(record, sweep.trial_dir(str(record["signature"])), str(value(record, "metrics", "checkpoint")))


def _accuracy(record: Record) -> float:
    return float(record["metrics"]["map50_95"])


def _kept(sweep: Sweep) -> dict[str, KnownInterval]:
    """What `image_intervals.json` holds, as far as it can be understood."""
    content = load_object(sweep.directory / FILE)
    if content.get("schema") != SCHEMA:
        return {}
    found = {}
    for identity, entry in mapping(content, "intervals").items():
        reason = value(entry, "reason")
        estimate, low, high = (number(entry, name) for name in ("estimate", "low", "high"))
        counts = {name: int(number(entry, name) or 0) for name in ("resamples", "images", "seeds", "asked")}
        if isinstance(reason, str) and (reason or None not in (estimate, low, high)):
            found[identity] = KnownInterval(estimate=estimate, low=low, high=high, reason=reason, **counts)
    return found


def _save(sweep: Sweep, kept: dict[str, KnownInterval]) -> None:
    intervals = {identity: asdict(found) for identity, found in kept.items()}
    about = "Intervals over images, by what they were computed from; delete this file to compute them again."
    atomic_write_json(sweep.directory / FILE, {"schema": SCHEMA, "about": about, "intervals": intervals})
