"""Training curves: accuracy by epoch, with bands over seeds."""

from __future__ import annotations

from dataclasses import replace

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ablate.analysis.comparison import Comparison
from ablate.analysis.variants import Variant
from ablate.records.trial_record import TrialRecord
from ablate.report.figures.lettering import in_legend
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
from ablate.report.selection import foremost, limit_text

STEEP = 0.1  # share of the epochs in which all rise alike, and that would flatten the rest
LINES = 10  # of one panel
PANELS = 6
LONGEST = 100_000  # epochs; more can only be damage


def training_curves(comparison: Comparison) -> Drawing | None:
    """mAP50-95 over epochs, one panel per comparison group and one line per variant.

    The line is the mean over seeds, as far as all seeds got; the band reaches from the lowest to the
    highest seed.
    """
    curves = {row.key: trials for row in comparison.rows if (trials := _curves(row.variant))}
    groups = [group for group in comparison.groups if any(row.key in curves for row in group.rows)]
    if not groups:
        return None
    shown = [foremost([row for row in group.rows if row.key in curves], LINES) for group in groups[:PANELS]]
    drawn = styles(comparison)
    same = len({row.data for row in comparison.rows}) == 1
    columns = min(2, len(shown))
    lines = -(-len(shown) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(TWO_COLUMNS, 3.6 * lines), layout="constrained")
        share: Axes | None = None
        for position, (group, rows) in enumerate(zip(groups, shown, strict=False), start=1):
            axes = figure.add_subplot(lines, columns, position, sharey=share if same else None)
            share = share or axes
            for row in rows:
                _draw_curve(axes, curves[row.key], drawn[row.label], in_legend(written_name(row)))
            axes.set(xlabel="epoch", ylabel="mAP50-95 (validation)", title=replace(group, rows=tuple(rows)).title)
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.19), ncols=1 if columns == 2 else 2, handlelength=3.8,
                fontsize=SMALLEST,
            )  # fmt: skip
        limits = [_limits(axes) for axes in figure.axes]
        if same:  # panels that share an axis have the limits of the one that was set last
            limits = [(min(low for low, _ in limits), max(high for _, high in limits))] * len(limits)
        for axes, (low, high) in zip(figure.axes, limits, strict=True):
            axes.set_ylim(low, high)
        cut = any(
            _lowest(line) < low for axes, (low, _) in zip(figure.axes, limits, strict=True) for line in axes.lines
        )
        fix_layout(figure)
    several = any(len(trials) > 1 for trials in curves.values())
    band = "the mean over seeds, as far as all seeds got; the band reaches from the lowest to the highest seed."
    rows_shown = [row for rows in shown for row in rows]
    caption = [
        f"mAP50-95 on the validation images after each epoch: {band if several else 'one seed each.'}",
        "The baseline is the thick black line." if any(row.is_baseline for row in rows_shown) else "",
        "The first epochs lie below the panel, so that the rest can be told apart." if cut else "",
        dagger_caption(rows_shown),
        *(
            limit_text(len(rows), len(group.rows), f"variants of {group.title}")
            for group, rows in zip(groups, shown, strict=False)
        ),
        limit_text(len(shown), len(groups), "comparison groups", "in the table's order"),
    ]
    return Drawing(figure, paragraph(caption), tuple(row.key for row in rows_shown))


def _limits(axes: Axes) -> tuple[float, float]:
    """Ends of the axis: of the steep beginning only its end is shown."""
    lines = [np.asarray(line.get_ydata(), dtype=np.float64) for line in axes.lines]
    low = min(float(np.nanmin(line[int(STEEP * len(line)) :])) for line in lines)
    high = max(float(np.nanmax(line)) for line in lines)
    room = 0.06 * (high - low) or 0.01
    return low - room, high + 2 * room


def _lowest(line: Line2D) -> float:
    return float(np.nanmin(np.asarray(line.get_ydata(), dtype=np.float64)))


def _curves(variant: Variant) -> list[np.ndarray]:
    """Accuracy by epoch: an array of shape (epochs,) per measured trial with a history.

    Empty where the trials have no epoch in common that all of them were evaluated after.
    """
    curves = [curve for trial in variant.measured if np.isfinite(curve := _curve(trial)).any()]
    return curves if curves and len(_shared(curves)[0]) else []


def _shared(curves: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs that all trials were evaluated after, (E,), and their accuracies then, (trials, E)."""
    length = min(len(curve) for curve in curves)
    stack = np.stack([curve[:length] for curve in curves])
    evaluated = np.isfinite(stack).all(axis=0)
    return np.arange(1, length + 1)[evaluated], stack[:, evaluated]


def _curve(record: TrialRecord) -> np.ndarray:
    """mAP50-95 by epoch from 1, shape (last epoch,); NaN where an epoch has none."""
    points = {
        row.epoch: accuracy
        for row in record.history
        if 1 <= row.epoch <= LONGEST and (accuracy := row.map50_95) is not None
    }
    curve = np.full(max(points, default=0), np.nan)
    for epoch, accuracy in points.items():
        curve[epoch - 1] = accuracy
    return curve


def _draw_curve(axes: Axes, curves: list[np.ndarray], style: Style, label: str) -> None:
    epochs, stack = _shared(curves)
    baseline = style.color == BASELINE
    if len(curves) > 1:
        axes.fill_between(epochs, stack.min(axis=0), stack.max(axis=0), color=style.color, alpha=0.13, linewidth=0)
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
