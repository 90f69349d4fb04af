"""Accuracy against latency: what a variant gains, and what it costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy import special

from ablate.analysis.comparison import Comparison
from ablate.analysis.image_groups import drawn_again
from ablate.analysis.phrases import listed
from ablate.analysis.variant_row import Row
from ablate.report.figures.lettering import in_legend, make_drawable
from ablate.report.figures.style import (
    SETTINGS,
    TWO_COLUMNS,
    Drawing,
    Style,
    dagger_caption,
    fix_layout,
    paragraph,
    styles,
    written_name,
)
from ablate.report.foremost_rows import alike
from ablate.statistics.interval import Interval
from ablate.statistics.paired import LEVEL

ALL_NAMED = 24  # points of a panel that all get their name
NAMED = 10  # of more than these
MOST_OTHERS = 4  # points over other seeds that are named in the caption
PANELS = 4
FILLS: tuple[Any, ...] = ("full", "none", "left", "bottom", "right", "top")  # of a marker, one for each optimizer


class Point(NamedTuple):
    """A variant as a point: latency in ms, accuracy as a fraction, and the ends of its bars.

    Attributes:
        vertical: Interval of the accuracy; `covers` is "seeds", "folds" or "images", empty where there is none.
        horizontal: Interval of the median latency.
    """

    row: Row
    latency: float
    accuracy: float
    vertical: Interval | None
    covers: str
    horizontal: Interval | None


def accuracy_against_latency(comparison: Comparison) -> Drawing | None:
    """One panel per data set: a point per variant with intervals on both axes, and the Pareto front of the panel."""
    panels: dict[str, list[Point]] = {}
    for row in comparison.rows:
        point = point_of(row)
        if point is not None:
            panels.setdefault(row.data, []).append(point)
    if not panels:
        return None
    drawn = styles(comparison)
    named = 0
    with mpl.rc_context(SETTINGS):
        shown = list(panels.items())[:PANELS]
        figure = Figure(figsize=(TWO_COLUMNS, 4.3 * len(shown)), layout="constrained")
        for position, (data, points) in enumerate(shown, start=1):
            axes = figure.add_subplot(len(shown), 1, position)
            _panel(axes, points, drawn)
            axes.set(
                xlabel="latency (ms); further left is faster",
                ylabel=comparison.metric.label,
                title=f"data: {data}" if data else "",
            )
            labels = _worth_a_name(points)
            named += len(labels)
            _label_points(axes, points, labels)
        fix_layout(figure)
    points = [point for _, group in shown for point in group]
    alt = [f"{point.row.label} {point.accuracy:.4f} at {point.latency:.2f} ms" for point in points]
    keys = tuple(point.row.key for point in points)
    return Drawing(figure, _caption(points, named, len(panels)), keys, alt=f"Accuracy and latency: {', '.join(alt)}.")


def pareto(points: Sequence[Point]) -> list[Point]:
    """Points that no other one beats in both latency and accuracy, by rising latency.

    Controls take no part, nothing that may not be compared with its baseline, and nothing over other seeds or folds
    than most points are.
    """
    front: list[Point] = []
    for point in sorted(_candidates(points), key=lambda point: (point.latency, -point.accuracy)):
        if not front or point.accuracy > front[-1].accuracy:
            front.append(point)
    return front


def _candidates(points: Sequence[Point]) -> list[Point]:
    candidates = {id(row) for row in alike([point.row for point in points])}
    return [point for point in points if id(point.row) in candidates]


def point_of(row: Row) -> Point | None:
    """A row as a point; None where latency or accuracy was not measured."""
    latency, accuracy = row.latency.median_ms, row.accuracy.primary
    if latency is None or accuracy is None:
        return None
    vertical, covers = _vertical(row, accuracy)
    return Point(row, latency, accuracy, vertical, covers, row.latency.interval)


def _vertical(row: Row, accuracy: float) -> tuple[Interval | None, str]:
    """The interval of the accuracy over seeds, or else over images: around what the baseline has."""
    std, units, share = row.accuracy.std, row.folds or row.replicates, row.variant.fold_share or 0.0
    if std is not None and units >= 2:
        reach = float(special.stdtrit(units - 1, 0.5 + LEVEL / 2) * std * np.sqrt(1 / units + share))
        return Interval(accuracy, accuracy - reach, accuracy + reach), "folds" if row.folds else "seeds"
    if row.difference is not None and row.difference.over_images is not None:
        base, images = accuracy - row.difference.estimate, row.difference.over_images
        return Interval(accuracy, base + images.low, base + images.high), "images"
    return None, ""


def _panel(axes: Axes, points: Sequence[Point], drawn: dict[str, Style]) -> None:
    """Draw points, bars, front and legend of one data set."""
    optimizers = list(dict.fromkeys(point.row.optimizer for point in points))
    for point in points:
        style = drawn[point.row.label]
        fill = "none" if point.row.is_control else FILLS[optimizers.index(point.row.optimizer) % len(FILLS)]
        x, y = point.latency, point.accuracy
        bars: dict[str, Any] = {"color": style.color, "linewidth": 0.9, "zorder": 2, "alpha": 0.8}
        if point.vertical is not None:
            dashes = (0, (2, 1.2)) if point.covers == "images" else "-"
            axes.plot([x, x], [point.vertical.low, point.vertical.high], linestyle=dashes, **bars)
        if point.horizontal is not None:
            axes.plot([point.horizontal.low, point.horizontal.high], [y, y], linestyle="-", **bars)
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
    front = pareto(points)
    if len(front) > 1:
        axes.step(
            [point.latency for point in front],
            [point.accuracy for point in front],
            where="post",
            color="#888888",
            linewidth=1,
            zorder=1,
            linestyle=(0, (4, 2)),
            label="Pareto front",
        )
    if len(optimizers) > 1:
        for index, name in enumerate(optimizers):
            look = _filled("#666666", FILLS[index % len(FILLS)])
            axes.plot([], [], "o", color="#666666", markersize=7, label=in_legend(name), **look)
    if any(point.row.is_control for point in points):
        axes.plot([], [], "s", color="#767676", markerfacecolor="white", markersize=7, label="control")
    axes.set_xlim(_limits([(point.latency, point.horizontal) for point in points], 0.16))
    axes.set_ylim(_limits([(point.accuracy, point.vertical) for point in points], 0.14))
    handles = axes.get_legend_handles_labels()[0]
    if handles:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=min(4, len(handles)))


def _filled(color: str, fill: str) -> dict[str, Any]:
    """A marker that is full, half full or hollow; what is not full is white."""
    if fill == "none":
        return {"markerfacecolor": "white"}
    return {"markerfacecolor": color, "markerfacecoloralt": "white", "fillstyle": fill}


def _limits(values: Sequence[tuple[float, Interval | None]], room: float) -> tuple[float, float]:
    """Room for points and names; bars of very few seeds may leave the panel, or nothing else could be told apart."""
    first, last = min(value for value, _ in values), max(value for value, _ in values)
    span = (last - first) or 0.05 * abs(last) or 0.01
    bottom = max(min([first, *(bar.low for _, bar in values if bar)]), first - span)
    top = min(max([last, *(bar.high for _, bar in values if bar)]), last + span)
    margin = room * (top - bottom or span)
    least = -0.05 * top if first >= 0 else -np.inf  # neither is negative, however far a bar reaches
    return max(bottom - margin, least), top + margin


def _caption(points: Sequence[Point], named: int, panels: int) -> str:
    """What is drawn, and what the bars cover."""
    percent = f"{100 * LEVEL:.0f}%"
    rows, covers = [point.row for point in points], {point.covers for point in points}
    parts = ["One point per variant; up and to the left is better."]
    by_data = {row.data: [point for point in points if point.row.data == row.data] for row in rows}
    fronts = [pareto(panel) for panel in by_data.values()]
    if any(len(front) > 1 for front in fronts):
        parts.append(
            "Dashed: the Pareto front; no variant that takes part was measured both faster and more accurate than one "
            "on it."
        )
    elif panels == 1 and fronts[0]:
        parts.append(f"The Pareto front is {fronts[0][0].row.label} alone.")
    if not all(row.is_comparable for row in rows):
        parts.append(f"{dagger_caption(rows)} Such variants are not part of the front.")
    if others := [label for panel in by_data.values() for label in _over_others(panel)]:
        units = "folds" if any(row.folds for row in rows) else "seeds"
        parts.append(
            f"Over other {units} than the rest, so that their height may differ for that alone: "
            f"{listed(others, MOST_OTHERS)}. They are not part of the front."
        )
    if "seeds" in covers:
        parts.append(
            f"Vertical bars: {percent} CI of the mean over seeds (Student's t). Variants share seeds, so bars may "
            "overlap although the paired difference is significant; see the figure of differences."
        )
    if "folds" in covers:
        parts.append(
            f"Vertical bars: {percent} CI of the mean over folds (corrected resampled t). Variants share folds, so "
            "bars may overlap although the paired difference is significant; see the figure of differences."
        )
    if "images" in covers:
        parts.append(
            f"Dashed vertical bars, where there is one seed: {percent} CI of the difference to the baseline over "
            f"{drawn_again(rows)}, drawn around the point."
        )
    if not covers - {""}:
        units = "folds" if any(row.folds for row in rows) else "seeds"
        parts.append(f"There are no vertical bars: there is no CI over {units} or images.")
    if any(point.horizontal for point in points):
        over = "processes" if all(row.latency.over_processes for row in rows if row.latency.interval) else "rounds"
        parts.append(f"Horizontal bars: {percent} CI of the latency over {over}.")
    spread = max(point.accuracy for point in points) - min(point.accuracy for point in points)
    if any(point.vertical is not None and point.vertical.high - point.accuracy > spread for point in points):
        parts.append("Bars longer than the range of the points are cut off at the edge of the panel.")
    if named < len(points):
        parts.append(
            f"{named} of {len(points)} points are named: the baselines, the front, and the largest differences."
        )
    if panels > PANELS:
        parts.append(f"The first {PANELS} of {panels} data sets are shown.")
    return paragraph(parts)


def _over_others(panel: Sequence[Point]) -> list[str]:
    """Labels of the variants that are not part of a front because most of their panel are over other seeds or folds."""
    candidates = _candidates(panel)
    return [point.row.label for point in panel if point.row.takes_part and point not in candidates]


def _worth_a_name(points: Sequence[Point]) -> set[str]:
    """Variants whose name is written: all, or the baselines, the front and the largest differences."""
    if len(points) <= ALL_NAMED:
        return {point.row.label for point in points}
    first = [*(point for point in points if point.row.difference is None), *pareto(points)]
    by_size = sorted(points, key=lambda point: -abs(point.row.estimate or 0.0))
    return set(list(dict.fromkeys(point.row.label for point in [*first, *by_size]))[:NAMED])


def _label_points(axes: Axes, points: Sequence[Point], labels: set[str]) -> None:
    """Write variants' names beside their points, where they cover least of other names and points."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call]
    make_drawable(figure)
    figure.draw_without_rendering()
    pixels = axes.transData.transform([(point.latency, point.accuracy) for point in points])
    frame = axes.get_window_extent(renderer)
    taken = [(x - 6.0, y - 6.0, x + 6.0, y + 6.0) for x, y in pixels]
    vertical = [((p.latency, p.vertical.low), (p.latency, p.vertical.high)) for p in points if p.vertical]
    horizontal = [((p.horizontal.low, p.accuracy), (p.horizontal.high, p.accuracy)) for p in points if p.horizontal]
    for ends in (*vertical, *horizontal):
        lower, upper = axes.transData.transform(ends)
        taken.append((*(lower - 2), *(upper + 2)))
    for point in points:
        if point.row.label in labels:
            taken.append(_place(axes, point, taken, frame, renderer))


def _place(axes: Axes, labelled: Point, taken: list[Any], frame: Any, renderer: Any) -> Any:
    """Write one name at the best of a few places; returns its box in pixels."""
    point, name = (labelled.latency, labelled.accuracy), written_name(labelled.row)
    text = axes.annotate(
        name,
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
            name,
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
    for reach in (7.0, 14.0, 22.0, 34.0, 48.0):
        for dx, horizontal in ((1.0, "left"), (-1.0, "right")):
            yield dx * reach, 0.0, horizontal, "center"
            yield dx * reach * 0.7, reach * 0.7, horizontal, "bottom"
            yield dx * reach * 0.7, -reach * 0.7, horizontal, "top"
        yield 0.0, reach, "center", "bottom"
        yield 0.0, -reach, "center", "top"
