"""Validation images and test split in one picture: what each variant falls by."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from ablate.analysis.columns import accuracy_text
from ablate.analysis.comparison import Comparison
from ablate.analysis.phrases import minus
from ablate.analysis.split_comparison import SplitRow
from ablate.report.figures.rows import LEFT, PlacedRow, canvas, line_up
from ablate.report.figures.style import SETTINGS, SMALLEST, TWO_COLUMNS, Drawing, Style, fix_layout, paragraph, styles

RIGHT = 1.9  # inches for the numbers


def validation_and_test(comparison: Comparison) -> Drawing | None:
    """Accuracy of the same checkpoints on the validation images and on the test split; None where that is sealed."""
    split = comparison.on_test
    if split is None:
        return None
    of_row = {id(one.test): one for one in split.rows if one.validation is not None and one.fall is not None}
    layout = line_up(split.comparison, lambda row: id(row) in of_row, lambda group: group.title)
    items = [(place, of_row[id(place.row)]) for place in layout.placed]
    if not items:
        return None
    drawn = styles(comparison)
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(layout.lines, right=RIGHT, below=0.75)
        for place, one in items:
            _draw(axes, place, one, drawn[one.test.label])
        low, high = axes.get_xlim()
        axes.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
        axes.set_xlabel(comparison.metric.label)
        _numbers(axes, layout.lines[0].y, items)
        hollow = Line2D([], [], marker="o", linestyle="none", color="#444444", markerfacecolor="white")
        full = Line2D([], [], marker="o", linestyle="none", color="#444444")
        figure.legend([hollow, full], ["validation images", "test split"], loc="lower center", ncols=2)
        fix_layout(figure)
    text = (
        "Accuracy of the same checkpoints on the validation images (hollow), on which they were chosen, and on the "
        "test split (full), means over seeds. Fall: validation minus test."
    )
    return Drawing(figure, paragraph([text, layout.limit]), tuple(one.test.key for _, one in items))


def _draw(axes: Axes, place: PlacedRow, one: SplitRow, style: Style) -> None:
    assert one.validation is not None
    before, after = (fmean(row.variant.accuracy().values()) for row in (one.validation, one.test))
    axes.plot([before, after], [place.y] * 2, color=style.color, linewidth=1.4, zorder=2)
    axes.plot(before, place.y, style.marker, color=style.color, markersize=6, markerfacecolor="white", zorder=3)
    axes.plot(after, place.y, style.marker, color=style.color, markersize=6, zorder=4)


def _numbers(axes: Axes, top: float, items: Sequence[tuple[PlacedRow, SplitRow]]) -> None:
    """Both accuracies and the fall at the right of each line."""
    inch = 1 / (TWO_COLUMNS - LEFT - RIGHT)
    across = axes.get_yaxis_transform()

    def write(y: float, texts: Sequence[str], weight: str = "normal") -> None:
        for place, text in zip((0.6, 1.15, 1.75), texts, strict=True):
            axes.text(1 + place * inch, y, minus(text), transform=across, ha="right", va="center", fontsize=SMALLEST,
                      fontweight=weight)  # fmt: skip

    write(top, ("validation", "test", "fall"), "bold")
    for place, one in items:
        assert one.validation is not None
        accuracies = [accuracy_text(row.accuracy.primary) for row in (one.validation, one.test)]
        write(place.y, (*accuracies, accuracy_text(one.fall, signed=True)))
