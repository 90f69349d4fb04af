"""A sweep as its judge sees it: the accuracy of each trial, taken from the epochs that `judge` names.

Whatever reads accuracies reads `TrialRecord.metrics`; here it is replaced, in memory, so that tables, figures,
sentences and intervals are of one judge. A record on disk always has the best epoch's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from statistics import fmean

import msgspec

from ablate.records.metrics import EpochRow, Metrics
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import FINISHED, Record, TrialRecord
from ablate.settings.judge import BEST, LAST, epochs_of_mean

CROSS_JUDGED = "cross-judged halves"  # in place of a checkpoint's name
Read = Callable[[EpochRow], float | None]


def judged_sweep(sweep: Sweep, judge: str | None = None) -> Sweep:
    """Return a sweep whose records have the accuracy of a judge.

    Args:
        sweep: As read; one that is judged already is returned as it is.
        judge: See `ablate.settings.judge`; the one that the sweep's command declared by default.
    """
    if sweep.judge:
        return sweep
    judge = judge or sweep.manifest.analysis.judge
    trials = sweep.trials if judge == BEST else [judged_record(record, judge) for record in sweep.trials]
    return replace(sweep, trials=trials, judge=judge)


def judged_record(record: Record, judge: str) -> Record:
    """Return a record with the accuracy of a judge; without any accuracy where it lacks what that needs."""
    if judge == BEST or not isinstance(record, TrialRecord) or record.status != FINISHED or not record.is_ours:
        return record
    if judge == LAST:
        return msgspec.structs.replace(record, metrics=record.metrics_last, per_class=record.per_class_last)
    epochs = epochs_of_mean(judge)
    metrics = cross_judged(record.history) if epochs is None else mean_of_last(record.history, epochs)
    return msgspec.structs.replace(
        record, metrics=msgspec.structs.replace(metrics, split=record.metrics.split), per_class=()
    )


def mean_of_last(rows: Sequence[EpochRow], epochs: int) -> Metrics:
    """Return the means over the last epochs; None where there are fewer, or one of them was not evaluated."""

    def mean(read: Read) -> float | None:
        values = [read(row) for row in rows[-epochs:]]
        numbers = [value for value in values if value is not None]
        return fmean(numbers) if len(numbers) == epochs else None

    return Metrics(
        map50_95=mean(lambda row: row.map50_95),
        map50=mean(lambda row: row.number("map50")),
        precision=mean(lambda row: row.number("precision")),
        recall=mean(lambda row: row.number("recall")),
        checkpoint=f"mean of the last {epochs} epochs" if epochs > 1 else "last epoch",
    )


def cross_judged(rows: Sequence[EpochRow]) -> Metrics:
    """Return the accuracy of the best epoch where it is chosen on other images than it is judged on.

    The best epoch of each half of the validation images is judged on the other half; both are averaged (two-fold
    cross-validation of the choice of the epoch; Stone 1974, doi:10.1111/j.2517-6161.1974.tb00994.x). As with
    `best_epoch`, the last of equally good epochs is chosen. None where no epoch was evaluated on halves.
    """
    evaluated = [row for row in rows if None not in row.halves("map50_95")]

    def judged(metric: str) -> float | None:
        values = [best.halves(metric)[half] for half in (0, 1) if (best := _best_on(evaluated, 1 - half)) is not None]
        numbers = [value for value in values if value is not None]
        return fmean(numbers) if len(numbers) == 2 else None

    return Metrics(map50_95=judged("map50_95"), map50=judged("map50"), checkpoint=CROSS_JUDGED)


def _best_on(rows: Sequence[EpochRow], half: int) -> EpochRow | None:
    """Return the last of the epochs that are best on one half of the images, 0 or 1."""
    return max(reversed(rows), key=lambda row: row.halves("map50_95")[half] or 0.0, default=None)
