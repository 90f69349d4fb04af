"""Forest plot: what each variant differs from its baseline by, how surely, and what the controls say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ablate.analysis.number_format import cell
from ablate.analysis.phrases import minus
from ablate.report.figures.rows import LEFT, Line, canvas, line_up
from ablate.report.figures.style import (
    SETTINGS,
    SMALLEST,
    TWO_COLUMNS,
    Drawing,
    Style,
    optional,
    references,
    said,
    settle,
    styles,
    title_of,
)
from ablate.statistics.paired import ALPHA, LEVEL

RIGHT = 2.3  # inches for the numbers
BOX = 0.34  # half the height of the box that stands for the images


def forest(table: pd.DataFrame) -> Drawing | None:
    """Differences to the baseline in the table's order, with the interval over seeds and that over images."""
    known = table["delta_map50_95"].notna() & ~references(table)
    lines, words = line_up(table[known], lambda rows: _head(rows, table))
    if not known.any():
        return None
    drawn = styles(table)
    shown = [line for line in lines if line.row is not None]
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(lines, right=RIGHT, below=0.75)
        limit = _limit(shown)
        axes.set_xlim(-limit, limit)
        axes.axvline(0, color="black", linewidth=0.9, zorder=1)
        cut = [_draw(axes, line, drawn[line.row["variant"]], limit) for line in shown if line.row is not None]
        axes.set_xlabel("difference in mAP50-95 to the baseline; further right is more accurate")
        _numbers(axes, lines)
        _legend(figure, shown)
        settle(figure)
    return Drawing(
        figure, _caption(shown, words, any(cut)), tuple(line.row["variant_key"] for line in shown if line.row)
    )


def _head(rows: pd.DataFrame, table: pd.DataFrame) -> str:
    """What a comparison group shares, and the baseline's own number."""
    label = rows["baseline"].iloc[0]
    base = table[table["variant"] == label]
    number = f", mAP50-95 {cell('map50_95', base['map50_95'].iloc[0])}" if len(base) else ""
    title = title_of(rows)
    return f"{title + ': ' if title else ''}against {label}{number}"


def _limit(lines: Sequence[Line]) -> float:
    """How far the axis reaches to either side: intervals of two seeds may be cut off, or nothing else could be seen."""
    rows = pd.DataFrame([line.row for line in lines])
    ends = pd.concat([rows[["delta_ci_low", "delta_ci_high"]], _images(rows)], axis=1).abs()
    furthest = float(np.nanmax([rows["delta_map50_95"].abs().max(), ends.max().max()]))
    reach = ((rows["delta_ci_high"] - rows["delta_ci_low"]) / 2).median()
    typical = float(np.nanmax([rows["delta_map50_95"].abs().max(), 0.0 if reach != reach else reach]))
    return 1.08 * min(furthest, 3 * typical) or 0.01


def _images(rows: pd.DataFrame) -> pd.DataFrame:
    return pd.concat([optional(rows, "images_ci_low"), optional(rows, "images_ci_high")], axis=1)


def _draw(axes: Axes, line: Line, style: Style, limit: float) -> bool:
    """Draw one variant; tells whether an interval was cut off."""
    assert line.row is not None
    row, y, cut = line.row, line.y, False
    low, high = row.get("images_ci_low", np.nan), row.get("images_ci_high", np.nan)
    if low == low and high == high:
        left, right = max(low, -limit), min(high, limit)
        axes.add_patch(
            Rectangle(
                (left, y - BOX), right - left, 2 * BOX, facecolor="#f1f1f1", edgecolor=style.color, linewidth=0.8,
                zorder=2,
            )
        )  # fmt: skip
    low, high = row["delta_ci_low"], row["delta_ci_high"]
    if low == low and high == high:
        dashes = (0, (1.5, 0.8)) if line.control else "-"
        axes.plot([max(low, -limit), min(high, limit)], [y, y], color=style.color, linewidth=2.4, linestyle=dashes,
                  solid_capstyle="butt", zorder=3)  # fmt: skip
        for end, edge, marker in ((low, -limit, "<"), (high, limit, ">")):
            if abs(end) > limit and np.sign(end) == np.sign(edge):
                axes.plot(edge * 0.995, y, marker, color=style.color, markersize=5, zorder=4, clip_on=False)
                cut = True
    hollow = line.control or row["comparable"] != "yes"
    axes.plot(
        row["delta_map50_95"], y, style.marker, color=style.color, markersize=6.5, markeredgewidth=1.2, zorder=5,
        markerfacecolor="white" if hollow else style.color,
    )  # fmt: skip
    return cut


def _numbers(axes: Axes, lines: Sequence[Line]) -> None:
    """Difference, interval and corrected p to the right of each line, under heads."""
    across = axes.get_yaxis_transform()
    inch = 1 / (TWO_COLUMNS - LEFT - RIGHT)
    places = [
        ("Δ", 1 + 0.12 * inch),
        (f"{100 * LEVEL:.0f} % CI (seeds)", 1 + 0.62 * inch),
        ("p (Holm)", 1 + 1.72 * inch),
    ]

    def write(x: float, y: float, text: str, **style: Any) -> None:
        axes.text(x, y, minus(text), transform=across, ha="left", va="center", fontsize=SMALLEST, **style)

    for text, x in places:
        write(x, lines[0].y, text, fontweight="bold")
    for line in lines:
        row = line.row
        if row is None:
            continue
        mark = "*" if _supported(row, line.control) else ""
        write(places[0][1], line.y, cell("delta_map50_95", row["delta_map50_95"], signed=True))
        if row["delta_ci_low"] == row["delta_ci_low"]:
            ends = [cell(name, row[name], signed=True) for name in ("delta_ci_low", "delta_ci_high")]
            write(places[1][1], line.y, f"[{ends[0]}, {ends[1]}]")
        write(places[2][1], line.y, f"{cell('p_holm', row['p_holm'])}{mark}")


def _supported(row: dict[str, Any], control: bool) -> bool:
    return bool(not control and row["comparable"] == "yes" and row["p_holm"] < ALPHA)


def _legend(figure: Figure, lines: Sequence[Line]) -> None:
    """Only what is drawn."""
    rows = pd.DataFrame([line.row for line in lines])
    handles: list[Any] = []
    labels = []
    if rows["delta_ci_low"].notna().any():
        line, dot = Line2D([], [], color="#444444", linewidth=2.4), Line2D([], [], marker="o", color="#444444")
        handles.append((line, dot))
        labels.append("mean difference, interval over seeds")
    if _images(rows).notna().all(axis=1).any():
        handles.append(Patch(facecolor="#f1f1f1", edgecolor="#444444", linewidth=0.8))
        labels.append("interval over images")
    if any(line.control for line in lines) or (rows["comparable"] != "yes").any():
        handles.append(Line2D([], [], marker="o", linestyle="none", color="#444444", markerfacecolor="white"))
        labels.append("control, or not comparable (†)")
    if handles:
        figure.legend(
            handles, labels, loc="lower center", ncols=3, handlelength=2.6,
            handler_map={tuple: HandlerTuple(ndivide=None, pad=-1.0)},
        )  # fmt: skip


def _caption(lines: Sequence[Line], words: str, cut: bool) -> str:
    rows = pd.DataFrame([line.row for line in lines])
    percent = f"{100 * LEVEL:.0f} %"
    parts = ["Variant minus baseline, the mean over the seeds that both have, in the order of the table."]
    if rows["delta_ci_low"].notna().any():
        parts.append(f"Thick lines: {percent} t interval over seeds (training again).")
    else:
        parts.append("No interval over seeds can be given.")
    if _images(rows).notna().all(axis=1).any():
        parts.append(
            f"Boxes: {percent} interval of the paired bootstrap over validation images (other images of the same kind, "
            "the same trained networks)."
        )
    if any(_supported(line.row, line.control) for line in lines if line.row):
        parts.append(f"*: p below {ALPHA:g} after Holm's correction.")
    if (rows["comparable"] != "yes").any():
        parts.append("†: not trained as the baseline was.")
    if any(line.control for line in lines):
        parts.append("Controls stand below a rule, hollow and dashed; they take no part in the correction.")
    if cut:
        parts.append("An arrow head: the interval goes on beyond the panel.")
    return said([*parts, words])
