"""Per-class heat map: where a variant gains, and where it loses."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from ablate.analysis.class_accuracy import class_accuracy, class_differences, class_metric, instances
from ablate.analysis.comparison import Group
from ablate.analysis.phrases import minus
from ablate.analysis.variant_row import Row
from ablate.records.class_names import ClassName
from ablate.report.figures.lettering import wrapped, written, written_class
from ablate.report.figures.style import (
    DIVERGING,
    SETTINGS,
    SMALLEST,
    TWO_COLUMNS,
    Drawing,
    dagger_caption,
    fix_layout,
    ink,
    paragraph,
    written_name,
)
from ablate.report.foremost_rows import foremost

CLASSES = 25  # of a readable figure
VARIANTS = 10
CELL = 1.15, 0.22  # inches, at most so wide
BELOW, RIGHT = 0.62, 0.1  # inches
LETTER, LETTER_LINE = 0.06, 0.125  # inches, at the size of the heads
HEAD_LINES = 5  # of a head that stands upright
SLANT, SLANTED = 55, 34  # degrees, and most characters of a line of a slanted head


def class_heat_map(group: Group) -> Drawing | None:
    """Classes (lines) by variants (columns) of one comparison group: the baseline's AP, and differences to it.

    Returns:
        A drawing, or None where no class of the baseline and of a variant was recorded with the same seed.
    """
    accuracy = class_accuracy(group.rows)
    name = class_metric(group.rows).of_class
    differences = class_differences(accuracy, group.rows)
    baseline = next((row for row in group.rows if row.is_baseline), None)
    if differences.empty or baseline is None:
        return None
    compared = [row for row in group.rows if row.is_baseline or row.label in differences.columns]
    rows = [row for row in foremost(compared, VARIANTS + 1) if row.label in differences.columns]
    shown = differences[[row.label for row in rows]]
    strongest = shown.abs().max(axis=1).sort_values(ascending=False, kind="stable").index[:CLASSES]
    shown = shown.loc[[name for name in shown.index if name in set(strongest)]]
    of_baseline = accuracy[baseline.label]
    before = pd.Series([float(np.mean(list(of_baseline[name].values()))) for name in shown.index], index=shown.index)
    with mpl.rc_context({**SETTINGS, "axes.grid": False}):
        figure = _figure(before, shown, baseline, rows, instances(group.rows), name)
        fix_layout(figure)
    over = "seeds and folds" if baseline.folds else "seeds"
    parts = [
        f"First column: {name} of the baseline in points (100 is perfect), mean over {over}. Other columns: variant "
        f"minus baseline in points, mean over shared {over}. Blue is better than the baseline, orange is worse. In "
        "parentheses: ground-truth objects of the class.",
        "No cell is tested: among many cells, some are large by chance.",
    ]
    if len(shown) < len(differences):
        parts.append(f"The {len(shown)} of {len(differences)} classes that differ most are shown.")
    if len(shown.columns) < len(differences.columns):
        parts.append(
            f"The first {len(shown.columns)} of {len(differences.columns)} variants by size of the difference are "
            "shown."
        )
    labels = {baseline.label, *shown.columns}
    drawn = [row for row in group.rows if row.label in labels]
    parts.append(dagger_caption(drawn))
    return Drawing(figure, paragraph(parts), tuple(row.key for row in drawn))


def _figure(
    before: pd.Series,
    shown: pd.DataFrame,
    baseline: Row,
    rows: Sequence[Row],
    boxes: dict[ClassName, int],
    accuracy: str,
) -> Figure:
    """The baseline's column, and beside it those of the variants with a colour bar."""
    limit = 100 * float(np.nanmax(shown.abs().to_numpy())) or 1.0
    lines = [_class_name(name, boxes) for name in before.index]
    width = TWO_COLUMNS
    margin = 0.15 + LETTER * max(len(line) for line in lines)
    columns = len(rows) + 1.15
    cell = min(CELL[0], (width - margin - RIGHT) / columns)
    heads = _upright([baseline, *rows], round((cell - 0.06) / LETTER))
    slanted = heads is None
    if heads is None:
        half = max(len(row.label) for row in rows) // 2 + 8
        heads = [_head(row, min(half, SLANTED), 2) for row in (baseline, *rows)]
        reach = LETTER * max(len(line) for head in heads for line in head.split("\n"))
        cell = min(cell, (width - margin - reach * np.cos(np.radians(SLANT))) / (columns - 0.5))
        above = 0.2 + reach * np.sin(np.radians(SLANT))
    else:
        above = 0.12 + LETTER_LINE * max(head.count("\n") + 1 for head in heads)
    tall = CELL[1] * len(shown)
    total = tall + above + BELOW
    figure = Figure(figsize=(width, total))
    left = figure.add_axes((margin / width, BELOW / total, cell / width, tall / total))
    right = figure.add_axes(((margin + 1.15 * cell) / width, BELOW / total, cell * len(rows) / width, tall / total))
    # The label of a short scale would be cut off at the left.
    scale = figure.add_axes((margin / width, 0.46 / total, max(cell * columns, 2.6) / width, 0.07 / total))
    plain = left.imshow(100 * before.to_numpy()[:, None], aspect="auto", cmap="Greys", vmin=0, vmax=200)
    _write(
        left,
        100 * before.to_numpy()[:, None],
        "{:.1f}",
        np.asarray(plain.cmap(plain.norm(100 * before.to_numpy()[:, None]))),
    )
    norm = TwoSlopeNorm(0.0, -limit, limit)
    points = 100 * shown.to_numpy()
    drawn = right.imshow(points, aspect="auto", cmap=DIVERGING, norm=norm)
    _write(right, points, "{:+.1f}", np.asarray(drawn.cmap(norm(points))))
    left.set_yticks(range(len(before)), lines)
    _heads(left, heads[:1], slanted=slanted)
    _heads(right, heads[1:], slanted=slanted)
    right.set_yticks([])
    bar = figure.colorbar(drawn, cax=scale, orientation="horizontal")
    bar.set_label(f"difference in {accuracy} to the baseline (points)")
    bar.outline.set_linewidth(0.5)
    return figure


def _write(axes: Axes, numbers: np.ndarray, form: str, grounds: np.ndarray) -> None:
    """Numbers in the cells, in an ink that can be read on the cell's colour, (lines, columns, 4)."""
    for (line, column), number in np.ndenumerate(numbers):
        nothing = abs(number) < 0.05  # neither +0.0 nor -0.0
        text = "\N{EN DASH}" if number != number else "0.0" if nothing else minus(form.format(number))
        color = ink(grounds[line, column][:3]) if number == number else "black"
        axes.text(column, line, text, ha="center", va="center", fontsize=SMALLEST, color=color)


def _upright(rows: Sequence[Row], width: int) -> list[str] | None:
    """The names of the baseline and the variants as heads of so many characters; None where one of them is too long."""
    heads = [_head(row, width, HEAD_LINES + 1) for row in rows]
    parts_are_whole = all(len(part) <= width for row in rows for part in re.split(r"[\s,]|(?=[@\[])", row.label))
    return heads if parts_are_whole and all(head.count("\n") < HEAD_LINES for head in heads) else None


def _head(row: Row, width: int, most: int) -> str:
    """A variant's name as a column's head; a dagger survives what is cut off."""
    plain = written(row.label)
    name = f"{plain} (AP)" if row.is_baseline else f"({plain})" if row.is_control else plain
    return wrapped(name, width, most) + written_name(row).removeprefix(plain)


def _heads(axes: Axes, names: Sequence[str], *, slanted: bool) -> None:
    options: dict[str, Any] = {"rotation": SLANT, "ha": "left", "rotation_mode": "anchor"} if slanted else {}
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(names)), names, fontsize=SMALLEST, **options)
    axes.tick_params(axis="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _class_name(name: ClassName, boxes: dict[ClassName, int]) -> str:
    text = written_class(name, 24)
    return f"{text} ({boxes[name]})" if name in boxes else text
