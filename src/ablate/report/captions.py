"""What the columns of the tables mean, in the words that stand beneath them."""

from __future__ import annotations

from ablate.analysis.columns import columns_in
from ablate.analysis.comparison import Comparison
from ablate.analysis.image_groups import drawn_again
from ablate.findings.facts import latency_facts
from ablate.settings.metric import MAP50_95

# Of the protocol of a latency measurement: what a caption says.
PROTOCOL = ("device name", "scope", "batch", "precision", "backend", "imgsz", "threads", "rounds", "processes")


def caption(comparison: Comparison) -> str:
    """What the columns mean, and under which protocol they were measured, in one paragraph."""
    return f"{accuracy_caption(comparison)} {cost_caption(comparison)}"


def accuracy_caption(comparison: Comparison) -> str:
    """What the columns on accuracy mean."""
    rows = comparison.rows
    differences = [row.difference for row in rows if row.difference is not None]
    measured = " | ".join(dict.fromkeys(row.accuracy.evaluated for row in rows if row.accuracy.evaluated))
    words = ["Accuracies are fractions from 0 to 1, means over seeds" + (f" ({measured})." if measured else ".")]
    if any(row.accuracy.std is not None for row in rows):
        words.append("std is the sample standard deviation over seeds.")
    if comparison.components:
        words.append("A check mark is a component that the variant has; the baseline has none.")
    of = "" if comparison.metric is MAP50_95 else f", in {comparison.metric.label}"
    words.append(f"Δ is the mean over shared seeds of variant minus baseline{of}.")
    if any(difference.p_value is not None for difference in differences):
        words.append(
            "CIs over seeds use Student's t; p is that of the paired t-test, Holm-corrected over all variants."
        )
    if any(difference.fold_share is not None for difference in differences):
        words.append(
            "Over folds, CI and p are those of the corrected resampled t-test (Nadeau and Bengio), on the mean of each "
            "fold over its seeds: folds share training images."
        )
    if any(difference.over_images is not None for difference in differences):
        words.append(
            "The CI over seeds covers seed-to-seed variance on the same images, the CI over images (paired bootstrap) "
            f"the sampling of {drawn_again(rows)} for the same trained networks, the CI over both seeds and images."
        )
    words.append("Bold is the best of the comparable rows on the same data.")
    return " ".join(words)


def details_caption(comparison: Comparison) -> str:
    """What the columns of the table of details mean, as far as they hold anything."""
    columns = [column for column in columns_in("details", comparison.metric) if column.explanation]
    known = [column for column in columns if any(column.get(row) is not None for row in comparison.rows)]
    return " ".join(dict.fromkeys(column.explanation for column in known))


def cost_caption(comparison: Comparison) -> str:
    """What the columns on cost mean."""
    words = ["Training time is the mean, memory the highest peak over seeds."]
    protocol = latency_facts(comparison)
    if protocol and any(row.latency.median_ms is not None for row in comparison.rows):
        facts = ", ".join(f"{key} {protocol[key]}" for key in PROTOCOL if key in protocol)
        words.append(f"Latency is the median ({facts}).")
    return " ".join(words)
