"""Accuracy class by class, and what a variant changes in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from ablate.analysis.variant_row import Row
from ablate.records.class_names import ClassName, recorded_classes
from ablate.records.replicate import Replicate
from ablate.settings.metric import MAP50_95, Metric

ClassAccuracy = dict[ClassName, dict[Replicate, float]]  # class -> replicate -> average precision


def class_metric(rows: Sequence[Row]) -> Metric:
    """By what classes are compared: as variants are, or by mAP50-95 where that is not recorded of classes."""
    metric = next((row.variant.metric for row in rows), MAP50_95)
    return metric if metric.is_of_classes else MAP50_95


def class_accuracy(rows: Sequence[Row]) -> dict[str, ClassAccuracy]:
    """Variant label -> class -> replicate -> average precision, of the trials that were measured."""
    metric = class_metric(rows)
    by_label: dict[str, ClassAccuracy] = {}
    for row in rows:
        for replicate, trial in row.variant.by_replicate.items():
            for name, entry in zip(recorded_classes(trial), trial.per_class, strict=True):
                if (accuracy := entry.value(metric)) is not None:
                    by_label.setdefault(row.label, {}).setdefault(name, {})[replicate] = accuracy
    return by_label


def class_differences(accuracy: dict[str, ClassAccuracy], rows: Sequence[Row]) -> pd.DataFrame:
    """Mean paired difference to the baseline, shape (classes, variants); NaN where there is no shared replicate.

    Its index holds `ClassName`s: classes are the same where their index and their name are.
    """
    baseline = next((row.label for row in rows if row.is_baseline), None)
    of_baseline = accuracy.get(baseline or "", {})
    columns = {}
    for row in rows:
        classes = accuracy.get(row.label, {})
        if row.label == baseline or not classes:
            continue
        paired = {name: _differences(classes.get(name, {}), other) for name, other in of_baseline.items()}
        columns[row.label] = {name: float(np.mean(d)) if d else np.nan for name, d in paired.items()}
    table = pd.DataFrame(
        {label: [means[name] for name in of_baseline] for label, means in columns.items()},
        index=pd.Index(list(of_baseline), dtype="object"),
        dtype="float64",
    )
    return table.dropna(how="all").dropna(how="all", axis=1)


def _differences(variant: Mapping[Replicate, float], baseline: Mapping[Replicate, float]) -> list[float]:
    return [variant[one] - baseline[one] for one in sorted(variant.keys() & baseline.keys())]


def instances(rows: Sequence[Row]) -> dict[ClassName, int]:
    """Class -> how many ground-truth boxes it has in the images that the accuracy was measured on."""
    for trial in (trial for row in rows for trial in row.variant.measured):
        counts = {
            name: entry.instances
            for name, entry in zip(recorded_classes(trial), trial.per_class, strict=True)
            if entry.instances is not None
        }
        if counts:
            return counts
    return {}
