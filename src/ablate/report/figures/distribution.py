"""Distribution of the measured latencies: what a median hides."""

from __future__ import annotations

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from ablate.analysis.number_format import cell
from ablate.records.records import Sweep, sequence, value
from ablate.report.figures.rows import Line, canvas, line_up
from ablate.report.figures.style import (
    SETTINGS,
    SMALLEST,
    Drawing,
    Style,
    flags,
    is_control,
    references,
    said,
    settle,
    styles,
    title_of,
)

VIOLIN = 12  # samples from which on a density says something
SAMPLES = 2000  # of one variant that are drawn
STEPS = 128  # points of a density's outline
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "||||")


def latency_distribution(sweep: Sweep, table: pd.DataFrame) -> Drawing | None:
    """One line per variant: density, quartiles, median and 95th percentile of the measured latencies."""
    samples = samples_of(sweep)
    lines, words = line_up(table[table["variant_key"].isin(samples)], title_of)
    shown = [line for line in lines if line.row is not None]
    if not shown:
        return None
    drawn = styles(table)
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(lines, right=1.0, below=0.5, tall=1.25)
        first, last = _span([samples[line.row["variant_key"]] for line in shown if line.row])
        axes.set_xlim(first, last)
        beyond = sum(_draw(axes, line, samples, drawn, last) for line in shown)
        _mark_baselines(axes, lines, samples, table)
        axes.set_xlabel("latency (ms)")
        across = axes.get_yaxis_transform()
        for text, x in (("median", 1.03), ("p95", 1.14)):
            axes.text(x, lines[0].y, text, transform=across, va="center", fontsize=SMALLEST, fontweight="bold")
        for line in shown:
            assert line.row is not None
            for name, x in (("latency_ms", 1.03), ("latency_p95_ms", 1.14)):
                axes.text(x, line.y, cell(name, line.row[name]), transform=across, va="center", fontsize=SMALLEST)
        settle(figure)
    counts = sorted({len(samples[line.row["variant_key"]]) for line in shown if line.row})
    many = f"{counts[0]}" if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
    parts = [
        f"{many} measurements per variant, in rounds with the other variants. Box: the middle half; white line: "
        "median; tick: 95th percentile; whiskers: 1st to 99th.",
        "The shape is the density." if counts[-1] >= VIOLIN else "Points are single measurements.",
        "The dotted line is the baseline's median." if any(references(table)) else "",
        f"{beyond} measurements lie beyond the right edge." if beyond else "",
        flags(pd.DataFrame([line.row for line in shown])),
        words,
    ]
    return Drawing(figure, said(parts), tuple(line.row["variant_key"] for line in shown if line.row))


def samples_of(sweep: Sweep) -> dict[str, np.ndarray]:
    """Variant key -> measured latencies in ms, shape (rounds,), for the first setting."""
    found: dict[str, np.ndarray] = {}
    for entry in sequence(sweep.latency, "variants"):
        times = [t for t in sequence(entry, "samples_ms") if isinstance(t, int | float) and np.isfinite(t) and t > 0]
        key = value(entry, "variant_key")
        if times and isinstance(key, str):
            found.setdefault(key, np.asarray(times, dtype=np.float64))
    return found


def _span(samples: list[np.ndarray]) -> tuple[float, float]:
    """Ends of the axis: the 99th percentile of all variants has its place, single outliers need not."""
    low = min(float(times.min()) for times in samples)
    high = max(float(np.percentile(times, 99)) for times in samples)
    room = 0.06 * (high - low) or 0.05 * high
    return low - room, high + room


def _draw(axes: Axes, line: Line, samples: dict[str, np.ndarray], drawn: dict[str, Style], last: float) -> int:
    """Draw one variant; returns how many measurements lie beyond the axis."""
    assert line.row is not None
    times, style = samples[line.row["variant_key"]], drawn[line.row["variant"]]
    y = line.y
    if len(times) < VIOLIN:
        axes.plot(times, np.full(len(times), y), "|", color=style.color, markersize=9, markeredgewidth=1.2, zorder=3)
        axes.plot(
            np.median(times), y, style.marker, color=style.color, markersize=4.5, markerfacecolor="white", zorder=4
        )
        return int((times > last).sum())
    kept = times if len(times) <= SAMPLES else times[:: -(-len(times) // SAMPLES)]
    low, first, middle, third, p95, high = np.percentile(times, [1, 25, 50, 75, 95, 99])
    inside = kept[(kept >= low) & (kept <= high)]
    points = np.linspace(low, high, STEPS)
    density = _density(inside, points)
    if density is not None:
        color = style.color
        axes.fill_between(points, y - 0.42 * density, y + 0.42 * density, facecolor="white", edgecolor=color, alpha=0.9,
                          linewidth=0.6, hatch=_hatch(drawn, line), zorder=2)  # fmt: skip
    axes.plot([low, high], [y, y], color="#222222", linewidth=0.7, zorder=3)
    axes.plot([first, third], [y, y], color=style.color, linewidth=5, solid_capstyle="butt", zorder=4)
    axes.plot([middle] * 2, [y - 0.17, y + 0.17], color="white", linewidth=1.4, zorder=5)
    axes.plot([p95] * 2, [y - 0.22, y + 0.22], color="#222222", linewidth=1.1, zorder=5)
    return int((times > last).sum())


def _hatch(drawn: dict[str, Style], line: Line) -> str:
    """A hatch per marker, so that neighbours differ without colour."""
    assert line.row is not None
    order = list(dict.fromkeys(style.marker for style in drawn.values()))
    return HATCHES[order.index(drawn[line.row["variant"]].marker) % len(HATCHES)]


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


def _mark_baselines(axes: Axes, lines: list[Line], samples: dict[str, np.ndarray], table: pd.DataFrame) -> None:
    """A dotted line at the baseline's median, through the lines of its group."""
    reference = dict(zip(table["variant"], references(table) & ~is_control(table), strict=True))
    start = 0
    for index in range(1, len(lines) + 1):
        if index < len(lines) and lines[index].row is not None:
            continue
        group = [line for line in lines[start:index] if line.row is not None]
        for line in group:
            if line.row is not None and reference[line.row["variant"]]:
                middle = float(np.median(samples[line.row["variant_key"]]))
                axes.plot(
                    [middle] * 2, [group[0].y - 0.5, group[-1].y + 0.5], color="black", linewidth=0.9,
                    linestyle=(0, (1, 1.5)), zorder=1,
                )  # fmt: skip
        start = index
