"""Figures of one line a variant: which lines there are, under which heads, and how they are labelled."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ablate.analysis.comparison import Comparison, Group
from ablate.analysis.variant_row import Row
from ablate.report.figures.lettering import wrapped, written
from ablate.report.figures.style import TWO_COLUMNS, written_name
from ablate.report.foremost_rows import foremost

MOST = 40  # lines of one figure
HEIGHT = 0.205  # inches a line
MORE = 0.27  # of HEIGHT, above and below a name for each line of text beyond its first
MOST_LINES = 3  # of text for a name
LEFT = 1.95  # inches for names
HEAD = 72  # characters of a head in one line
WIDE = 28  # characters of a variant's name in one line


class Line(NamedTuple):
    """One line of a figure, at a height that grows downwards: a head with a title, or something drawn with its name."""

    y: float
    title: str = ""
    name: str = ""
    control: bool = False


class PlacedRow(NamedTuple):
    """A row of the comparison at the height of its line."""

    y: float
    row: Row


class LineUp(NamedTuple):
    """The lines of a figure, the rows on them by comparison group, and words for what was left out."""

    lines: list[Line]
    groups: list[list[PlacedRow]]
    limit: str

    @property
    def placed(self) -> list[PlacedRow]:
        """The rows of all groups."""
        return [placed for group in self.groups for placed in group]


def line_up(comparison: Comparison, shows: Callable[[Row], bool], head: Callable[[Group], str]) -> LineUp:
    """The lines of a figure, comparison group after comparison group, controls last in each.

    Args:
        comparison: What to draw.
        shows: Whether a row has anything to draw.
        head: What stands above a group, which holds those rows only.
    """
    groups = [replace(group, rows=tuple(filter(shows, group.rows))) for group in comparison.groups]
    groups = [group for group in groups if group.rows]
    most = max(2, MOST // max(1, len(groups)))
    lines: list[Line] = []
    placed: list[list[PlacedRow]] = []
    y = 0.0
    for group in groups[: MOST // 2]:
        lines.append(Line(y, title=_wrapped_head(head(group))))
        rows = foremost(group.rows, most)
        placed.append([])
        controls = [row for row in rows if row.is_control]
        for part in ([row for row in rows if not row.is_control], controls):
            y += 0.35 if part is controls and part and len(part) < len(rows) else 0.0
            for row in part:
                name = _short_name(row)
                y += distance(lines[-1], name)
                lines.append(Line(y, name=name, control=row.is_control))
                placed[-1].append(PlacedRow(y, row))
        y += 1.5
    shown, total = sum(map(len, placed)), sum(len(group.rows) for group in groups)
    limit = f"The first {shown} of {total} variants by size of the difference are shown." if shown < total else ""
    return LineUp(lines, placed, limit)


def canvas(lines: Sequence[Line], *, right: float, below: float, tall: float = 1.0) -> tuple[Figure, Axes]:
    """A figure of two columns' width with room for names at the left.

    Args:
        lines: What it will hold.
        right: Room for numbers at the right, inches.
        below: Room for the axis' label and a legend, inches.
        tall: Height of a line as a multiple of the usual.
    """
    height = tall * HEIGHT * (_bottom(lines) - _top(lines))
    above = 0.08 + (HEIGHT * (tall * (_top(lines) - lines[0].y) + 0.6 + MORE * lines[0].title.count("\n")))
    total = above + height + below
    figure = Figure(figsize=(TWO_COLUMNS, total))
    axes = figure.add_axes(
        (LEFT / TWO_COLUMNS, below / total, (TWO_COLUMNS - LEFT - right) / TWO_COLUMNS, height / total)
    )
    prepare(axes, lines)
    return figure, axes


def prepare(axes: Axes, lines: Sequence[Line], rule: str = "#9a9a9a") -> None:
    """Names to the left, heads above their lines, a thin rule above controls; the axis runs downwards."""
    axes.set_ylim(_bottom(lines), _top(lines))
    shown = [line for line in lines if not line.title]
    axes.set_yticks([line.y for line in shown])
    axes.set_yticklabels([line.name for line in shown])
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.spines["left"].set_visible(False)
    axes.grid(False, axis="y")
    across = axes.get_yaxis_transform()
    before: Line | None = None
    for line in lines:
        if line.title:
            axes.annotate(
                line.title, (0, line.y), (8 - 72 * LEFT, 0), xycoords=across, textcoords="offset points", ha="left",
                va="center", fontweight="bold", fontsize=7.5, annotation_clip=False,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 1.0}, zorder=6,
            )  # fmt: skip
        elif line.control and before is not None and not before.title and not before.control:
            axes.plot([0, 1], [line.y - 0.675] * 2, color=rule, linewidth=0.7, transform=across, zorder=1)
        before = line


def distance(before: Line, name: str) -> float:
    """How far a line with this name lies below the one before it: further where a name takes several lines."""
    return 1.0 + MORE * ((before.title or before.name).count("\n") + name.count("\n"))


def _top(lines: Sequence[Line]) -> float:
    """Upper end of the axis: below the first head, so that no line of the grid crosses it."""
    return lines[0].y + (0.4 + MORE * lines[0].title.count("\n") if lines[0].title else -0.8)


def _bottom(lines: Sequence[Line]) -> float:
    """Lower end of the axis."""
    return lines[-1].y + 0.8 + MORE * lines[-1].name.count("\n")


def _wrapped_head(title: str) -> str:
    return "\n".join(textwrap.wrap(title, HEAD, max_lines=2, placeholder=" ...", break_on_hyphens=False))


def _short_name(row: Row) -> str:
    """A variant's name beside its line; a dagger survives what is cut off."""
    plain = written(row.label)
    return f"{shortened(plain)}{written_name(row).removeprefix(plain)}"


def shortened(label: str) -> str:
    """A variant's name in a few lines."""
    return label if len(label) <= WIDE else wrapped(label, WIDE, MOST_LINES)
