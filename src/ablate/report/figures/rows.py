"""Figures of one line a variant: which lines there are, under which heads, and how they are labelled."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablate.analysis.table import rows_of
from ablate.report.figures.lettering import written
from ablate.report.figures.style import TWO_COLUMNS, foremost, groups_of, is_control, named

MOST = 40  # lines of one figure
HEIGHT = 0.205  # inches a line
LEFT = 1.95  # inches for names
WIDE = 28  # characters of a variant's name in one line


class Line(NamedTuple):
    """One line of a figure, at a height that grows downwards.

    A head has a title and no row; a variant has a row of the comparison table.
    """

    y: float
    title: str = ""
    row: dict[str, Any] | None = None
    control: bool = False


def line_up(table: pd.DataFrame, head: Callable[[pd.DataFrame], str]) -> tuple[list[Line], str]:
    """The lines of a figure, comparison group after comparison group, controls last in each.

    Args:
        table: The rows to show, of one or several comparison groups.
        head: What stands above a group.

    Returns:
        The lines, and words for what was left out.
    """
    groups = groups_of(table)
    most = max(2, MOST // max(1, len(groups)))
    lines: list[Line] = []
    y, total = 0.0, 0
    for rows in groups[: MOST // 2]:
        lines.append(Line(y, title=head(rows)))
        kept = foremost(rows, most)
        total += len(kept)
        controls = is_control(kept)
        for part, control in ((kept[~controls], False), (kept[controls], True)):
            y += 0.35 if control and len(part) and len(part) < len(kept) else 0.0
            for row in rows_of(part):
                y += 1.0
                lines.append(Line(y, row=row, control=control))
        y += 1.5
    limited = total < len(table)
    words = f"The first {total} of {len(table)} variants by size of the difference are shown." if limited else ""
    return lines, words


def canvas(lines: Sequence[Line], *, right: float, below: float, tall: float = 1.0) -> tuple[Figure, Axes]:
    """A figure of two columns' width with room for names at the left.

    Args:
        lines: What it will hold.
        right: Room for numbers at the right, inches.
        below: Room for the axis' label and a legend, inches.
        tall: Height of a line as a multiple of the usual.
    """
    height = tall * HEIGHT * (lines[-1].y + 1.6)
    figure = Figure(figsize=(TWO_COLUMNS, height + below + 0.05))
    total = height + below + 0.05
    axes = figure.add_axes(
        (LEFT / TWO_COLUMNS, below / total, (TWO_COLUMNS - LEFT - right) / TWO_COLUMNS, height / total)
    )
    prepare(axes, lines)
    return figure, axes


def prepare(axes: Axes, lines: Sequence[Line], rule: str = "#9a9a9a") -> None:
    """Names to the left, heads above their lines, a thin rule above controls; the axis runs downwards."""
    axes.set_ylim(lines[-1].y + 0.8, -0.8)
    shown = [line for line in lines if line.row is not None]
    axes.set_yticks([line.y for line in shown])
    axes.set_yticklabels([_tick(line.row) for line in shown if line.row is not None])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")
    across = axes.get_yaxis_transform()
    before: Line | None = None
    for line in lines:
        if line.row is None:
            axes.annotate(
                line.title, (0, line.y), (8 - 72 * LEFT, 0), xycoords=across, textcoords="offset points", ha="left",
                va="center", fontweight="bold", fontsize=7.5, annotation_clip=False,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0}, zorder=6,
            )  # fmt: skip
        elif line.control and before is not None and before.row is not None and not before.control:
            axes.plot([0, 1], [line.y - 0.675] * 2, color=rule, linewidth=0.7, transform=across, zorder=1)
        before = line


def _tick(row: dict[str, Any]) -> str:
    """A variant's name beside its line; a dagger survives what is cut off."""
    name, plain = named(row), written(str(row["variant"]))
    return f"{shortened(plain)}{name.removeprefix(plain)}"


def shortened(label: str) -> str:
    """A variant's name in one or two lines."""
    if len(label) <= WIDE:
        return label
    return "\n".join(textwrap.wrap(label, WIDE, max_lines=2, placeholder=" ...", break_on_hyphens=False))
