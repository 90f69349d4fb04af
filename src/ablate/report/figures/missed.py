"""What each variant detects that the baseline misses, and the reverse: counted object by object."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ablate.analysis.table import rows_of
from ablate.analysis.variants import is_measured, variant_key
from ablate.evaluation.boxes import overlaps
from ablate.evaluation.image_bootstrap import NotPaired, same_objects
from ablate.records.predictions import STEPS, Evidence, evidence_path, load_evidence
from ablate.records.records import DamagedRecordError, Record, Sweep, value
from ablate.report.figures.style import is_control, references

CONFIDENCE = 0.25
IOU = 0.5
COUNTED = 12  # variants whose evidence is read


@dataclass(frozen=True)
class Against:
    """A variant and its baseline on the same true objects.

    Attributes:
        label: The variant.
        variant, baseline: Whether each true object was found, (T,), bool.
    """

    label: str
    variant: np.ndarray
    baseline: np.ndarray

    @property
    def gained(self) -> np.ndarray:
        """Found by the variant only, (T,)."""
        found: np.ndarray = self.variant & ~self.baseline
        return found

    @property
    def lost(self) -> np.ndarray:
        """Found by the baseline only, (T,)."""
        found: np.ndarray = self.baseline & ~self.variant
        return found


@dataclass(frozen=True)
class Comparison:
    """What one comparison group's evidence says, for one seed.

    Attributes:
        evidence: The baseline's; its images and true objects are those of all.
        trial: The baseline's trial.
        seed: Of all trials.
        variants: One for each variant that has evidence of the same images.
        unread: Why others have none, in words.
    """

    evidence: Evidence
    trial: Record
    seed: Any
    variants: list[Against]
    unread: list[str]

    def counts(self) -> pd.DataFrame:
        """One row per variant: how many true objects only it, only the baseline, both and none found; as text."""
        rows = []
        for one in self.variants:
            both, none = int((one.variant & one.baseline).sum()), int((~one.variant & ~one.baseline).sum())
            rows.append([one.label, *(f"{n}" for n in (int(one.gained.sum()), int(one.lost.sum()), both, none))])
        return pd.DataFrame(
            rows,
            columns=["Variant", "found by variant only", "found by baseline only", "found by both", "found by none"],
        )


def compare(sweep: Sweep, rows: pd.DataFrame) -> Comparison | None:
    """Match the evidence of one comparison group, object by object, for the seed that most variants have it for.

    Returns None where the baseline and at least one variant have no evidence of the same seed. Evidence that is
    damaged, missing or of other images or objects (`same_objects`) is left out and named.
    """
    base = next(iter(rows.loc[references(rows), "variant_key"]), None)
    trials = _with_evidence(sweep, rows)
    seeds = [seed for seed, found in trials.items() if base in found and len(found) > 1]
    unread: list[str] = []
    for seed in sorted(seeds, key=lambda seed: (-len(trials[seed]), str(seed))):
        record = trials[seed][str(base)]
        evidence = _load(sweep, record, "the baseline", unread)
        if evidence is None:
            continue
        theirs = found_objects(evidence)
        variants = []
        order = rows_of(rows[~is_control(rows)])[: COUNTED + 1]
        for row in order:
            if row["variant_key"] == base or row["variant_key"] not in trials[seed]:
                continue
            mine = _load(sweep, trials[seed][row["variant_key"]], row["variant"], unread)
            if mine is None:
                continue
            try:
                index = same_objects(evidence, mine)
            except NotPaired as error:
                unread.append(f"the evidence of {row['variant']} does not match the baseline's ({error})")
                continue
            variants.append(Against(row["variant"], found_objects(mine)[index], theirs))
        if variants:
            return Comparison(evidence, record, seed, variants, unread)
    return None


def found_objects(evidence: Evidence) -> np.ndarray:
    """Whether each true object was found: by a detection of its class, IoU >= 0.5, confidence >= 0.25; (T,), bool.

    The most confident detection chooses first, and each detection and each object counts once.
    """
    found = np.zeros(len(evidence.true_image), dtype=bool)
    confident = np.flatnonzero(evidence.conf >= CONFIDENCE)
    confident = confident[np.argsort(-evidence.conf[confident], kind="stable")]
    kinds = 1 + int(max(evidence.cls.max(initial=0), evidence.true_cls.max(initial=0)))
    mine = evidence.image[confident].astype(np.int64) * kinds + evidence.cls[confident]
    theirs = evidence.true_image.astype(np.int64) * kinds + evidence.true_cls
    order = np.argsort(theirs, kind="stable")
    first, last = (np.searchsorted(theirs[order], mine, side=side) for side in ("left", "right"))
    counts = last - first
    detection = np.repeat(np.arange(len(confident)), counts)
    offset = np.arange(len(detection)) - np.repeat(np.cumsum(counts) - counts, counts)
    thing = order[np.repeat(first, counts) + offset]
    boxes, true_boxes = evidence.pixels()
    overlap = overlaps(boxes[confident[detection]], true_boxes[thing])
    close = overlap >= IOU
    detection, thing, overlap = detection[close], thing[close], overlap[close]
    ranked = np.lexsort((-overlap, detection))
    used = np.zeros(len(confident), dtype=bool)
    for d, t in zip(detection[ranked].tolist(), thing[ranked].tolist(), strict=True):
        if not used[d] and not found[t]:
            used[d] = found[t] = True
    return found


def _with_evidence(sweep: Sweep, rows: pd.DataFrame) -> dict[Any, dict[str, Record]]:
    """Seed -> variant key -> trial, for the trials whose record knows of evidence."""
    keys = set(rows["variant_key"])
    found: dict[Any, dict[str, Record]] = {}
    for record in sweep.records:
        key = variant_key(record)
        if key in keys and is_measured(record) and isinstance(value(record, "artifacts", "evidence", "best"), str):
            found.setdefault(record.get("seed"), {}).setdefault(key, record)
    return found


def _load(sweep: Sweep, record: Record, who: str, unread: list[str]) -> Evidence | None:
    path = evidence_path(record, sweep.trial_dir(str(record["signature"])))
    try:
        return load_evidence(path) if path else None
    except FileNotFoundError:
        unread.append(f"the evidence of {who} is not there any more")
    except DamagedRecordError as error:
        unread.append(f"the evidence of {who} {error.reason}")
    return None


def corners(evidence: Evidence, index: np.ndarray) -> np.ndarray:
    """Boxes of true objects as fractions of their image's width and height, (n, 4)."""
    fractions: np.ndarray = evidence.true_box[index] / STEPS
    return fractions
