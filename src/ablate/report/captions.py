"""What the columns of the tables mean, in the words that stand beneath them."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.analysis.columns import OTHERS, columns_in
from ablate.analysis.comparison import Comparison
from ablate.analysis.image_groups import drawn_again
from ablate.analysis.variant_row import Difference, Row
from ablate.findings.facts import latency_facts
from ablate.findings.late_declarations import beneath_tables
from ablate.report.text_table import best_rows
from ablate.settings.metric import MAP50_95
from ablate.statistics.paired import ALPHA

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
    over_folds, replicates = comparison.units == "folds", comparison.averaged_over
    means = "folds, each the mean over its seeds" if over_folds else replicates
    words = [f"Accuracies are fractions from 0 to 1, means over {means}" + (f" ({measured})." if measured else ".")]
    if over_folds:
        words.append("The number of trials is that of seeds x folds.")
    if any(row.accuracy.std is not None for row in rows):
        words.append(f"std is the sample standard deviation over {comparison.units}.")
    if comparison.components:
        words.append("A check mark is a component that the variant has; the baseline has none.")
    of = "" if comparison.metric is MAP50_95 else f", in {comparison.metric.label}"
    words.append(f"Δ is the mean over shared {replicates} of variant minus baseline{of}.")
    words += [others_legend(comparison)] if any(row.is_over_others for row in rows) else []
    words += [*_tests(comparison, differences), *_intervals(rows, differences)]
    if any(best_rows(comparison).values()):
        alike = f" and over the same {replicates}" if any(row.is_over_others for row in rows) else ""
        words.append(f"Bold is the best measured value of the comparable rows on the same data{alike}, controls apart.")
    return " ".join([*words, *beneath_tables(comparison.sweep)])


def others_legend(comparison: Comparison) -> str:
    """What the mark beside an accuracy means."""
    over = comparison.averaged_over
    return (
        f"{OTHERS}: Δ is over fewer {over} than this accuracy or the baseline's, so it is not the difference of the "
        "two."
    )


def _tests(comparison: Comparison, differences: Sequence[Difference]) -> list[str]:
    """How the intervals and p-values over seeds, or over folds, are computed, and what a verdict means."""
    words, plan = [], comparison.sweep.plan
    if any(d.p_value is not None and d.fold_share is None for d in differences):
        words.append(
            "CIs over seeds are Student's t intervals, each for one variant; p is of the paired t-test. Both assume "
            "normal differences."
        )
    if any(d.p_value is not None and d.fold_share is not None for d in differences):
        words.append(
            "CIs over folds, each for one variant, and p are of the corrected resampled t-test (Nadeau and Bengio "
            "2003) on the mean of each fold over its seeds, because folds share training images. What needs "
            "independent replicates (sign-flip test, effect size, number of seeds needed) is left out."
        )
    if any(d.looks is not None for d in differences):
        together = f" and for all {plan.tests} comparisons together" if plan.tests > 1 else ""
        words.append(f"Seeds were added until a verdict: CIs over seeds and p (Holm) hold at all looks{together}.")
    elif comparison.tests == 1:
        words.append("p (Holm) is p, because one variant is tested; controls are not among them.")
    elif comparison.tests:
        words.append(
            f"p (Holm) is p corrected for {comparison.tests} tests, one for each comparable variant; controls "
            "are not among them."
        )
    if any(d.verdict is not None for d in differences):
        margin = f", equivalent if the difference is shown to be within ±{plan.delta:g}" if plan.delta else ""
        better = f"better or worse if p (Holm) is below {ALPHA:g}{also_required(comparison)}"
        words.append(f"Verdict: {better}{margin}, else undecided.")
    return words


def also_required(comparison: Comparison) -> str:
    """What beside the corrected p-value decides whether a difference is significant; empty where nothing does."""
    differences = [row.difference for row in comparison.rows if row.difference is not None]
    skewness = comparison.skewness
    is_asked = skewness is not None and skewness.is_notable and any(d.p_skewed is not None for d in differences)
    text = ", and the tests that allow for skewness agree" if is_asked else ""
    if any(d.p_sequential is not None and d.looks is None for d in differences):
        text += ", and so is p (sequential)"
    return text


def _intervals(rows: Sequence[Row], differences: Sequence[Difference]) -> list[str]:
    """What each kind of interval covers, of those that are there."""
    covers = []
    if any(d.over_seeds is not None and d.fold_share is None for d in differences):
        covers.append("the CI over seeds covers seed-to-seed variance on the same images")
    if any(d.over_images is not None for d in differences):
        covers.append(
            f"the CI over images (paired bootstrap) covers the sampling of {drawn_again(rows)} for the same trained "
            "networks"
        )
    if any(d.over_both is not None for d in differences):
        covers.append("the CI over both covers seeds and images together")
    text = "; ".join(covers)
    return [f"{text[0].upper()}{text[1:]}."] if text else []


def details_caption(comparison: Comparison) -> str:
    """What the columns of the table of details mean, as far as they hold anything."""
    columns = [
        column.over(comparison.units, comparison.images)
        for column in columns_in("details", comparison.metric)
        if column.explanation
    ]
    known = [column for column in columns if any(column.get(row) is not None for row in comparison.rows)]
    return " ".join(dict.fromkeys(column.explanation for column in known))


def cost_caption(comparison: Comparison) -> str:
    """What the columns on cost mean."""
    rows = comparison.rows
    words = [f"Training time is the mean, memory the highest peak over {comparison.averaged_over}."]
    protocol = latency_facts(comparison)
    if protocol and any(row.latency.median_ms is not None for row in rows):
        facts = ", ".join(f"{key} {protocol[key]}" for key in PROTOCOL if key in protocol)
        many = any(row.latency.over_processes for row in rows)
        median = "geometric mean over processes of each one's median over its rounds" if many else "median over rounds"
        words.append(f"Latency is the {median} ({facts}).")
    if any(row.latency.ratio is not None for row in rows):
        words.append("The ratio to the baseline is of times that were measured in the same rounds.")
    return " ".join(words)
