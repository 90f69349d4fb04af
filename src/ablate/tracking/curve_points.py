"""Curves of a run: points of epochs and of samples of the machine, and which of them the store has already."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ablate.records.metrics import EpochRow
from ablate.records.records import number
from ablate.tracking import mlflow_payload as entries

Point = tuple[str, int, int]  # "epoch" or "sample", step, milliseconds
Points = dict[Point, dict[str, float]]  # -> metrics
KINDS = ("epoch", "sample")


def points_of(rows: Sequence[EpochRow], samples: Sequence[Mapping[str, Any]]) -> Points:
    """Return the points of finished epochs and of samples; what has no step or no time is left out."""
    points: Points = {}
    for row in rows:
        if row.time is not None:
            points["epoch", row.epoch, int(row.time * 1000)] = entries.epoch_metrics(row)
    for sample in samples:
        step, moment = number(sample, "step"), number(sample, "time")
        if step is not None and moment is not None:
            points["sample", int(step), int(moment * 1000)] = entries.sample_metrics(sample)
    return points


def metrics_of(points: Points) -> list[Any]:
    """Return points as MLflow's metrics, one after the other."""
    from mlflow.entities import Metric

    return [
        Metric(name, found, moment, step)
        for (_, step, moment), values in points.items()
        for name, found in values.items()
    ]


def held_times(client: Any, run_id: str, points: Points, kind: str) -> dict[int, int]:
    """Return the time in milliseconds of each step that a run has of a kind of points; one request.

    A point's metrics are sent in their order, so that who has the last one has them all.
    """
    shown = [values for (of, _, _), values in points.items() if of == kind and values]
    if not shown:
        return {}
    counts = Counter(name for values in shown for name in values)
    most = max(counts.values())
    telling = [name for name in shown[-1] if counts[name] == most] or [counts.most_common(1)[0][0]]
    return {metric.step: metric.timestamp for metric in client.get_metric_history(run_id, telling[-1])}
