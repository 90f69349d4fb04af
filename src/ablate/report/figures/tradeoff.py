"""Accuracy against latency: what a variant gains, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy import special

from ablate.analysis.table import rows_of
from ablate.report.figures.lettering import in_legend, make_drawable
from ablate.report.figures.style import (
    SETTINGS,
    TWO_COLUMNS,
    Drawing,
    Style,
    flags,
    is_control,
    is_flagged,
    named,
    optional,
    said,
    settle,
    styles,
)
from ablate.statistics.paired import LEVEL

ALL_NAMED = 24  # points of a panel that all get their name
NAMED = 10  # of more than these
PANELS = 4
FILLS: tuple[Any, ...] = ("full", "none", "left", "bottom", "right", "top")  # of a marker, one for each optimizer


def accuracy_against_latency(table: pd.DataFrame) -> Drawing | None:
    """One panel per data set: a point per variant with intervals on both axes, and the Pareto front of the panel."""
    points = _with_bars(table[table["latency_ms"].notna() & table["map50_95"].notna()])
    if points.empty:
        return None
    panels = list(points.groupby("data", sort=False))
    drawn = styles(table)
    labelled = 0
    with mpl.rc_context(SETTINGS):
        shown = panels[:PANELS]
        figure = Figure(figsize=(TWO_COLUMNS, 4.3 * len(shown)), layout="constrained")
        for position, (data, rows) in enumerate(shown, start=1):
            axes = figure.add_subplot(len(shown), 1, position)
            _panel(axes, rows, drawn)
            axes.set(
                xlabel="latency, median (ms); further left is faster",
                ylabel="mAP50-95",
                title=f"data: {data}" if data else "",
            )
            worth = _worth_a_name(rows)
            labelled += len(worth)
            _label_points(axes, rows, worth)
        settle(figure)
    told = pd.concat([rows for _, rows in shown])
    return Drawing(figure, _caption(told, labelled, len(panels)), tuple(told["variant_key"]))


def pareto(points: pd.DataFrame) -> pd.DataFrame:
    """Rows that no other row beats in both latency and accuracy, by rising latency.

    Controls take no part, and nothing that may not be compared with its baseline.
    """
    ordered = points[~is_control(points) & ~is_flagged(points)].sort_values(
        ["latency_ms", "map50_95"], ascending=[True, False]
    )
    best = ordered["map50_95"].cummax()
    return ordered[ordered["map50_95"] > best.shift(fill_value=-np.inf)]


def _with_bars(points: pd.DataFrame) -> pd.DataFrame:
    """The points with the ends of their bars: `low`, `high`, `left`, `right`, NaN where not known, and `covers`."""
    seeds = points["replicates"]
    spread = points["map50_95_std"] / np.sqrt(seeds.clip(lower=1))
    reach = special.stdtrit(seeds.clip(lower=2) - 1, 0.5 + LEVEL / 2) * spread.where(seeds >= 2)
    low, high = points["map50_95"] - reach, points["map50_95"] + reach
    ground = points["map50_95"] - points["delta_map50_95"]
    images = reach.isna() & optional(points, "images_ci_low").notna() & optional(points, "images_ci_high").notna()
    return points.assign(
        low=low.where(~images, ground + optional(points, "images_ci_low")),
        high=high.where(~images, ground + optional(points, "images_ci_high")),
        left=optional(points, "latency_ci_low"),
        right=optional(points, "latency_ci_high"),
        covers=np.where(images, "images", np.where(reach.notna(), "seeds", "")),
    )


def _panel(axes: Axes, rows: pd.DataFrame, drawn: dict[str, Style]) -> None:
    """Draw points, bars, front and legend of one data set."""
    optimizers = list(dict.fromkeys(rows["optimizer"]))
    controls = list(is_control(rows))
    for row, control in zip(rows_of(rows), controls, strict=True):
        style = drawn[row["variant"]]
        fill = "none" if control else FILLS[optimizers.index(row["optimizer"]) % len(FILLS)]
        x, y = row["latency_ms"], row["map50_95"]
        bars: dict[str, Any] = {"color": style.color, "linewidth": 0.9, "zorder": 2, "alpha": 0.8}
        if row["low"] == row["low"]:
            dashes = (0, (2, 1.2)) if row["covers"] == "images" else "-"
            axes.plot([x, x], [row["low"], row["high"]], linestyle=dashes, **bars)
        if row["left"] == row["left"] and row["right"] == row["right"]:
            axes.plot([row["left"], row["right"]], [y, y], linestyle="-", **bars)
        axes.plot(
            x,
            y,
            style.marker,
            color=style.color,
            markersize=7,
            **_filled(style.color, fill),
            markeredgewidth=1.3,
            zorder=3,
        )
    front = pareto(rows)
    if len(front):
        axes.step(
            front["latency_ms"],
            front["map50_95"],
            where="post",
            color="#888888",
            linewidth=1,
            zorder=1,
            linestyle=(0, (4, 2)),
            label="Pareto front: none is both faster and more accurate",
        )
    if len(optimizers) > 1:
        for index, name in enumerate(optimizers):
            look = _filled("#666666", FILLS[index % len(FILLS)])
            axes.plot([], [], "o", color="#666666", markersize=7, label=in_legend(name), **look)
    if any(controls):
        axes.plot([], [], "s", color="#767676", markerfacecolor="white", markersize=7, label="control (grey)")
    _limits(axes, rows)
    handles = axes.get_legend_handles_labels()[0]
    if handles:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=min(4, len(handles)))


def _filled(color: str, fill: str) -> dict[str, Any]:
    """A marker that is full, half full or hollow; what is not full is white."""
    if fill == "none":
        return {"markerfacecolor": "white"}
    return {"markerfacecolor": color, "markerfacecoloralt": "white", "fillstyle": fill}


def _limits(axes: Axes, rows: pd.DataFrame) -> None:
    """Room for points and names; bars of very few seeds may leave the panel, or nothing else could be told apart."""
    for name, lower, upper, setter, room in (
        ("latency_ms", "left", "right", axes.set_xlim, 0.16),
        ("map50_95", "low", "high", axes.set_ylim, 0.14),
    ):
        first, last = float(rows[name].min()), float(rows[name].max())
        span = (last - first) or 0.05 * abs(last) or 0.01
        bottom = max(float(np.nanmin([first, rows[lower].min()])), first - span)
        top = min(float(np.nanmax([last, rows[upper].max()])), last + span)
        margin = room * (top - bottom or span)
        least = -0.05 * top if first >= 0 else -np.inf  # neither is negative, however far a bar reaches
        setter(max(bottom - margin, least), top + margin)


def _caption(rows: pd.DataFrame, labelled: int, panels: int) -> str:
    """What is drawn, and what the bars cover."""
    percent = f"{100 * LEVEL:.0f} %"
    covers = set(rows["covers"])
    parts = ["One point per variant; up and to the left is better."]
    if (~is_control(rows) & ~is_flagged(rows)).any():
        parts.append("On the dashed front no variant is beaten in both.")
    if is_flagged(rows).any():
        parts.append(f"{flags(rows)} Such variants take no part in the front.")
    if "seeds" in covers:
        parts.append(
            f"Vertical bars are the {percent} t interval of the mean over seeds. Variants share their seeds, so bars "
            "may overlap where the paired difference is clear: the figure of differences tells that."
        )
    if "images" in covers:
        parts.append(
            f"Dashed vertical bars, where there is one seed, are the {percent} interval of the difference to the "
            "baseline over the validation images, drawn around the point."
        )
    if not covers - {""}:
        parts.append("There is no vertical bar: neither seeds nor images gave an interval.")
    if rows["left"].notna().any():
        parts.append(f"Horizontal bars are the {percent} interval of the median latency.")
    cut = ((rows["high"] - rows["map50_95"]) > (rows["map50_95"].max() - rows["map50_95"].min())).any()
    if cut:
        parts.append("Bars that are longer than the points are apart are cut off at the panel's edge.")
    if labelled < len(rows):
        parts.append(
            f"{labelled} of {len(rows)} points are named: the baselines, the front, and the largest differences."
        )
    if panels > PANELS:
        parts.append(f"The first {PANELS} of {panels} data sets are shown.")
    return said(parts)


def _worth_a_name(rows: pd.DataFrame) -> set[str]:
    """Variants whose name is written: all, or the baselines, the front and the largest differences."""
    if len(rows) <= ALL_NAMED:
        return set(rows["variant"])
    first = [*rows.loc[rows["delta_map50_95"].isna(), "variant"], *pareto(rows)["variant"]]
    size = rows["delta_map50_95"].abs().sort_values(ascending=False, kind="stable")
    return set(list(dict.fromkeys([*first, *rows.loc[size.index, "variant"]]))[:NAMED])


def _label_points(axes: Axes, rows: pd.DataFrame, worth: set[str]) -> None:
    """Write variants' names beside their points, where they cover least of other names and points."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    make_drawable(figure)
    figure.draw_without_rendering()
    points = axes.transData.transform(rows[["latency_ms", "map50_95"]].to_numpy())
    frame = axes.get_window_extent(renderer)
    taken = [(x - 6.0, y - 6.0, x + 6.0, y + 6.0) for x, y in points]
    for lower, upper in (
        (("latency_ms", "low"), ("latency_ms", "high")),
        (("left", "map50_95"), ("right", "map50_95")),
    ):
        ends = [axes.transData.transform(rows[list(end)].to_numpy()) for end in (lower, upper)]
        bars = np.hstack([ends[0] - 2, ends[1] + 2])
        taken += [tuple(bar) for bar in bars if np.isfinite(bar).all()]
    for row in rows_of(rows):
        if row["variant"] in worth:
            taken.append(_place(axes, row, taken, frame, renderer))


def _place(axes: Axes, row: dict[str, Any], taken: list[Any], frame: Any, renderer: Any) -> Any:
    """Write one name at the best of a few places; returns its box in pixels."""
    point = (row["latency_ms"], row["map50_95"])
    text = axes.annotate(
        named(row),
        point,
        (0, 0),
        textcoords="offset points",
        fontsize=7.0,
        zorder=5,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )
    text.set_in_layout(False)
    size = text.get_window_extent(renderer)
    pixel = axes.transData.transform(point)
    scale = renderer.points_to_pixels(1.0)
    crowded = np.array(taken)
    best: tuple[float, Any, Any] | None = None
    for dx, dy, horizontal, vertical in _places():
        left = pixel[0] + scale * dx - size.width * {"left": 0.0, "center": 0.5, "right": 1.0}[horizontal]
        bottom = pixel[1] + scale * dy - size.height * {"bottom": 0.0, "center": 0.5, "top": 1.0}[vertical]
        box = (left, bottom, left + size.width, bottom + size.height)
        outside = max(0.0, frame.x0 - box[0]) + max(0.0, box[2] - frame.x1)
        outside += max(0.0, frame.y0 - box[1]) + max(0.0, box[3] - frame.y1)
        across = np.minimum(box[2], crowded[:, 2]) - np.maximum(box[0], crowded[:, 0])
        down = np.minimum(box[3], crowded[:, 3]) - np.maximum(box[1], crowded[:, 1])
        overlap = float((np.clip(across, 0, None) * np.clip(down, 0, None)).sum())
        cost = overlap + 60 * outside + 2 * (abs(dx) + abs(dy))
        if best is None or cost < best[0]:
            best = (cost, (dx, dy, horizontal, vertical), box)
    assert best is not None
    dx, dy, horizontal, vertical = best[1]
    text.set(position=(dx, dy), horizontalalignment=horizontal, verticalalignment=vertical)
    if abs(dx) + abs(dy) > 15:
        leader = {"arrowstyle": "-", "color": "#888888", "linewidth": 0.6}
        text.remove()
        axes.annotate(
            named(row),
            point,
            (dx, dy),
            textcoords="offset points",
            ha=horizontal,
            va=vertical,
            fontsize=7.0,
            zorder=5,
            arrowprops=leader,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        ).set_in_layout(False)
    return best[2]


def _places() -> Iterable[tuple[float, float, str, str]]:
    """Offsets of a label from its point, nearest first."""
    for reach in (7.0, 14.0, 22.0, 34.0):
        for dx, horizontal in ((1.0, "left"), (-1.0, "right")):
            yield dx * reach, 0.0, horizontal, "center"
            yield dx * reach * 0.7, reach * 0.7, horizontal, "bottom"
            yield dx * reach * 0.7, -reach * 0.7, horizontal, "top"
        yield 0.0, reach, "center", "bottom"
        yield 0.0, -reach, "center", "top"
