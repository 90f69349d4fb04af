"""What each factor, and each pair of factors, is worth: effects with intervals, and the means behind interactions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.analysis.component_effects import effects_of
from ablate.analysis.number_format import cell
from ablate.analysis.phrases import minus
from ablate.findings.factor_findings import analyses_of
from ablate.records.records import Sweep
from ablate.report.figures.lettering import in_legend
from ablate.report.figures.rows import LEFT, Line, canvas
from ablate.report.figures.style import (
    BASELINE,
    DASHES,
    MARKERS,
    ONE_COLUMN,
    PALETTE,
    SETTINGS,
    SMALLEST,
    TWO_COLUMNS,
    Drawing,
    is_control,
    said,
    settle,
)
from ablate.statistics.factorial_model import FactorAnalysis
from ablate.statistics.paired import ALPHA, LEVEL

RIGHT = 2.3  # inches for the numbers
MOST = 36  # lines
PANELS = 3
LEVELS = 10  # of a factor that a panel can hold


class Item(NamedTuple):
    """One effect as it is drawn; an empty `name` makes a head of `title`."""

    title: str
    name: str = ""
    estimate: float = np.nan
    low: float = np.nan
    high: float = np.nan
    p_value: float | None = None
    crossed: bool = False


def factor_effects(sweep: Sweep, table: pd.DataFrame) -> Drawing | None:
    """Main effects and interactions of the factors, or of the components of a study, with their intervals.

    None where the design was refused or has no factors: the findings say why.
    """
    analyses = [found for found in analyses_of(sweep, table) if not found.refusal and found.effects]
    items = [*_of_factors(analyses), *_of_components(sweep)]
    if not any(item.name for item in items):
        return None
    total = sum(bool(item.name) for item in items)
    items = items[: MOST + 4]
    while not items[-1].name:
        items.pop()
    shown = [item for item in items if item.name]
    with mpl.rc_context(SETTINGS):
        figure = _figure(items)
        settle(figure)
    parts = []
    if analyses:
        parts.append(
            "Main effects: how far the mean of a level, over all levels of the other factors, lies from the mean of "
            "all. Interactions (hollow): what a pair of levels gives beyond the sum of its main effects."
        )
        parts += [f"{found.note.capitalize()}." for found in analyses if found.note]
    if len(items) and not analyses:
        leaving = sweep.design is not None and sweep.design.name == "leave_one_out"
        parts.append(
            "What each component adds: all components against all but this one."
            if leaving
            else "What each component adds: the mean difference over the settings of the other components."
        )
    parts.append(f"Bars: {100 * LEVEL:.0f} % interval over seeds. *: p below {ALPHA:g} after Holm's correction.")
    parts.append(f"The first {len(shown)} of {total} effects are shown." if len(shown) < total else "")
    fair = table[~is_control(table) & table["map50_95"].notna()]
    return Drawing(figure, said(parts), tuple(fair["variant_key"]))


def interactions(sweep: Sweep, table: pd.DataFrame) -> Drawing | None:
    """Means of pairs of levels, one panel for each two factors: parallel lines are factors that do not interact."""
    panels = []
    for found in analyses_of(sweep, table):
        if not found.refusal and found.interactions:
            rows = _cells(table, found)
            names = sorted(found.levels, key=lambda name: -len(found.levels[name]))
            for first, second in ((a, b) for i, a in enumerate(names) for b in names[i + 1 :]):
                if len(found.levels[second]) <= LEVELS and len(found.levels[first]) <= 2 * LEVELS:
                    panels.append((found, rows, first, second))
    if not panels:
        return None
    shown = panels[:PANELS]
    with mpl.rc_context(SETTINGS):
        width = ONE_COLUMN if len(shown) == 1 else TWO_COLUMNS
        figure = Figure(figsize=(width, 3.2), layout="constrained")
        for position, (found, rows, first, second) in enumerate(shown, start=1):
            axes = figure.add_subplot(1, len(shown), position)
            _panel(axes, rows, found, first, second)
            several = len({(f.model, f.data) for f, *_ in panels}) > 1
            if several:
                axes.set_xlabel(f"{first} ({found.model}, {found.data})")
        settle(figure)
    parts = [
        "Mean mAP50-95 of each pair of levels, over seeds and the levels of other factors. Parallel lines: no "
        "interaction; lines that come together or cross: the effect of one factor depends on the other. Whether more "
        "than chance is at work the intervals of the interactions tell.",
        f"The first {len(shown)} of {len(panels)} pairs of factors are shown." if len(shown) < len(panels) else "",
    ]
    keys = dict.fromkeys(key for _, rows, *_ in shown for key in rows["variant_key"])
    return Drawing(figure, said(parts), tuple(keys))


def _of_factors(analyses: Sequence[FactorAnalysis]) -> list[Item]:
    items = []
    for found in analyses:
        where = f"{found.model}, {found.data}: " if len(analyses) > 1 else ""
        for effects, crossed in ((found.effects, False), (found.interactions, True)):
            for term in dict.fromkeys(effect.term for effect in effects):
                items.append(Item(f"{where}{'interaction ' if crossed else ''}{term}"))
                items += [
                    Item(term, effect.level, effect.estimate, effect.low, effect.high, effect.p_value, crossed)
                    for effect in effects
                    if effect.term == term
                ]
    return items


def _of_components(sweep: Sweep) -> list[Item]:
    items = []
    studies = effects_of(sweep)
    for number, effects in enumerate(studies, start=1):
        known = [effect for effect in effects if effect.mean is not None]
        if known:
            items.append(Item(f"components, study {number}" if len(studies) > 1 else "components"))
        for effect in known:
            low, high = (effect.interval.low, effect.interval.high) if effect.interval else (np.nan, np.nan)
            items.append(Item("", effect.component, effect.mean or 0.0, low, high, effect.p_value))
    return items


def _figure(items: Sequence[Item]) -> Figure:
    """A line for each effect under the head of its term, with its numbers."""
    lines, y = [], 0.0
    for index, item in enumerate(items):
        if not item.name and index:
            y += 0.6
        lines.append(Line(y, title=item.title) if not item.name else Line(y, row={"variant": item.name}))
        y += 1.0
    figure, axes = canvas(lines, right=RIGHT, below=0.45)
    inch = 1 / (TWO_COLUMNS - LEFT - RIGHT)
    places = [1 + 0.12 * inch, 1 + 0.62 * inch, 1 + 1.72 * inch]
    across = axes.get_yaxis_transform()

    def write(x: float, line: Line, text: str, weight: str = "normal") -> None:
        axes.text(x, line.y, minus(text), transform=across, va="center", fontsize=SMALLEST, fontweight=weight)

    for x, text in zip(places, ("effect", f"{100 * LEVEL:.0f} % CI (seeds)", "p (Holm)"), strict=True):
        write(x, lines[0], text, "bold")
    axes.axvline(0, color="black", linewidth=0.9, zorder=1)
    terms = list(dict.fromkeys(item.title for item in items if item.name))
    for line, item in zip(lines, items, strict=True):
        if not item.name:
            continue
        index = terms.index(item.title)
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        axes.plot([item.low, item.high], [line.y] * 2, color=color, linewidth=2.2, zorder=2, solid_capstyle="butt")
        axes.plot(item.estimate, line.y, marker, color=color, markersize=6, zorder=3,
                  markerfacecolor="white" if item.crossed else color)  # fmt: skip
        write(places[0], line, cell("delta_map50_95", item.estimate, signed=True))
        if item.low == item.low:
            ends = [cell("delta_ci_low", end, signed=True) for end in (item.low, item.high)]
            write(places[1], line, f"[{ends[0]}, {ends[1]}]")
        if item.p_value is not None:
            write(places[2], line, f"{cell('p_holm', item.p_value)}{'*' if item.p_value < ALPHA else ''}")
    axes.set_xlabel("effect on mAP50-95")
    return figure


def _cells(table: pd.DataFrame, found: FactorAnalysis) -> pd.DataFrame:
    """The rows of the table that an analysis rests on."""
    kept = (table["model"] == found.model) & (table["data"] == found.data) & (table["module"] != "none")
    return table[kept & ~is_control(table) & (table["comparable"] == "yes") & table["map50_95"].notna()]


def _panel(axes: Axes, rows: pd.DataFrame, found: FactorAnalysis, first: str, second: str) -> None:
    """A line for each level of the second factor over the levels of the first."""
    levels = found.levels[first]
    means = rows.pivot_table(index=first, columns=second, values="map50_95", aggfunc="mean").reindex(levels)
    for index, level in enumerate(found.levels[second]):
        axes.plot(
            range(len(levels)),
            means[level],
            color=[BASELINE, *PALETTE][index % (1 + len(PALETTE))],
            marker=MARKERS[index % len(MARKERS)],
            linestyle=DASHES[index % len(DASHES)],
            linewidth=1.4,
            markersize=5,
            markerfacecolor="white",
            label=in_legend(level),
        )
    axes.set_xticks(range(len(levels)), levels)
    if len(levels) > 4 or max(map(len, levels)) > 9:
        axes.tick_params(axis="x", labelrotation=90)
    axes.margins(x=0.12)
    axes.set(xlabel=first, ylabel="mAP50-95")
    broad = max(map(len, found.levels[second])) >= 12
    axes.legend(
        title=second, title_fontsize=7.5, handlelength=3.4, columnspacing=1.2, loc="lower center",
        bbox_to_anchor=(0.5, 1.0), ncols=1 if broad else 2,
    )  # fmt: skip
