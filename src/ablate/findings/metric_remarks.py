"""By what variants are compared, and whether that was declared before the results."""

from __future__ import annotations

from ablate.analysis.comparison import Comparison
from ablate.analysis.number_format import points
from ablate.records.sweep_record import Sweep
from ablate.settings.judge import BEST
from ablate.settings.metric import MAP50_95


def exploratory(comparison: Comparison) -> list[str]:
    """That the metric was chosen after the results, said before what is of it; nothing where it was not."""
    sweep, metric = comparison.sweep, comparison.metric
    declared = sweep.manifest.analysis.primary
    if metric is declared:
        return []
    text = (
        f"Variants are compared by {metric.label} (metric={metric.name}), declared afterwards: the command declared "
        f"metric={declared.name}. Differences, tests and verdicts of a metric that was chosen after the results are "
        "exploratory."
    )
    return [text, *_without_margin(sweep)]


def metric_remarks(comparison: Comparison) -> list[str]:
    """What is to be said of the metric; nothing where it is mAP50-95, as declared."""
    sweep, metric = comparison.sweep, comparison.metric
    declared = sweep.manifest.analysis.primary
    texts = []
    if metric is declared and metric is not MAP50_95:
        texts.append(
            f"Variants are compared by {metric.label} (metric={metric.name}), as declared with the command: "
            "differences, tests and verdicts are of it."
        )
    if sweep.judge == BEST and metric is not MAP50_95:
        texts.append(
            f"The best epoch of each training is that with the highest {MAP50_95.label}, by which Ultralytics keeps a "
            f"checkpoint; another epoch may have a higher {metric.label}."
        )
    if metric.is_of_counts:
        other = "recall" if metric.name == "precision" else "precision"
        texts.append(
            f"Each network's {metric.label} is at the confidence of its own best F1; a higher one may come with a "
            f"lower {other}."
        )
    return texts


def _without_margin(sweep: Sweep) -> list[str]:
    """That the declared margin is of another metric, where there is one."""
    declared = sweep.manifest.analysis
    if declared.delta is None or sweep.plan.delta is not None:
        return []
    return [
        f"The declared margin, {points(declared.delta, signed=False)} points, is of {declared.primary.label} and is "
        f"not used; delta= gives one of {sweep.metric.label}."
    ]
