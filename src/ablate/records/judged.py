"""A sweep as its judge sees it: the accuracy of each trial, taken from the epochs that `judge` names.

Whatever reads accuracies reads `TrialRecord.metrics`; here it is replaced, in memory, so that tables, figures,
sentences and intervals are of one judge. A record on disk always has the best epoch's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

import msgspec

from ablate.records.metrics import EpochRow, Metrics
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import FINISHED, Record, TrialRecord
from ablate.settings.judge import BEST, LAST, SPLIT, check_judge, epochs_of_mean
from ablate.settings.metric import MAP50_95, METRICS, Metric, check_metric, metric_named

CROSS_JUDGED = "cross-judged halves"  # in place of a checkpoint's name
IN_WHOLE_GROUPS = f"{CROSS_JUDGED} of whole groups"


def judged_sweep(sweep: Sweep, judge: str | None = None) -> Sweep:
    """Return a sweep whose records have the accuracy of a judge.

    Args:
        sweep: As read; one that is judged already is returned as it is.
        judge: See `ablate.settings.judge`; the one that the sweep's command declared by default.
    """
    if sweep.judge:
        return sweep
    judge = judge or sweep.manifest.analysis.judge
    if judge == BEST:
        return replace(sweep, judge=judge)
    grouped = _in_whole_groups(sweep.trials) if judge == SPLIT else frozenset()
    trials = [judged_record(r, judge, sweep.metric, of_groups=r.signature in grouped) for r in sweep.trials]
    return replace(sweep, trials=trials, judge=judge)


def sweep_as_chosen(
    sweep: Sweep, *, judge: str | None = None, delta: float | None = None, metric: str | None = None
) -> Sweep:
    """Return a sweep as a report was asked to judge it; None: as its command declared.

    Raises:
        ConfigError: There is no such metric or judge, or the two do not go together.
    """
    if judge is not None:
        check_judge(judge)
    if metric is not None:
        metric_named(metric)
    chosen = sweep.with_metric(metric).with_margin(delta)
    check_metric(chosen.metric.name, judge or chosen.plan.judge)
    return judged_sweep(chosen, judge)


def judged_record(record: Record, judge: str, metric: Metric, *, of_groups: bool | None = None) -> Record:
    """Return a record with the accuracies of a judge; without any where it lacks what that needs.

    Args:
        record: As on disk.
        judge: See `ablate.settings.judge`.
        metric: By which a judge that chooses epochs chooses them.
        of_groups: Whether halves of the images are those with whole groups; None: where the record has these.
    """
    if judge == BEST or not isinstance(record, TrialRecord) or record.status != FINISHED or not record.is_ours:
        return record
    if judge == LAST:
        return msgspec.structs.replace(record, metrics=record.metrics_last, per_class=record.per_class_last)
    epochs = epochs_of_mean(judge)
    if epochs is None:
        whole = is_in_whole_groups(record) if of_groups is None else of_groups
        metrics = cross_judged(record.history, metric, of_groups=whole)
    else:
        metrics = mean_of_last(record.history, epochs)
    return msgspec.structs.replace(
        record, metrics=msgspec.structs.replace(metrics, split=record.metrics.split), per_class=()
    )


def mean_of_last(rows: Sequence[EpochRow], epochs: int) -> Metrics:
    """Return the means over the last epochs; None where there are fewer, or one of them was not evaluated."""

    def mean(metric: Metric) -> float | None:
        values = [row.value(metric) for row in rows[-epochs:]]
        numbers = [value for value in values if value is not None]
        return fmean(numbers) if len(numbers) == epochs else None

    accuracies = {each.name: mean(each) for each in METRICS.values() if each.is_of_epochs}
    checkpoint = f"mean of the last {epochs} epochs" if epochs > 1 else "last epoch"
    return msgspec.structs.replace(Metrics(checkpoint=checkpoint), **accuracies)


def cross_judged(rows: Sequence[EpochRow], chosen_by: Metric = MAP50_95, *, of_groups: bool = False) -> Metrics:
    """Return the accuracy of the best epoch where it is chosen on other images than it is judged on.

    The best epoch of each half of the validation images is judged on the other half; both are averaged (two-fold
    cross-validation of the choice of the epoch; Stone 1974, doi:10.1111/j.2517-6161.1974.tb00994.x). As with
    `best_epoch`, the last of equally good epochs is chosen. None where no epoch was evaluated on halves.

    Args:
        rows: The epochs.
        chosen_by: The metric that the best epoch has most of.
        of_groups: Whether the halves are those with whole groups of images.
    """
    evaluated = [row for row in rows if None not in row.halves(chosen_by, of_groups=of_groups)]
    best = [_best_on(evaluated, 1 - half, chosen_by, of_groups) for half in (0, 1)]

    def judged(metric: Metric) -> float | None:
        values = [row.halves(metric, of_groups=of_groups)[half] for half, row in enumerate(best) if row is not None]
        numbers = [value for value in values if value is not None]
        return fmean(numbers) if len(numbers) == 2 else None

    accuracies = {each.name: judged(each) for each in METRICS.values() if each.is_of_halves}
    return msgspec.structs.replace(Metrics(checkpoint=IN_WHOLE_GROUPS if of_groups else CROSS_JUDGED), **accuracies)


def is_in_whole_groups(record: Record) -> bool:
    """Whether every evaluated epoch of a training was evaluated on halves with whole groups of images."""
    if not isinstance(record, TrialRecord) or record.realised.group_halves is None:
        return False
    rows = [row for row in record.history if None not in row.halves(MAP50_95)]
    return bool(rows) and all(None not in row.halves(MAP50_95, of_groups=True) for row in rows)


def _in_whole_groups(records: Sequence[Record]) -> frozenset[str]:
    """Signatures of the trials whose halves have whole groups of images.

    Those of one data set must have the same halves to be compared, in each fold where there are some: where one of them
    was not evaluated on these, as the groups were not known then, all are judged on halves of single images. A variant
    is judged alike in all its folds.
    """
    by_data: dict[str | None, list[TrialRecord]] = {}
    for record in records:
        if isinstance(record, TrialRecord) and record.status == FINISHED and record.is_ours:
            by_data.setdefault(record.realised.data_fingerprint, []).append(record)
    return frozenset(
        record.signature
        for trials in by_data.values()
        if all(map(is_in_whole_groups, trials)) and _have_same_halves(trials)
        for record in trials
    )


def _have_same_halves(trials: Sequence[TrialRecord]) -> bool:
    halves = {(t.fold, t.realised.group_halves.digest) for t in trials if t.realised.group_halves}
    return len(halves) == len({fold for fold, _ in halves})


def _best_on(rows: Sequence[EpochRow], half: int, metric: Metric, of_groups: bool) -> EpochRow | None:
    """Return the last of the epochs that are best on one half of the images, 0 or 1."""
    return max(reversed(rows), key=lambda row: row.halves(metric, of_groups=of_groups)[half] or 0.0, default=None)
