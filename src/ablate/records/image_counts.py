"""Was a trial trained and evaluated on the images and boxes that it was to be?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ablate.records.realised import ImageCounts, Realised
from ablate.records.trial_record import TrialRecord

SPLITS: Final = ("train", "val")


@dataclass(frozen=True)
class SplitUse:
    """Images and boxes of one split of a trial; None where they are not recorded."""

    images: int | None
    instances: int | None

    def __str__(self) -> str:
        """Say both, as far as they are known."""
        images = "? images" if self.images is None else f"{self.images} image{'s' * (self.images != 1)}"
        boxes = "" if self.instances is None else f" ({self.instances} box{'es' * (self.instances != 1)})"
        return images + boxes


def used(record: TrialRecord, split: str) -> SplitUse:
    """What a trial used of a split."""
    return _use(record.realised, split)


def promised(record: TrialRecord, split: str) -> SplitUse:
    """What a trial was to use of a split; unknown for records of earlier versions."""
    counts = record.realised.promised
    return SplitUse(None, None) if counts is None else _use(counts, split)


def shortfalls(records: Sequence[TrialRecord]) -> list[str]:
    """Where trials used other images or boxes than promised, in words, each once."""
    reasons = []
    for record in records:
        for split in SPLITS:
            real, meant = used(record, split), promised(record, split)
            if None not in (meant.images, meant.instances) and real != meant:
                reasons.append(f"{real} of {split} used where {meant} were to be")
    return list(dict.fromkeys(reasons))


def in_words(records: Sequence[TrialRecord], record: TrialRecord) -> str:
    """What a trial used, in the detail that all records of the comparison have."""
    boxes = all(one.realised.instances for one in records)
    if not all(one.realised.images for one in records):
        return ""  # not a difference: records of earlier versions lack it
    uses = {split: used(record, split) for split in SPLITS}
    return ", ".join(f"{split} {use if boxes else SplitUse(use.images, None)}" for split, use in uses.items())


def _use(counts: Realised | ImageCounts, split: str) -> SplitUse:
    return SplitUse(counts.images.get(split), counts.instances.get(split))
