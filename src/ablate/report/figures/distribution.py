"""Distribution of the measured latencies: what a median hides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.phrases import count
from ablate.report.figures.rows import LEFT, PlacedRow, canvas, line_up
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
)

RIGHT = 1.0  # inches for the numbers
VIOLIN = 12  # samples from which on a density says something
SAMPLES = 2000  # of one variant that are drawn
STEPS = 128  # points of a density's outline
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "||||")


def latency_distribution(comparison: Comparison) -> Drawing | None:
    """One line per variant: density, quartiles, median and 95th percentile of the measured latencies."""
    samples = measured_times(comparison)
    layout = line_up(comparison, lambda row: row.key in samples, lambda group: group.title)
    placed = layout.placed
    if not placed:
        return None
    drawn = styles(comparison)
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(layout.lines, right=RIGHT, below=0.5, tall=1.25)
        first, last = _span([samples[row.key] for _, row in placed])
        axes.set_xlim(first, last)
        hatches = _hatches(drawn)
        beyond = sum(
            _draw(axes, y, samples[row.key], drawn[row.label], hatches[drawn[row.label].marker], last)
            for y, row in placed
        )
        for group in layout.groups:
            _mark_baselines(axes, group, samples)
        axes.set_xlabel("latency (ms)")
        median, p95 = (1 + inches / (TWO_COLUMNS - LEFT - RIGHT) for inches in (0.5, 0.95))
        style: dict[str, Any] = {"transform": axes.get_yaxis_transform(), "fontsize": SMALLEST}
        style |= {"ha": "right", "va": "center"}
        for text, x in (("latency", median), ("p95", p95)):
            axes.text(x, layout.lines[0].y, text, fontweight="bold", **style)
        for y, row in placed:
            axes.text(median, y, cell("latency_ms", row.latency.median_ms), **style)
            axes.text(p95, y, cell("latency_p95_ms", row.latency.p95_ms), **style)
        fix_layout(figure)
    rows = [row for _, row in placed]
    counts = sorted({len(samples[row.key]) for row in rows})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts = [
        f"{many} measurements per variant, one in each round; a round measures all variants.",
        "Box: interquartile range; white line: median; tick: 95th percentile; whiskers: 1st to 99th percentile; shape: "
        "density."
        if counts[-1] >= VIOLIN
        else "Ticks are single measurements; the marker is their median.",
        "The dotted line is the median of the baseline's measurements." if any(row.is_baseline for row in rows) else "",
        "Numbers at the right: geometric mean over processes of each one's median; 95th percentile."
        if any(row.latency.over_processes for row in rows)
        else "",
        f"{count(beyond, 'measurement lies', 'measurements lie')} beyond the right edge." if beyond else "",
        dagger_caption(rows),
        layout.limit,
    ]
    return Drawing(figure, paragraph(parts), tuple(row.key for row in rows))


def measured_times(comparison: Comparison) -> dict[str, np.ndarray]:
    """Variant key -> measured latencies in ms, shape (rounds,), for the first setting."""
    variants = comparison.latency.variants if comparison.latency else {}
    arrays = {key: np.asarray(latency.samples_ms, dtype=np.float64) for key, latency in variants.items()}
    times = {key: array[np.isfinite(array)] for key, array in arrays.items()}
    return {key: array for key, array in times.items() if len(array)}


def _span(samples: list[np.ndarray]) -> tuple[float, float]:
    """Ends of the axis: the 99th percentile of all variants has its place, single outliers need not."""
    low = min(float(times.min()) for times in samples)
    high = max(float(np.percentile(times, 99)) for times in samples)
    room = 0.06 * (high - low) or 0.05 * high
    return low - room, high + room


def _draw(axes: Axes, y: float, times: np.ndarray, style: Style, hatch: str, last: float) -> int:
    """Draw one variant; returns how many measurements lie beyond the axis."""
    if len(times) < VIOLIN:
        axes.plot(times, np.full(len(times), y), "|", color=style.color, markersize=9, markeredgewidth=1.2, zorder=3)
        axes.plot(
            np.median(times), y, style.marker, color=style.color, markersize=4.5, markerfacecolor="white", zorder=4
        )
        return int((times > last).sum())
    thinned = times if len(times) <= SAMPLES else times[:: -(-len(times) // SAMPLES)]
    low, first, middle, third, p95, high = np.percentile(times, [1, 25, 50, 75, 95, 99])
    inside = thinned[(thinned >= low) & (thinned <= high)]
    points = np.linspace(low, high, STEPS)
    density = _density(inside, points)
    if density is not None:
        color = style.color
        axes.fill_between(points, y - 0.42 * density, y + 0.42 * density, facecolor="white", edgecolor=color, alpha=0.9,
                          linewidth=0.6, hatch=hatch, zorder=2)  # fmt: skip
    axes.plot([low, high], [y, y], color="#222222", linewidth=0.7, zorder=3)
    axes.plot([first, third], [y, y], color=style.color, linewidth=5, solid_capstyle="butt", zorder=4)
    axes.plot([middle] * 2, [y - 0.17, y + 0.17], color="white", linewidth=1.4, zorder=5)
    axes.plot([p95] * 2, [y - 0.22, y + 0.22], color="#222222", linewidth=1.1, zorder=5)
    return int((times > last).sum())


def _hatches(drawn: dict[str, Style]) -> dict[str, str]:
    """Marker -> hatch, so that neighbours differ without colour."""
    markers = list(dict.fromkeys(style.marker for style in drawn.values()))
    return {marker: HATCHES[index % len(HATCHES)] for index, marker in enumerate(markers)}


def _density(times: np.ndarray, points: np.ndarray) -> np.ndarray | None:
    """Gaussian kernel density (Silverman's width) of shape (points,), 1 at its highest; None without any spread."""
    spread = float(np.std(times))
    quartiles = float(np.subtract(*np.percentile(times, [75, 25]))) / 1.349
    width = 0.9 * min(filter(None, (spread, quartiles)), default=0.0) * len(times) ** -0.2
    if not width:
        return None
    density: np.ndarray = np.exp(-0.5 * ((points[:, None] - times[None, :]) / width) ** 2).sum(axis=1)
    density /= density.max()
    return density


def _mark_baselines(axes: Axes, group: Sequence[PlacedRow], samples: dict[str, np.ndarray]) -> None:
    """A dotted line at the baseline's median, through the lines of its group."""
    for _, row in group:
        if row.is_baseline:
            middle = float(np.median(samples[row.key]))
            axes.plot(
                [middle] * 2, [group[0].y - 0.5, group[-1].y + 0.5], color="black", linewidth=0.9,
                linestyle=(0, (1, 1.5)), zorder=1,
            )  # fmt: skip
