"""Training curves: accuracy by epoch, with bands over seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from ablate.analysis.comparison import Comparison
from ablate.analysis.phrases import listed
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import Variant
from ablate.records.trial_record import TrialRecord
from ablate.report.figures.lettering import in_legend, wrapped
from ablate.report.figures.style import (
    BASELINE,
    SETTINGS,
    SMALLEST,
    TWO_COLUMNS,
    Drawing,
    Style,
    dagger_caption,
    fix_layout,
    paragraph,
    styles,
    written_name,
)
from ablate.report.foremost_rows import foremost, limit_text
from ablate.settings.metric import MAP50_95, Metric

STEEP = 0.1  # share of the epochs in which all rise alike, and that would flatten the rest
LINES = 10  # of one panel
PANELS = 6
MOST = 4  # lines over other seeds that are named in the caption
LETTER = 0.06  # inches, of a legend
HANDLE = 9  # letters that the line of an entry takes
LONGEST = 100_000  # epochs; more can only be damage


def training_curves(comparison: Comparison) -> Drawing | None:
    """Accuracy over epochs, one panel per comparison group and one line per variant.

    The line is the mean over seeds, as far as all seeds got; the band reaches from the lowest to the
    highest seed. By the metric that variants are compared by, or by mAP50-95 where epochs do not record it.
    """
    metric = comparison.metric if comparison.metric.is_of_epochs else MAP50_95
    curves = {row.key: trials for row in comparison.rows if (trials := _curves(row.variant, metric))}
    groups = [group for group in comparison.groups if any(row.key in curves for row in group.rows)]
    if not groups:
        return None
    shown = [foremost([row for row in group.rows if row.key in curves], LINES) for group in groups[:PANELS]]
    drawn = styles(comparison)
    same = len({row.data for row in comparison.rows}) == 1
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    names = [[in_legend(written_name(row)) for row in rows] for rows in shown]
    with mpl.rc_context(SETTINGS):
        label_lines = max(_wrap_labels(labels, columns)[1] for labels in names)
        figure = Figure(figsize=(TWO_COLUMNS, (2.9 + 0.16 * label_lines) * lines), layout="constrained")
        share: Axes | None = None
        for position, (group, rows, labels) in enumerate(zip(groups, shown, names, strict=False), start=1):
            texts, _, across = _wrap_labels(labels, columns)
            axes = figure.add_subplot(lines, columns, position, sharey=share if same else None)
            share = share or axes
            for row, text in zip(rows, texts, strict=True):
                _draw_curve(axes, curves[row.key], drawn[row.label], text, band=not row.is_control)
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.set(
                xlabel="epoch", ylabel=f"{metric.label} (validation)", title=replace(group, rows=tuple(rows)).title
            )
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.19), ncols=across, handlelength=3.8,
                fontsize=SMALLEST,
            )  # fmt: skip
        is_cut = _set_limits(figure, is_shared=same)
        fix_layout(figure)
    rows_shown = [row for rows in shown for row in rows]
    several = any(len(trials) > 1 for trials in curves.values())
    limits = [
        *(
            limit_text(len(rows), len(group.rows), f"variants of {group.title}")
            for group, rows in zip(groups, shown, strict=False)
        ),
        limit_text(len(shown), len(groups), "comparison groups", "in the table's order"),
    ]
    words = _caption(comparison, metric, rows_shown, several=several, is_cut=is_cut)
    return Drawing(figure, paragraph([*words, *limits]), tuple(row.key for row in rows_shown))


def _set_limits(figure: Figure, *, is_shared: bool) -> bool:
    """Set the ends of the accuracy axes; returns whether a line begins below its panel."""
    limits = [_limits(axes) for axes in figure.axes]
    if is_shared:  # panels that share an axis have the limits of the one that was set last
        limits = [(min(low for low, _ in limits), max(high for _, high in limits))] * len(limits)
    for axes, (low, high) in zip(figure.axes, limits, strict=True):
        axes.set_ylim(low, high)
    return any(_lowest(line) < low for axes, (low, _) in zip(figure.axes, limits, strict=True) for line in axes.lines)


def _caption(comparison: Comparison, metric: Metric, rows: Sequence[Row], *, several: bool, is_cut: bool) -> list[str]:
    """What lines and bands are, but for what is left out; `several` is whether a variant has more than one trial."""
    what = "trial" if comparison.units == "folds" else "seed"
    over = f"all {what}s" if what == "trial" else "seeds"
    band = f"mean over {over} up to the last epoch that all {what}s reached; band: lowest to highest {what}"
    others = [
        row.label
        for group in comparison.groups
        for row in group.rows
        if group.baseline and row in rows and row.variant.by_replicate.keys() != group.baseline.by_replicate.keys()
    ]
    band += ", not drawn for controls." if any(row.is_control for row in rows) else "."
    return [
        f"{metric.label} on the validation images after each epoch: {band if several else f'one {what} each.'}",
        "" if metric is comparison.metric else f"{comparison.metric.label} is not recorded after each epoch.",
        "The baseline is the thick black line." if any(row.is_baseline for row in rows) else "",
        "The first epochs are below the panel, so that later ones can be distinguished." if is_cut else "",
        f"Over other {what}s than the baseline's, which alone may raise or lower a line: {listed(others, MOST)}."
        if others
        else "",
        dagger_caption(rows),
    ]


def _wrap_labels(labels: list[str], panels: int) -> tuple[list[str], int, int]:
    """Labels of a legend beneath one of so many panels in a row, how many lines of text they take, and its columns."""
    letters = (TWO_COLUMNS / panels - 0.2) / LETTER
    columns = 2 if panels == 1 and max(map(len, labels)) + HANDLE <= letters / 2 else 1
    texts = [wrapped(label, int(letters - HANDLE), 2) for label in labels] if columns == 1 else labels
    return texts, sum(text.count("\n") + 1 for text in texts) // columns + 1, columns


def _limits(axes: Axes) -> tuple[float, float]:
    """Ends of the axis, with lines and bands between them: of the steep beginning only its end is shown."""
    lines = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    epochs = [np.asarray(line.get_xdata(), dtype=np.float64) for line in axes.lines]
    first = min(float(epoch[int(STEEP * len(epoch))]) for epoch in epochs)
    bands = [path.vertices for band in axes.collections for path in band.get_paths()]
    seeds = [np.asarray(corners)[np.asarray(corners)[:, 0] >= first, 1] for corners in bands]
    low = min(float(np.nanmin(part)) for part in (*(line[int(STEEP * len(line)) :] for line in lines), *seeds))
    high = max(float(np.nanmax(part)) for part in (*lines, *seeds))
    room = 0.06 * (high - low) or 0.01
    return low - room, high + 2 * room


def _lowest(line: Line2D) -> float:
    return float(np.nanmin(np.asarray(line.get_ydata(), dtype=np.float64)))


def _curves(variant: Variant, metric: Metric) -> list[np.ndarray]:
    """Accuracy by epoch: an array of shape (epochs,) per measured trial with a history.

    Empty where the trials have no epoch in common that all of them were evaluated after.
    """
    curves = [curve for trial in variant.measured if np.isfinite(curve := _curve(trial, metric)).any()]
    return curves if curves and len(_shared(curves)[0]) else []


def _shared(curves: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs that all trials were evaluated after, (E,), and their accuracies then, (trials, E)."""
    length = min(len(curve) for curve in curves)
    stack = np.stack([curve[:length] for curve in curves])
    evaluated = np.isfinite(stack).all(axis=0)
    return np.arange(1, length + 1)[evaluated], stack[:, evaluated]


def _curve(record: TrialRecord, metric: Metric) -> np.ndarray:
    """Accuracy by epoch from 1, shape (last epoch,); NaN where an epoch has none."""
    points = {
        row.epoch: accuracy
        for row in record.history
        if 1 <= row.epoch <= LONGEST and (accuracy := row.value(metric)) is not None
    }
    curve = np.full(max(points, default=0), np.nan)
    for epoch, accuracy in points.items():
        curve[epoch - 1] = accuracy
    return curve


def _draw_curve(axes: Axes, curves: list[np.ndarray], style: Style, label: str, *, band: bool) -> None:
    epochs, stack = _shared(curves)
    baseline = style.color == BASELINE
    if len(curves) > 1 and band:
        low, high = stack.min(axis=0), stack.max(axis=0)
        axes.fill_between(epochs, low, high, facecolor=style.color, edgecolor="none", alpha=0.12, zorder=1)
    axes.plot(
        epochs,
        stack.mean(axis=0),
        color=style.color,
        linestyle=style.dashes,
        marker=style.marker,
        markersize=4.5,
        markevery=max(1, len(epochs) // 8),
        linewidth=2.0 if baseline else 1.5,
        label=label,
        zorder=4 if baseline else 3,
        markerfacecolor="white",
    )
