"""Per-class heat map: where a variant gains, and where it loses."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from ablate.analysis.class_accuracy import class_accuracy, class_differences, instances
from ablate.analysis.comparison import Group
from ablate.analysis.phrases import minus
from ablate.analysis.variant_row import Row
from ablate.records.class_names import ClassName
from ablate.report.figures.lettering import written, written_class
from ablate.report.figures.style import (
    DIVERGING,
    ONE_COLUMN,
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
from ablate.report.selection import foremost

CLASSES = 25  # of a readable figure
VARIANTS = 10
CELL = 0.5, 0.22  # inches


def class_heat_map(group: Group) -> Drawing | None:
    """Classes (lines) by variants (columns) of one comparison group: the baseline's AP50-95, and differences to it.

    Returns:
        A drawing, or None where no class of the baseline and of a variant was recorded with the same seed.
    """
    accuracy = class_accuracy(group.rows)
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
        figure = _figure(before, shown, baseline, rows, instances(group.rows))
        fix_layout(figure)
    parts = [
        "First column: the baseline's AP50-95 in points (100 is perfect), the mean over seeds. The others: variant "
        "minus baseline in points, the mean over the seeds that both have. Blue is better than the baseline, orange "
        "worse, and every cell says its number. In parentheses: true objects of the class.",
        "Single cells are not tested: of so many some are large by chance.",
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
    before: pd.Series, shown: pd.DataFrame, baseline: Row, rows: Sequence[Row], boxes: dict[ClassName, int]
) -> Figure:
    """The baseline's column, and beside it those of the variants with a colour bar."""
    names = [_wrapped(row, 18) for row in rows]
    names = [f"({name})" if row.is_control else name for name, row in zip(names, rows, strict=True)]
    limit = 100 * float(np.nanmax(shown.abs().to_numpy())) or 1.0
    lines = [_class_name(name, boxes) for name in before.index]
    margin = 0.15 + 0.062 * max(len(line) for line in lines)
    slanted = len(names) > 4 or max(len(line) for name in names for line in name.split("\n")) > 14
    above = 0.95 if slanted else 0.5
    wanted = margin + CELL[0] * (len(names) + 1.5) + (0.7 if slanted else 0.1)
    width = ONE_COLUMN if wanted <= ONE_COLUMN else TWO_COLUMNS
    cell = (width - margin - (0.7 if slanted else 0.1)) / (len(names) + 1.15)
    tall = CELL[1] * len(shown)
    total = tall + above + 0.62
    figure = Figure(figsize=(width, total))
    left = figure.add_axes((margin / width, 0.62 / total, cell / width, tall / total))
    right = figure.add_axes(((margin + 1.15 * cell) / width, 0.62 / total, cell * len(names) / width, tall / total))
    scale = figure.add_axes((margin / width, 0.46 / total, (width - margin - 0.7) / width, 0.07 / total))
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
    _heads(left, ["\n".join(textwrap.wrap(f"{written_name(baseline)} (AP)", 14))], slanted=slanted)
    _heads(right, names, slanted=slanted)
    right.set_yticks([])
    bar = figure.colorbar(drawn, cax=scale, orientation="horizontal")
    bar.set_label("difference in AP50-95 to the baseline (points)")
    bar.outline.set_linewidth(0.5)
    return figure


def _write(axes: Axes, numbers: np.ndarray, form: str, grounds: np.ndarray) -> None:
    """Numbers in the cells, in an ink that can be read on the cell's colour, (lines, columns, 4)."""
    for (line, column), number in np.ndenumerate(numbers):
        nothing = abs(number) < 0.05  # neither +0.0 nor -0.0
        text = "\N{EN DASH}" if number != number else "0.0" if nothing else minus(form.format(number))
        color = ink(grounds[line, column][:3]) if number == number else "black"
        axes.text(column, line, text, ha="center", va="center", fontsize=SMALLEST, color=color)


def _wrapped(row: Row, width: int) -> str:
    """A variant's name in three lines; a dagger survives what is cut off."""
    plain = written(row.label)
    lines = textwrap.wrap(plain, width, max_lines=3, placeholder=" ...")
    return "\n".join(lines) + written_name(row).removeprefix(plain)


def _heads(axes: Axes, names: Sequence[str], *, slanted: bool) -> None:
    options: dict[str, Any] = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if slanted else {}
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(names)), names, fontsize=SMALLEST, **options)
    axes.tick_params(axis="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _class_name(name: ClassName, boxes: dict[ClassName, int]) -> str:
    text = written_class(name, 24)
    return f"{text} ({boxes[name]})" if name in boxes else text
