"""What a variant's own trials determine: accuracy and cost, no baseline needed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from ablate.analysis.comparability import stops
from ablate.analysis.pairing import samples_of
from ablate.analysis.phrases import named
from ablate.analysis.variants import Variant, is_measured
from ablate.records.replicate import Replicate
from ablate.records.trial_record import FAILED, FINISHED, SCHEMA, DamagedTrial, Record, TrialRecord
from ablate.settings.metric import Metric
from ablate.statistics.paired import sample_std
from ablate.statistics.resampled import Samples

LIMIT = 1e15  # no cost is as large; a sum of such numbers would be no number


@dataclass(frozen=True)
class Accuracy:
    """Means over a variant's seeds, fractions from 0 to 1; with folds over these, each the mean over its seeds.

    None where no trial has it.

    Attributes:
        primary: By the metric that variants are compared by; one of the others.
        std: Its sample standard deviation over the seeds, or the folds.
        last: The same after the last epoch; the others are of the checkpoint that was evaluated.
        evaluated: Split and checkpoint, such as "val, best".
    """

    primary: float | None
    std: float | None
    last: float | None
    map50_95: float | None
    map50: float | None
    precision: float | None
    recall: float | None
    map75: float | None
    map50_95_small: float | None
    map50_95_medium: float | None
    map50_95_large: float | None
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
    return Accuracy(
        primary=_accuracy(variant, variant.value),
        std=_std(variant),
        last=_accuracy(variant, lambda t: t.metrics_last.value(variant.metric)),
        map50_95=_accuracy(variant, lambda t: t.metrics.map50_95),
        map50=_accuracy(variant, lambda t: t.metrics.map50),
        precision=_accuracy(variant, lambda t: t.metrics.precision),
        recall=_accuracy(variant, lambda t: t.metrics.recall),
        map75=_accuracy(variant, lambda t: t.metrics.map75),
        map50_95_small=_accuracy(variant, lambda t: t.metrics.map50_95_small),
        map50_95_medium=_accuracy(variant, lambda t: t.metrics.map50_95_medium),
        map50_95_large=_accuracy(variant, lambda t: t.metrics.map50_95_large),
        evaluated=evaluated(variant.measured),
    )


def _std(variant: Variant) -> float | None:
    samples = _samples(variant, variant.value)
    return sample_std(samples.values) if samples else None


def cost_of(variant: Variant) -> Cost:
    """The cost of a variant: of its network from any trial, of its training from those that were measured."""
    described = variant.measured or [trial for trial in variant.trials if isinstance(trial, TrialRecord)]
    params, added = _mean(described, lambda t: t.cost.params), _mean(described, lambda t: t.cost.params_added)
    return Cost(
        params_m=None if params is None else params / 1e6,
        params_added_m=None if added is None else added / 1e6,
        gflops=_mean(described, lambda t: t.cost.gflops),
        gflops_ultralytics=_mean(described, lambda t: t.cost.gflops_ultralytics),
        train_minutes=_mean(variant.measured, lambda t: t.cost.train_minutes),
        seconds_per_epoch=_mean(variant.measured, lambda t: t.cost.seconds_per_epoch),
        energy_kwh=_mean(variant.measured, lambda t: t.cost.energy_kwh),
        peak_memory_gb=max(_numbers(variant.measured, lambda t: t.cost.peak_memory_gb), default=None),
    )


def trial_notes(variant: Variant) -> list[str]:
    """What went wrong in a variant's own trials, how few they are, and which weights they lack, in words."""
    total, notes = len(variant.trials), []
    lost = [trial for trial in variant.trials if not is_measured(trial, variant.metric)]
    troubles: dict[str, list[Record]] = {}
    for trial in lost:
        troubles.setdefault(status(trial, variant.metric), []).append(trial)
    for trouble, those in troubles.items():
        names = _named(those) if len(those) < total else ""
        which = f" ({names})" if names else ""
        notes.append(f"{len(those)} of {total} trials {trouble}{which}" if total > 1 else f"trial {trouble}")
    again = len(variant.measured) - len(variant.by_replicate)
    if again:
        of = "a seed" if variant.folds is None else "a seed and fold"
        notes.append(f"{again} more trials of {of} that was already there or has no number")
    if len(variant.measured) == 1:
        notes.append("one seed: no interval" if variant.folds is None else "one trial: no interval")
    # Measured by `ablate test` it is another matter: the record then has no epochs (see `split_comparison`).
    if any(t.metrics.split == "test" and t.setting("train", "split") != "val" and t.history for t in variant.measured):
        notes.append("validated on the test split after every epoch: that split is no longer held out")
    notes.append(stops(variant.measured))
    first = next(iter(variant.measured), None)
    if first is not None and first.realised.weights.source and (kept := first.graft.kept) and kept.kept < kept.tensors:
        notes.append(f"{kept} tensors of the replaced layers keep their starting weights")
    return notes


def _named(trials: Sequence[Record]) -> str:
    """Which repetitions some trials are, as far as that can be read."""
    replicates = sorted(Replicate(trial.seed, trial.fold) for trial in trials if trial.seed is not None)
    return named(replicates) if replicates else ""


def status(record: Record, metric: Metric) -> str:
    """How a trial ended, in words that continue 'the trial ...'."""
    if isinstance(record, DamagedTrial):
        return f"unreadable: {record.failure.message}"
    if not record.is_ours:
        return f"recorded by another version: schema {record.schema}, this one reads {SCHEMA}"
    if record.status == FAILED:
        return f"failed: {record.failure.type if record.failure else 'unknown reason'}"
    if record.status == FINISHED and not is_measured(record, metric):
        return f"finished without a number for {metric.label}"
    return record.status or "has no status"


def evaluated(trials: Sequence[TrialRecord]) -> str:
    """Split and checkpoint that the accuracies were measured on, e.g. 'val, best'."""
    parts = [(trial.metrics.split, trial.metrics.checkpoint) for trial in trials]
    return " | ".join(sorted({", ".join(part for part in pair if part) for pair in parts}))


Read = Callable[[TrialRecord], float | None]


def _numbers(trials: Sequence[TrialRecord], read: Read) -> list[float]:
    numbers = [read(trial) for trial in trials]
    return [one for one in numbers if one is not None and abs(one) < LIMIT]


def _mean(trials: Sequence[TrialRecord], read: Read) -> float | None:
    numbers = _numbers(trials, read)
    return fmean(numbers) if numbers else None


def _accuracy(variant: Variant, read: Read) -> float | None:
    samples = _samples(variant, read)
    return samples.mean if samples else None


def _samples(variant: Variant, read: Read) -> Samples | None:
    """The accuracies of the seeds, or with folds the mean of each; None where no trial has any."""
    accuracies = variant.accuracy(read)
    return samples_of(list(accuracies), list(accuracies.values()), variant.fold_share) if accuracies else None
