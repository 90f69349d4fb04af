"""Forest plot: what each variant differs from its baseline by, how surely, and what the controls say."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ablate.analysis.columns import accuracy_text, cell
from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.image_groups import drawn_again
from ablate.analysis.phrases import joined, minus
from ablate.analysis.variant_row import Difference, Row
from ablate.report.captions import also_required
from ablate.report.figures.rows import LEFT, canvas, line_up
from ablate.report.figures.style import (
    SETTINGS,
    SMALLEST,
    TWO_COLUMNS,
    Drawing,
    Style,
    fix_layout,
    in_words,
    paragraph,
    styles,
)
from ablate.statistics.paired import ALPHA, LEVEL
from ablate.statistics.verdict import Verdict

RIGHT = 2.3  # inches for the numbers
MARGIN = "#dfeaf4"  # color of the band in which differences are equivalent
BOX = 0.34  # half the height of the box that stands for the images


def forest(comparison: Comparison) -> Drawing | None:
    """Differences to the baseline in the table's order, with the interval over seeds and that over images."""

    def head(group: Group) -> str:
        return _head(group, comparison)

    layout = line_up(comparison, lambda row: row.difference is not None and not row.is_baseline, head)
    items = [_Item(y, row, row.difference) for y, row in layout.placed if row.difference is not None]
    if not items:
        return None
    drawn = styles(comparison)
    with mpl.rc_context(SETTINGS):
        handles, labels = _handles(items, comparison.sweep.plan.delta)
        figure, axes = canvas(layout.lines, right=RIGHT, below=0.75 if handles else 0.45)
        limit = max(_limit([item.difference for item in items]), 1.3 * (comparison.sweep.plan.delta or 0))
        axes.set_xlim(-limit, limit)
        if comparison.sweep.plan.delta is not None:
            axes.axvspan(-comparison.sweep.plan.delta, comparison.sweep.plan.delta, color=MARGIN, linewidth=0, zorder=0)
        axes.axvline(0, color="black", linewidth=0.9, zorder=1)
        cut = [_draw(axes, item, drawn[item.row.label], limit) for item in items]
        axes.set_xlabel(f"difference in {comparison.metric.label} to the baseline; further right is more accurate")
        _numbers(axes, layout.lines[0].y, items)
        if handles:
            figure.legend(
                handles, labels, loc="lower center", ncols=3, handlelength=2.6,
                handler_map={tuple: HandlerTuple(ndivide=None, pad=-1.0)},
            )  # fmt: skip
        fix_layout(figure)
    caption = _caption(items, layout.limit, any(cut), also_required(comparison))
    alt = in_words((item.row.label, item.difference.estimate, item.difference.over_seeds) for item in items)
    return Drawing(figure, caption, tuple(item.row.key for item in items), alt=f"Differences to the baseline. {alt}")


class _Item(NamedTuple):
    """A row with its difference, at the height of its line."""

    y: float
    row: Row
    difference: Difference


def _head(group: Group, comparison: Comparison) -> str:
    """What a comparison group shares, and the baseline's own number."""
    label = group.rows[0].baseline
    base = next((row for row in comparison.rows if row.label == label), None)
    number = f", {comparison.metric.label} {accuracy_text(base.accuracy.primary)}" if base else ""
    return f"{group.title + ': ' if group.title else ''}against {label}{number}"


def _limit(differences: Sequence[Difference]) -> float:
    """How far the axis reaches to either side: intervals of two seeds may be cut off, or nothing else could be seen."""
    intervals = [i for d in differences for i in (d.over_seeds, d.over_images) if i is not None]
    reaches = [(d.over_seeds.high - d.over_seeds.low) / 2 for d in differences if d.over_seeds is not None]
    largest = max(abs(d.estimate) for d in differences)
    furthest = max([largest, *(abs(end) for interval in intervals for end in (interval.low, interval.high))])
    typical = max(largest, median(reaches) if reaches else 0.0)
    return 1.08 * min(furthest, 3 * typical) or 0.01


def _draw(axes: Axes, item: _Item, style: Style, limit: float) -> bool:
    """Draw one variant; returns whether an interval was cut off."""
    y, cut = item.y, False
    images, seeds = item.difference.over_images, item.difference.over_seeds
    if images is not None:
        left, right = max(images.low, -limit), min(images.high, limit)
        axes.add_patch(
            Rectangle(
                (left, y - BOX), right - left, 2 * BOX, facecolor="#f1f1f1", edgecolor=style.color, linewidth=0.8,
                zorder=2,
            )
        )  # fmt: skip
    if seeds is not None:
        dashes = (0, (1.5, 0.8)) if item.row.is_control else "-"
        axes.plot([max(seeds.low, -limit), min(seeds.high, limit)], [y, y], color=style.color, linewidth=2.4,
                  linestyle=dashes, solid_capstyle="butt", zorder=3)  # fmt: skip
        for end, edge, marker in ((seeds.low, -limit, "<"), (seeds.high, limit, ">")):
            if abs(end) > limit and np.sign(end) == np.sign(edge):
                axes.plot(edge * 0.995, y, marker, color=style.color, markersize=5, zorder=4, clip_on=False)
                cut = True
    hollow = item.row.is_control or not item.row.is_comparable
    axes.plot(
        item.difference.estimate, y, style.marker, color=style.color, markersize=6.5, markeredgewidth=1.2, zorder=5,
        markerfacecolor="white" if hollow else style.color,
    )  # fmt: skip
    return cut


def _numbers(axes: Axes, top: float, items: Sequence[_Item]) -> None:
    """Difference, interval and corrected p to the right of each line, under heads."""
    across = axes.get_yaxis_transform()
    inch = 1 / (TWO_COLUMNS - LEFT - RIGHT)
    estimate, interval, p_value = 1 + 0.54 * inch, 1 + 0.64 * inch, 1 + 1.74 * inch

    def write(x: float, y: float, text: str, **style: Any) -> None:
        options: dict[str, Any] = {"ha": "left", "va": "center", "fontsize": SMALLEST} | style
        axes.text(x, y, minus(text), transform=across, **options)

    write(estimate, top, "Δ", fontweight="bold", ha="right")
    if any(difference.over_seeds is not None for _, _, difference in items):
        write(interval, top, f"{100 * LEVEL:.0f}% CI ({_units(items)})", fontweight="bold")
    if any(difference.p_holm is not None for _, _, difference in items):
        write(p_value, top, "p (Holm)", fontweight="bold")
    for y, row, difference in items:
        write(estimate, y, accuracy_text(difference.estimate, signed=True), ha="right")
        if difference.over_seeds is not None:
            write(interval, y, cell("delta_ci", difference.over_seeds, signed=True))
        write(p_value, y, f"{cell('p_holm', difference.p_holm)}{'*' if row.supported else ''}{_equivalent(difference)}")


def _units(items: Sequence[_Item]) -> str:
    """What the intervals are over, seeds or folds."""
    return f"{items[0].difference.samples.unit}s"


def _equivalent(difference: Difference) -> str:
    return " ≈" if difference.is_within_margin or difference.verdict is Verdict.EQUIVALENT else ""


def _handles(items: Sequence[_Item], margin: float | None) -> tuple[list[Any], list[str]]:
    """Handles and labels of the legend: only what is drawn."""
    handles: list[Any] = []
    labels = []
    if any(item.difference.over_seeds for item in items):
        line, dot = Line2D([], [], color="#444444", linewidth=2.4), Line2D([], [], marker="o", color="#444444")
        handles.append((line, dot))
        labels.append(f"mean difference, 95% CI over {_units(items)}")
    if any(item.difference.over_images for item in items):
        handles.append(Patch(facecolor="#f1f1f1", edgecolor="#444444", linewidth=0.8))
        labels.append(f"95% CI over {drawn_again([item.row for item in items], 'images')}")
    hollow = ["control"] if any(item.row.is_control for item in items) else []
    hollow += ["not comparable (†)"] if any(not item.row.is_comparable for item in items) else []
    if hollow:
        handles.append(Line2D([], [], marker="o", linestyle="none", color="#444444", markerfacecolor="white"))
        labels.append(" or ".join(hollow))
    if margin is not None:
        handles.append(Patch(facecolor=MARGIN))
        labels.append(f"margin of equivalence, ±{margin:g}")
    return handles, labels


def _kind_of_interval(difference: Difference) -> str:
    if difference.looks is not None:
        return "seeds, valid at all looks"
    return "folds (corrected resampled t)" if difference.fold_share else "seeds (Student's t)"


def _caption(items: Sequence[_Item], limit: str, cut: bool, also: str) -> str:
    percent = f"{100 * LEVEL:.0f}%"
    units = _units(items)
    means = "seeds" if units == "seeds" else "seeds and folds"
    parts = [f"Difference: variant minus baseline, mean over shared {means}. Rows are in the order of the table."]
    kinds = [_kind_of_interval(item.difference) for item in items if item.difference.over_seeds]
    none = f"There is no CI over {units}."
    parts.append(f"Thick lines: {percent} CI over {joined(dict.fromkeys(kinds))}." if kinds else none)
    if any(item.difference.over_images for item in items):
        parts.append(
            f"Boxes: {percent} CI of the paired bootstrap over {drawn_again([item.row for item in items])}, for the "
            "same trained networks."
        )
    if any(item.row.supported for item in items):
        parts.append(f"*: significant, p (Holm) < {ALPHA:g}{also}.")
    if any(_equivalent(item.difference) for item in items):
        parts.append("≈: shown to be within the margin of equivalence (shaded band).")
    if not all(item.row.is_comparable for item in items):
        parts.append("†: not trained as the baseline was.")
    if any(item.row.is_control for item in items):
        among = "" if any(item.difference.looks for item in items) else "; the Holm correction leaves them out"
        parts.append(f"Controls stand below the rule, hollow and dashed{among}.")
    if cut:
        parts.append("An arrowhead marks an interval that extends beyond the panel.")
    return paragraph([*parts, limit])
