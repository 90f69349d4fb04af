"""`metric`: the accuracy by which variants are compared, declared before the results.

Every metric here is recorded of each trial, a fraction from 0 to 1 of which more is better; differences are told in
points (0.01). A reader of a report has one primary metric: its tests are the family that is corrected for, and any
other number of the table is beside it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ablate.errors import ConfigError, nearest
from ablate.settings.judge import SPLIT, epochs_of_mean


@dataclass(frozen=True)
class Metric:
    """An accuracy by which variants can be compared: a fraction from 0 to 1, more is better.

    Attributes:
        name: In records, options and columns, such as "map50_95".
        label: For people, in the middle of a sentence too.
        latex: The same in LaTeX.
        is_of_epochs: Whether it is recorded after each epoch.
        is_of_halves: Whether it is recorded after each epoch on either half of the validation images.
        is_of_classes: Whether it is recorded of each class.
        threshold: Index of the threshold of IoU that it is at, of 0.50, 0.55, ..., 0.95; None: it is a mean over all.
        size: COCO's size of the objects that it is of: "small", "medium", "large"; empty: all objects.
        is_of_counts: Whether it counts detections at one confidence, and is no average precision: each network has the
            confidence of its own best F1.
    """

    name: str
    label: str
    latex: str
    is_of_epochs: bool = False
    is_of_halves: bool = False
    is_of_classes: bool = False
    threshold: int | None = None
    size: str = ""
    is_of_counts: bool = False

    @property
    def of_class(self) -> str:
        """The label of one class's, such as "AP50-95"."""
        return self.label.removeprefix("m")


MAP50_95 = Metric(
    "map50_95", "mAP50-95", r"mAP$_{50\text{-}95}$", is_of_epochs=True, is_of_halves=True, is_of_classes=True
)
METRICS = {
    metric.name: metric
    for metric in (
        MAP50_95,
        Metric("map50", "mAP50", "mAP$_{50}$", is_of_epochs=True, is_of_halves=True, is_of_classes=True, threshold=0),
        Metric("map75", "mAP75", "mAP$_{75}$", is_of_classes=True, threshold=5),
        Metric("precision", "precision", "precision", is_of_epochs=True, threshold=0, is_of_counts=True),
        Metric("recall", "recall", "recall", is_of_epochs=True, threshold=0, is_of_counts=True),
        Metric("map50_95_small", "AP small", r"AP$_{\mathrm{small}}$", size="small"),
        Metric("map50_95_medium", "AP medium", r"AP$_{\mathrm{medium}}$", size="medium"),
        Metric("map50_95_large", "AP large", r"AP$_{\mathrm{large}}$", size="large"),
    )
}
METRIC = f"^({'|'.join(METRICS)})$"


def metric_named(name: str) -> Metric:
    """Return the metric of a name.

    Raises:
        ConfigError: There is none of this name.
    """
    if name not in METRICS:
        raise ConfigError(f"metric={name}: {nearest(name, list(METRICS))}valid: {', '.join(METRICS)}")
    return METRICS[name]


def check_metric(name: str, judge: str) -> None:
    """Check the name of a metric, and that a judge can take it from what epochs record.

    Raises:
        ConfigError: There is no such metric, or the epochs that the judge needs do not record it.
    """
    metric = metric_named(name)
    if judge == SPLIT and not metric.is_of_halves:
        valid = _names(each for each in METRICS.values() if each.is_of_halves)
        raise ConfigError(
            f"metric={name} judge={judge}: the halves of the validation images have no {metric.label} of each epoch; "
            f"valid with judge={judge}: metric={valid}; or judge=best, judge=last"
        )
    if epochs_of_mean(judge) is not None and not metric.is_of_epochs:
        valid = _names(each for each in METRICS.values() if each.is_of_epochs)
        raise ConfigError(
            f"metric={name} judge={judge}: {metric.label} is not recorded after each epoch; "
            f"valid with judge={judge}: metric={valid}; or judge=best, judge=last"
        )


def _names(metrics: Iterable[Metric]) -> str:
    return ", ".join(metric.name for metric in metrics)
