"""Curves of a run: points of epochs and of samples of the machine, and which of them the store has already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from ablate.records.machine_sample import MachineSample
from ablate.records.metrics import EpochRow
from ablate.tracking import mlflow_payload as payload

Point = tuple[str, int, int]  # "epoch" or "sample", step, milliseconds
Points = dict[Point, dict[str, float]]  # -> metrics
KINDS = ("epoch", "sample")
LATEST = 1e15  # seconds; no time is that late


def points_of(rows: Sequence[EpochRow], samples: Sequence[MachineSample]) -> Points:
    """Return the points of finished epochs and of samples; those without a step or a time are left out."""
    points: Points = {}
    for row in rows:
        if row.time is not None and abs(row.time) < LATEST:
            points["epoch", row.epoch, int(row.time * 1000)] = payload.epoch_metrics(row)
    for sample in samples:
        if sample.step is not None and sample.time is not None and abs(sample.time) < LATEST:
            points["sample", int(sample.step), int(sample.time * 1000)] = payload.sample_metrics(sample)
    return points


def metrics_of(points: Points) -> list[Any]:
    """Return points as a list of MLflow's metrics."""
    from mlflow.entities import Metric

    return [
        Metric(name, value, moment, step)
        for (_, step, moment), values in points.items()
        for name, value in values.items()
    ]


def stored_times(client: Any, run_id: str, points: Points, kind: str) -> dict[int, int]:
    """Return by step the time in milliseconds of the points of a kind that a run has; one request.

    The history of one metric suffices: a point's metrics are sent in order, so a run that has the last one has all.
    """
    metrics = [values for (point_kind, _, _), values in points.items() if point_kind == kind and values]
    if not metrics:
        return {}
    counts = Counter(name for values in metrics for name in values)
    most = max(counts.values())
    in_most_points = [name for name in metrics[-1] if counts[name] == most] or [counts.most_common(1)[0][0]]
    return {metric.step: metric.timestamp for metric in client.get_metric_history(run_id, in_most_points[-1])}
