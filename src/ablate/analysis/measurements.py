"""What a variant's own trials determine: accuracy and cost, no baseline needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from ablate.analysis.variants import Variant, fraction, is_measured
from ablate.records.records import SCHEMA, Record, number, value
from ablate.statistics.paired import sample_std

LIMIT = 1e15  # no cost is as large; a sum of such numbers would be no number


@dataclass(frozen=True)
class Accuracy:
    """Means over a variant's measured trials, fractions from 0 to 1; None where no trial has it.

    Attributes:
        map50_95_std: Sample standard deviation over the trials.
        map50_95_last: After the last epoch; the others are of the checkpoint that was evaluated.
        evaluated: Split and checkpoint, such as "val, best".
    """

    map50_95: float | None
    map50_95_std: float | None
    map50: float | None
    precision: float | None
    recall: float | None
    map75: float | None
    map50_95_small: float | None
    map50_95_medium: float | None
    map50_95_large: float | None
    map50_95_last: float | None
    evaluated: str


@dataclass(frozen=True)
class Cost:
    """Means over a variant's trials, the highest for memory; None where it is not recorded.

    Attributes:
        params_m: Parameters in millions, as deployed.
        params_added_m: Those beyond the stock network, in millions.
        gflops: As deployed, one multiply-add is two.
        gflops_ultralytics: Ultralytics' own number.
        energy_kwh: Of the GPU's whole board, for one trial.
    """

    params_m: float | None
    params_added_m: float | None
    gflops: float | None
    gflops_ultralytics: float | None
    train_minutes: float | None
    seconds_per_epoch: float | None
    energy_kwh: float | None
    peak_memory_gb: float | None


def accuracy_of(variant: Variant) -> Accuracy:
    """The accuracies of a variant's measured trials."""
    trials = variant.measured
    return Accuracy(
        map50_95=_accuracy(trials, "metrics", "map50_95"),
        map50_95_std=sample_std([trial["metrics"]["map50_95"] for trial in trials]),
        map50=_accuracy(trials, "metrics", "map50"),
        precision=_accuracy(trials, "metrics", "precision"),
        recall=_accuracy(trials, "metrics", "recall"),
        map75=_accuracy(trials, "metrics", "map75"),
        map50_95_small=_accuracy(trials, "metrics", "map50_95_small"),
        map50_95_medium=_accuracy(trials, "metrics", "map50_95_medium"),
        map50_95_large=_accuracy(trials, "metrics", "map50_95_large"),
        map50_95_last=_accuracy(trials, "metrics_last", "map50_95"),
        evaluated=evaluated(trials),
    )


def cost_of(variant: Variant) -> Cost:
    """The cost of a variant: of its network from any trial, of its training from those that were measured."""
    described = variant.measured or variant.trials
    params, added = _mean(described, "cost", "params"), _mean(described, "cost", "params_added")
    return Cost(
        params_m=None if params is None else params / 1e6,
        params_added_m=None if added is None else added / 1e6,
        gflops=_mean(described, "cost", "gflops"),
        gflops_ultralytics=_mean(described, "cost", "gflops_ultralytics"),
        train_minutes=_mean(variant.measured, "cost", "train_minutes"),
        seconds_per_epoch=_mean(variant.measured, "cost", "seconds_per_epoch"),
        energy_kwh=_mean(variant.measured, "cost", "energy_kwh"),
        peak_memory_gb=max(_numbers(variant.measured, "cost", "peak_memory_gb"), default=None),
    )


def trial_notes(variant: Variant) -> list[str]:
    """What went wrong in a variant's own trials, or how few they are, in words."""
    total, notes = len(variant.trials), []
    troubles = Counter(status(trial) for trial in variant.trials if not is_measured(trial))
    for trouble, count in troubles.items():
        notes.append(f"{count} of {total} trials {trouble}" if total > 1 else f"trial {trouble}")
    again = len(variant.measured) - len(variant.by_seed)
    if again:
        notes.append(f"{again} more trials of a seed that was already there or has no number")
    if len(variant.measured) == 1:
        notes.append("one seed: no interval")
    return notes


def status(record: Record) -> str:
    """How a trial ended, in words that continue 'the trial ...'."""
    ended, failure = str(value(record, "status") or "has no status"), value(record, "failure", "type")
    if ended == "failed":
        return f"failed: {failure or 'unknown reason'}"
    if ended == "damaged":
        return f"unreadable: {value(record, 'failure', 'message')}"
    if record.get("schema", SCHEMA) != SCHEMA:
        return f"recorded by another version: schema {record['schema']}, this one reads {SCHEMA}"
    if ended == "finished" and not is_measured(record):
        return "finished without a number for mAP50-95"
    return ended


def evaluated(records: Sequence[Record]) -> str:
    """Split and checkpoint that the accuracies were measured on, e.g. 'val, best'."""
    parts = [[value(record, "metrics", name) for name in ("split", "checkpoint")] for record in records]
    return " | ".join(sorted({", ".join(str(part) for part in pair if part) for pair in parts}))


def _numbers(records: Sequence[Record], *path: str) -> list[float]:
    numbers = [number(record, *path) for record in records]
    return [one for one in numbers if one is not None and abs(one) < LIMIT]


def _mean(records: Sequence[Record], *path: str) -> float | None:
    numbers = _numbers(records, *path)
    return fmean(numbers) if numbers else None


def _accuracy(records: Sequence[Record], *path: str) -> float | None:
    accuracies = [one for record in records if (one := fraction(record, *path)) is not None]
    return fmean(accuracies) if accuracies else None
