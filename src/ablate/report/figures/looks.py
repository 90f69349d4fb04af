"""Differences of a sweep whose seeds are added, look by look: how the interval shrank, and where it decided."""

from __future__ import annotations

from math import ceil
from typing import NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablate.analysis.comparison import Comparison
from ablate.analysis.looks import Looks
from ablate.analysis.variant_row import Row
from ablate.report.figures.forest import MARGIN
from ablate.report.figures.lettering import wrapped, written
from ablate.report.figures.style import (
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
from ablate.statistics.sequential import FIRST_LOOK

COLUMNS = 3
TICKS = (20, 10, 4)  # at most, with one, two and three columns
MOST = 12  # variants that are drawn
HEIGHT = 1.7  # inches of a row of panels
WIDE = 24  # characters of a name in one line
REACH = 2.0  # a panel ends at so many times the last interval: earlier ones, of few seeds, would hide it


class _Panel(NamedTuple):
    """A variant with its looks, and how far its panel reaches to either side of zero."""

    row: Row
    looks: Looks
    limit: float

    @property
    def is_cut(self) -> bool:
        """Whether an interval extends beyond the panel."""
        intervals = (look.interval for look in self.looks.made)
        return any(max(abs(one.low), abs(one.high)) > self.limit for one in intervals if one is not None)


def looks_by_seeds(comparison: Comparison) -> Drawing | None:
    """One panel per variant: mean difference and sequential interval by number of seeds; None for another sweep."""
    plan = comparison.sweep.plan
    rows = [(row, row.difference.looks) for row in comparison.rows if row.difference and row.difference.looks]
    panels = [_Panel(row, looks, _limit(looks, plan.delta or 0.0)) for row, looks in rows if looks.made]
    if plan.until is None or not panels:
        return None
    drawn, shown = styles(comparison), panels[:MOST]
    columns = min(COLUMNS, len(shown))
    lines = ceil(len(shown) / columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(TWO_COLUMNS, (HEIGHT if lines > 1 else 1.5 * HEIGHT) * lines + 0.35))
        figure.set_layout_engine("constrained")
        grid = figure.subplots(lines, columns, sharex=True, squeeze=False).flatten()
        for axes, panel in zip(grid, shown, strict=False):
            _draw(axes, panel, drawn[panel.row.label], plan.delta, WIDE * (COLUMNS - columns + 1))
        for axes in grid[len(shown) :]:
            axes.set_axis_off()
        for axes in grid[max(len(shown) - columns, 0) : len(shown)]:
            axes.tick_params(labelbottom=True)
        grid[0].set_xlim(FIRST_LOOK - 0.6, plan.max_seeds + 0.6)
        grid[0].set_xticks(range(FIRST_LOOK, plan.max_seeds + 1, ceil((plan.max_seeds - 2) / TICKS[columns - 1])))
        figure.supxlabel("seeds", fontsize=8)
        figure.supylabel(f"difference in {plan.primary.label}", fontsize=8)
        fix_layout(figure)
    return Drawing(
        figure, _caption(comparison, shown, len(panels)), tuple(one.row.key for one in shown), alt=_words(shown)
    )


def _limit(looks: Looks, margin: float) -> float:
    """How far a panel reaches: every estimate, the margin, and the last interval are in it."""
    intervals = [look.interval for look in looks.made if look.interval is not None]
    if not intervals:
        return 1.5 * margin or 0.01
    last = intervals[-1]
    ends = [max(abs(one.low), abs(one.high)) for one in intervals]
    estimates = [abs(one.estimate) for one in intervals]
    most = REACH * max(abs(last.low), abs(last.high))
    return 1.1 * max(*(min(end, most) for end in ends), *estimates, 1.2 * margin) or 0.01


def _draw(axes: Axes, panel: _Panel, style: Style, margin: float | None, width: int) -> None:
    """Draw the looks of a variant; the last in full colour, with its verdict."""
    row, looks, limit = panel
    axes.set_ylim(-limit, limit)
    axes.yaxis.set_major_locator(MaxNLocator(nbins=5))
    if margin is not None:
        axes.axhspan(-margin, margin, color=MARGIN, linewidth=0, zorder=0)
    axes.axhline(0, color="black", linewidth=0.9, zorder=1)
    hollow = row.is_control or not row.is_comparable
    for look in looks.made:
        is_last = look is looks.made[-1]
        estimate = 0.0
        if look.interval is not None:
            estimate, low, high = look.interval
            axes.plot([look.seeds] * 2, [max(low, -limit), min(high, limit)], color=style.color, zorder=2,
                      linewidth=2.6 if is_last else 1.3, solid_capstyle="butt")  # fmt: skip
            for is_beyond, edge, marker in ((low < -limit, -limit, "v"), (high > limit, limit, "^")):
                if is_beyond:
                    axes.plot(look.seeds, 0.97 * edge, marker, color=style.color, markersize=4, clip_on=False)
        axes.plot(
            look.seeds, estimate, style.marker, color=style.color, markersize=6.5 if is_last else 4, zorder=3,
            markerfacecolor="white" if hollow else style.color,
        )  # fmt: skip
    if looks.is_decided:
        axes.axvline(looks.made[-1].seeds, color="#555555", linewidth=0.8, linestyle=(0, (2, 2)), zorder=1)
    axes.set_title(wrapped(written_name(row), width, 2), fontsize=SMALLEST + 0.5, pad=13)
    axes.annotate(
        written(_verdict(panel)), (0, 1), (0, 3), "axes fraction", textcoords="offset points", fontsize=SMALLEST
    )


def _verdict(panel: _Panel) -> str:
    """Such as "worse after 5 seeds"."""
    difference = panel.row.difference
    verdict = difference.verdict if difference and difference.verdict else panel.looks.verdict
    return f"{verdict} after {panel.looks.made[-1].seeds} seeds"


def _words(shown: list[_Panel]) -> str:
    """What the figure shows, for who does not see it."""
    return paragraph(
        f"{panel.row.label}: {_verdict(panel)}, difference {interval.estimate:+.4f} ({interval.low:+.4f} to "
        f"{interval.high:+.4f})."
        if (interval := panel.looks.made[-1].interval) is not None
        else f"{panel.row.label}: {_verdict(panel)}, equal to the baseline on every seed."
        for panel in shown
    )


def _caption(comparison: Comparison, shown: list[_Panel], panels: int) -> str:
    plan = comparison.sweep.plan
    together = f" and for all {plan.tests} variants together" if plan.tests > 1 else ""
    within = " or within the band (equivalent)" if plan.delta is not None else ""
    return paragraph(
        [
            "Mean difference to the baseline after each look, with the 95% interval that holds at all looks"
            f"{together}. Each panel has its own scale.",
            f"Band: margin of equivalence, ±{plan.delta:g}." if plan.delta is not None else "",
            f"Dashed: the look that decided, by an interval without zero (better, worse){within}.",
            f"At {plan.max_seeds} seeds, where the axis ends, a variant stays undecided.",
            "An arrowhead marks an interval that extends beyond the panel." if any(one.is_cut for one in shown) else "",
            "Controls are hollow." if any(one.row.is_control for one in shown) else "",
            f"The first {MOST} of {panels} variants are drawn." if panels > MOST else "",
            dagger_caption(one.row for one in shown),
        ]
    )
