"""Figures of a comparison, readable in black and white and by colour-blind readers.

Each function returns a matplotlib Figure, or None where the records hold nothing to draw. No pyplot:
no window, no global state. Colours are those of Okabe and Ito (2008, jfly.uni-koeln.de/color), and
each comes with its own marker and line.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.text import Annotation

from ablate.comparing.formatting import group_title
from ablate.comparing.table import baselines, rows_of
from ablate.comparing.variants import is_measured
from ablate.tracking.records import Record, Sweep, number, sequence

BASELINE = "#000000"
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 2, 1, 2, 1, 2)))
FEW = 8  # lines whose legend fits into the panel
SHORT = 24  # characters of a label that fit there
SETTINGS: dict[Any, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "svg.fonttype": "path",
    "svg.hashsalt": "ablate",
    "figure.facecolor": "white",
    "axes.titlelocation": "left",
}


class Style(NamedTuple):
    """How one variant is drawn in every figure."""

    color: str
    marker: str
    dashes: Any


def styles(table: pd.DataFrame) -> dict[str, Style]:
    """Variant label -> style: a colour per module, a marker and line per module and place.

    The same module at the same place looks the same in every comparison group.
    """
    drawn: dict[tuple[str, str, int], Style] = {}
    found = {}
    reference = baselines(table)
    modules = list(dict.fromkeys(table.loc[~reference, "module"]))
    occurrences = table.groupby(["comparison_key", "module", "insertion"], sort=False).cumcount()
    for occurrence, baseline, row in zip(occurrences, reference, rows_of(table), strict=True):
        if baseline:
            found[row["variant"]] = Style(BASELINE, "o", "-")
            continue
        color = PALETTE[modules.index(row["module"]) % len(PALETTE)]
        index = len(drawn) + 1
        style = Style(color, MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])
        found[row["variant"]] = drawn.setdefault((row["module"], row["insertion"], int(occurrence)), style)
    return found


def accuracy_against_latency(table: pd.DataFrame) -> Figure | None:
    """One panel per data set: a labelled point per variant, and the Pareto front of the panel.

    Bars are one sample standard deviation over seeds to each side, where there are replicates.
    """
    points = table[table["latency_ms"].notna() & table["map50_95"].notna()]
    if points.empty:
        return None
    panels = list(points.groupby("data", sort=False))
    drawn = styles(table)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(7.4, 4.4 * len(panels)), layout="constrained")
        for position, (data, rows) in enumerate(panels, start=1):
            axes = figure.add_subplot(len(panels), 1, position)
            optimizers = list(dict.fromkeys(rows["optimizer"]))
            for row in rows_of(rows):
                style = drawn[row["variant"]]
                solid = optimizers.index(row["optimizer"]) % 2 == 0
                spread = None if pd.isna(row["map50_95_std"]) else row["map50_95_std"]
                axes.errorbar(
                    row["latency_ms"],
                    row["map50_95"],
                    yerr=spread,
                    fmt=style.marker,
                    color=style.color,
                    markersize=7,
                    markerfacecolor=style.color if solid else "white",
                    markeredgewidth=1.4,
                    elinewidth=0.9,
                    capsize=2.5,
                    zorder=3,
                )
            front = pareto(rows)
            axes.step(
                front["latency_ms"],
                front["map50_95"],
                where="post",
                color="#888888",
                linewidth=1,
                zorder=1,
                linestyle=(0, (4, 2)),
                label="Pareto front: no variant is both faster and more accurate",
            )
            axes.set(
                xlabel="latency, median (ms); further left is faster",
                ylabel="mAP50-95",
                title=f"data: {data}",
            )
            axes.margins(x=0.16, y=0.14)
            if len(optimizers) > 1:
                for index, name in enumerate(optimizers):
                    face = "#666666" if index % 2 == 0 else "white"
                    axes.plot([], [], "o", color="#666666", markerfacecolor=face, markersize=7, label=name)
            axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=len(optimizers) + 1)
            _label_points(axes, rows)
        settle(figure)
    return figure


def pareto(points: pd.DataFrame) -> pd.DataFrame:
    """Rows that no other row beats in both latency and accuracy, by rising latency."""
    ordered = points.sort_values(["latency_ms", "map50_95"], ascending=[True, False])
    best = ordered["map50_95"].cummax()
    return ordered[ordered["map50_95"] > best.shift(fill_value=-np.inf)]


def training_curves(sweep: Sweep, table: pd.DataFrame) -> Figure | None:
    """mAP50-95 over epochs, one panel per comparison group and one line per variant.

    The line is the mean over seeds, as far as all seeds got; the band reaches from the lowest to the
    highest seed.
    """
    curves = _curves(sweep)
    groups = [
        rows for _, rows in table.groupby("comparison_key", sort=False) if any(k in curves for k in rows["variant_key"])
    ]
    if not groups:
        return None
    drawn = styles(table)
    columns = min(2, len(groups))
    lines = -(-len(groups) // columns)
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(5.2 * columns + (2.2 if columns == 1 else 0), 4.2 * lines), layout="constrained")
        share: Axes | None = None
        for position, rows in enumerate(groups, start=1):
            same = share if table["data"].nunique() == 1 else None
            axes = figure.add_subplot(lines, columns, position, sharey=same)
            share = share or axes
            for row in rows_of(rows):
                if row["variant_key"] in curves:
                    _draw_curve(axes, curves[row["variant_key"]], drawn[row["variant"]], row["variant"])
            axes.set(xlabel="epoch", ylabel="mAP50-95 (validation)", title=group_title(rows))
            if len(rows) > FEW or rows["variant"].str.len().max() > SHORT:
                axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=3.2)
            else:
                axes.legend(loc="upper left", handlelength=3.2)  # accuracy starts low
        settle(figure)
    return figure


def settle(figure: Figure) -> None:
    """Lay a figure out once and for all, so that each time it is drawn it looks the same."""
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")


def encode(figure: Figure, kind: str, *, dpi: int = 160) -> bytes:
    """A figure as a file of kind 'png', 'svg' or 'jpg'; the same figure gives the same bytes."""
    stream = io.BytesIO()
    metadata = {"png": {"Software": None}, "svg": {"Date": None}}.get(kind)
    with mpl.rc_context(SETTINGS):
        figure.savefig(stream, format=kind, dpi=dpi, metadata=metadata)
    return stream.getvalue()


def _curves(sweep: Sweep) -> dict[str, list[np.ndarray]]:
    """Variant key -> accuracy by epoch: an array of shape (epochs,) per measured trial with a history."""
    found: dict[str, list[np.ndarray]] = {}
    for record in filter(is_measured, sweep.records):
        curve = _curve(record)
        if np.isfinite(curve).any():
            found.setdefault(str(record.get("variant_key")), []).append(curve)
    return found


def _curve(record: Record) -> np.ndarray:
    """mAP50-95 by epoch from 1, shape (last epoch,); NaN where an epoch has none."""
    points = {
        int(epoch): accuracy
        for entry in sequence(record, "history")
        if (epoch := number(entry, "epoch")) is not None and epoch >= 1
        for accuracy in [number(entry, "map50_95")]
        if accuracy is not None
    }
    curve = np.full(max(points, default=0), np.nan)
    for epoch, accuracy in points.items():
        curve[epoch - 1] = accuracy
    return curve


def _draw_curve(axes: Axes, curves: list[np.ndarray], style: Style, label: str) -> None:
    length = min(len(curve) for curve in curves)
    stack = np.stack([curve[:length] for curve in curves])
    known = np.isfinite(stack).all(axis=0)
    epochs, stack = np.arange(1, length + 1)[known], stack[:, known]
    if not len(epochs):
        return
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


def _label_points(axes: Axes, rows: pd.DataFrame) -> None:
    """Write each variant's name beside its point, where it covers least of other names and points."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    figure.draw_without_rendering()
    points = axes.transData.transform(rows[["latency_ms", "map50_95"]].to_numpy())
    frame = axes.get_window_extent(renderer)
    spread = axes.transData.transform(np.c_[rows["latency_ms"], rows["map50_95"] + rows["map50_95_std"].fillna(0)])
    taken = [_around(x, y, max(6.0, top - y)) for (x, y), (_, top) in zip(points, spread, strict=True)]
    for (x, y), label in zip(rows[["latency_ms", "map50_95"]].to_numpy(), rows["variant"], strict=True):
        best: tuple[float, Annotation] | None = None
        for dx, dy, horizontal, vertical in _places():
            leader = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.6} if abs(dx) + abs(dy) > 15 else None
            text = axes.annotate(
                label,
                (x, y),
                (dx, dy),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=7.5,
                zorder=5,
                arrowprops=leader,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )
            text.set_in_layout(False)
            box = text.get_window_extent(renderer).extents
            outside = max(0.0, frame.x0 - box[0]) + max(0.0, box[2] - frame.x1)
            outside += max(0.0, frame.y0 - box[1]) + max(0.0, box[3] - frame.y1)
            cost = sum(_overlap(box, other) for other in taken) + 60 * outside + 2 * (abs(dx) + abs(dy))
            if best is None or cost < best[0]:
                if best:
                    best[1].remove()
                best = (cost, text)
            else:
                text.remove()
        if best:
            taken.append(best[1].get_window_extent(renderer).extents)


def _places() -> Iterable[tuple[float, float, str, str]]:
    """Offsets of a label from its point, nearest first."""
    for reach in (7.0, 14.0, 22.0):
        for dx, horizontal in ((1.0, "left"), (-1.0, "right")):
            yield dx * reach, 0.0, horizontal, "center"
            yield dx * reach * 0.7, reach * 0.7, horizontal, "bottom"
            yield dx * reach * 0.7, -reach * 0.7, horizontal, "top"
        yield 0.0, reach, "center", "bottom"
        yield 0.0, -reach, "center", "top"


def _around(x: float, y: float, tall: float) -> tuple[float, float, float, float]:
    """The box that a marker and its bars take, in pixels."""
    return x - 6.0, y - tall, x + 6.0, y + tall


def _overlap(a: Any, b: Any) -> float:
    """Common area of two boxes (x0, y0, x1, y1), in square pixels."""
    return float(max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1])))
