"""Several data sets in pictures: each variant's differences with their mean, and Demsar's diagram of mean ranks."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.analysis.columns import accuracy_text, cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.data_sets import AcrossDataSets, DataSetStudy, data_set_studies
from ablate.analysis.phrases import minus, probability_text
from ablate.report.figures.lettering import in_legend, written
from ablate.report.figures.rows import LEFT, Line, canvas, distance, shortened
from ablate.report.figures.style import (
    MARKERS,
    PALETTE,
    SETTINGS,
    SMALLEST,
    TWO_COLUMNS,
    Drawing,
    fix_layout,
    in_words,
    paragraph,
)
from ablate.statistics.paired import ALPHA, LEVEL
from ablate.statistics.ranks import cliques

RIGHT = 2.0  # inches for the numbers
MOST = 24  # variants
MOST_RANKED = 16  # names of a diagram of ranks
LINE = 0.19  # inches of a name's line there


def over_data_sets(comparison: Comparison) -> Drawing | None:
    """Differences on each data set, their mean with its interval, and the prediction interval of the next one."""
    studies = data_set_studies(comparison)
    items: list[tuple[DataSetStudy, AcrossDataSets]] = []
    lines: list[Line] = []
    for study in studies:
        y = lines[-1].y + 1.5 if lines else 0.0
        lines.append(Line(y, title=written(f"{f'{study.title}: ' if study.title else ''}against {study.baseline}")))
        for variant in study.variants[: max(0, MOST - len(items))]:
            name = shortened(written(variant.label))
            lines.append(Line(lines[-1].y + distance(lines[-1], name), name=name))
            items.append((study, variant))
    total = sum(len(study.variants) for study in studies)
    if not items:
        return None
    data = list(dict.fromkeys(name for study, _ in items for name in study.data))
    variants = [variant for _, variant in items]
    with mpl.rc_context(SETTINGS):
        figure, axes = canvas(lines, right=RIGHT, below=0.75)
        limit = _limit(variants)
        axes.set_xlim(-limit, limit)
        axes.axvline(0, color="black", linewidth=0.9, zorder=1)
        for line, (_, variant) in zip((line for line in lines if line.name), items, strict=True):
            _draw(axes, line, variant, data)
        _numbers(axes, lines[0], [line for line in lines if line.name], variants)
        axes.set_xlabel(f"difference in {comparison.metric.label} to the baseline; further right is more accurate")
        handles = {name: _marker(axes, data.index(name)) for name in data}
        figure.legend(
            [*handles.values()], [in_legend(name) for name in handles], loc="lower center", ncols=min(5, len(data))
        )
        fix_layout(figure)
    parts = [
        f"Markers: the difference on each data set; vertical line: their mean. Thick bar: {100 * LEVEL:.0f}% CI of the "
        "mean over data sets.",
        f"Thin bar: {100 * LEVEL:.0f}% prediction interval of the difference on the next data set."
        if any(variant.pooled.prediction is not None for variant in variants)
        else "",
        "Bars that reach beyond the figure are cut off." if max(_ends(variants)) > limit else "",
        f"The first {len(items)} of {total} variants are shown." if len(items) < total else "",
    ]
    keys = dict.fromkeys(one.row.key for variant in variants for one in variant.on)
    alt = in_words((variant.label, variant.pooled.mean, variant.pooled.interval) for variant in variants)
    return Drawing(figure, paragraph(parts), tuple(keys), alt=f"Mean differences over data sets. {alt}")


def critical_difference(comparison: Comparison) -> Drawing | None:
    """Mean ranks over data sets; bars join variants whose ranks differ by less than the critical distance."""
    studies = [study for study in data_set_studies(comparison) if study.ranks and len(study.ranked) <= MOST_RANKED]
    if not studies:
        return None
    heights = [0.95 + LINE * ((len(s.ranked) + 1) // 2) + 0.06 * len(_bars(s)) for s in studies]
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(TWO_COLUMNS, sum(heights)))
        top = sum(heights)
        for study, height in zip(studies, heights, strict=True):
            axes = figure.add_axes((0.0, (top - height) / sum(heights), 1.0, height / sum(heights)))
            _draw_ranks(axes, study, height, study.title if len(studies) > 1 else "")
            top -= height
        fix_layout(figure)
    tests = [f"{cell('p_value', study.ranks.p_value)}" for study in studies if study.ranks]
    parts = [
        "Mean rank of each variant over the data sets, 1 is the most accurate. Variants under one thick bar do not "
        f"differ by more than Nemenyi's critical distance (CD, {100 * ALPHA:.0f} %; Demsar 2006). Friedman p: "
        f"{', '.join(tests)}.",
        ""
        if all(s.ranks and s.ranks.can_differ for s in studies)
        else "With so few data sets no two mean ranks can differ by more than the critical distance.",
    ]
    keys = dict.fromkeys(one.row.key for study in studies for variant in study.variants for one in variant.on)
    ranks = [f"{label} {rank:.2f}" for study in studies for label, rank in study.rank_of.items()]
    return Drawing(figure, paragraph(parts), tuple(keys), alt=f"Mean ranks: {', '.join(ranks)}.")


def _draw(axes: Axes, line: Line, variant: AcrossDataSets, data: Sequence[str]) -> None:
    """One variant: its data sets, and the bars of mean and prediction."""
    interval, foreseen = variant.pooled.interval, variant.pooled.prediction
    if foreseen is not None:
        axes.plot(foreseen.interval[1:], [line.y] * 2, color="#9a9a9a", linewidth=0.9, zorder=2)
    if interval is not None:
        axes.plot(interval[1:], [line.y] * 2, color="#4a4a4a", linewidth=3.0, solid_capstyle="butt", zorder=3)
    axes.plot(variant.pooled.mean, line.y, "|", color="black", markersize=11, markeredgewidth=1.6, zorder=5)
    for one in variant.on:
        index = data.index(one.data)
        axes.plot(
            one.estimate, line.y, MARKERS[index % len(MARKERS)], color=PALETTE[index % len(PALETTE)], markersize=5,
            markerfacecolor="white", zorder=4,
        )  # fmt: skip


def _limit(variants: Sequence[AcrossDataSets]) -> float:
    """How far the axis reaches to either side: bars of two or three data sets may be cut off."""
    largest = max(abs(one.estimate) for variant in variants for one in variant.on)
    return 1.08 * min(max(largest, *_ends(variants)), 3 * largest) or 0.01


def _ends(variants: Sequence[AcrossDataSets]) -> list[float]:
    """How far the bars reach from zero."""
    bars = [variant.pooled.interval for variant in variants]
    bars += [variant.pooled.prediction.interval for variant in variants if variant.pooled.prediction]
    return [0.0, *(abs(end) for bar in bars if bar for end in bar[1:])]


def _marker(axes: Axes, index: int) -> Artist:
    """What stands in the legend for a data set."""
    (drawn,) = axes.plot(
        [], [], MARKERS[index % len(MARKERS)], color=PALETTE[index % len(PALETTE)], markerfacecolor="white",
        markersize=5,
    )  # fmt: skip
    return drawn


def _numbers(axes: Axes, head: Line, lines: Sequence[Line], variants: Sequence[AcrossDataSets]) -> None:
    """Mean, interval and probability at the right."""
    inch = 1 / (TWO_COLUMNS - LEFT - RIGHT)
    places = (1 + 0.5 * inch, 1 + 0.6 * inch, 1 + 1.95 * inch)
    across = axes.get_yaxis_transform()

    def write(y: float, texts: Sequence[str], weight: str = "normal") -> None:
        for x, text, side in zip(places, texts, ("right", "left", "right"), strict=True):
            axes.text(x, y, minus(text), transform=across, ha=side, va="center", fontsize=SMALLEST, fontweight=weight)

    write(head.y, ("mean", f"{100 * LEVEL:.0f}% CI", "P(next > 0)"), "bold")
    for line, variant in zip(lines, variants, strict=True):
        foreseen = variant.pooled.prediction
        write(
            line.y,
            (
                accuracy_text(variant.pooled.mean, signed=True),
                cell("delta_ci", variant.pooled.interval, signed=True),
                "" if foreseen is None else probability_text(foreseen.higher),
            ),
        )


def _bars(study: DataSetStudy) -> list[tuple[float, float]]:
    return cliques(study.ranks.means, study.ranks.distance) if study.ranks else []


def _draw_ranks(axes: Axes, study: DataSetStudy, height: float, title: str) -> None:
    """Demsar's diagram, in inches: an axis of ranks, names beneath to both sides, bars, and the critical distance."""
    assert study.ranks is not None
    count, left, right = len(study.ranked), 1.9, TWO_COLUMNS - 1.9
    axes.set(xlim=(0, TWO_COLUMNS), ylim=(-height, 0))
    axes.axis("off")
    rule = -0.62

    def place(rank: float) -> float:
        return left + (right - left) * (rank - 1) / (count - 1)

    axes.plot([left, right], [rule, rule], color="black", linewidth=1.0)
    for rank in range(1, count + 1):
        axes.plot([place(rank)] * 2, [rule, rule + 0.06], color="black", linewidth=1.0)
        axes.text(place(rank), rule + 0.09, str(rank), ha="center", va="bottom", fontsize=SMALLEST)
    shown = min(study.ranks.distance, count - 1.0)
    axes.plot([left, place(1 + shown)], [-0.22] * 2, color="black", linewidth=1.4, marker="|", markersize=6)
    more = "" if study.ranks.can_differ else " (more than the axis)"
    axes.text(left, -0.17, f"CD {study.ranks.distance:.2f}{more}", ha="left", va="bottom", fontsize=SMALLEST)
    if title:
        axes.text(right, -0.17, written(title), ha="right", va="bottom", fontsize=SMALLEST, fontweight="bold")
    bars = _bars(study)
    for index, (low, high) in enumerate(bars):
        y = rule - 0.07 - 0.06 * index
        axes.plot([place(low) - 0.03, place(high) + 0.03], [y, y], color="black", linewidth=3.0, solid_capstyle="butt")
    ordered = sorted(study.rank_of.items(), key=lambda one: one[1])
    first = rule - 0.16 - 0.06 * len(bars)
    half = (count + 1) // 2
    for index, (label, mean) in enumerate(ordered):
        is_left = index < half
        below = first - LINE * (index if is_left else count - 1 - index)
        edge = left - 0.08 if is_left else right + 0.08
        axes.plot([place(mean), place(mean), edge], [rule, below, below], color="#4a4a4a", linewidth=0.8)
        name = shortened(written(label)).partition("\n")[0]
        axes.text(
            edge - 0.04 if is_left else edge + 0.04, below, f"{name} {mean:.2f}" if is_left else f"{mean:.2f} {name}",
            ha="right" if is_left else "left", va="center", fontsize=SMALLEST,
            fontweight="bold" if label == study.baseline else "normal",
        )  # fmt: skip
