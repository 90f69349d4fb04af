"""What each factor, and each pair of factors, is worth: effects with intervals, and the means behind interactions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ablate.analysis.columns import accuracy_text, cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.component_effects import StudyEffects, effects_of
from ablate.analysis.factor_effects import analyses_of
from ablate.analysis.phrases import minus
from ablate.analysis.variant_row import Row
from ablate.analysis.variants import studies_of
from ablate.report.figures.lettering import in_legend, written
from ablate.report.figures.rows import LEFT, Line, canvas, distance, shortened
from ablate.report.figures.style import (
    BASELINE,
    DASHES,
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
from ablate.statistics.factorial_model import BASELINE as BASELINE_MODULE
from ablate.statistics.factorial_model import FactorAnalysis
from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, LEVEL

RIGHT = 2.3  # inches for the numbers
MOST = 36  # lines
PANELS = 3
PRESENT = ("without", "with")  # what a panel calls the settings of a component
LEVELS = 10  # of a factor that a panel can hold


class Item(NamedTuple):
    """One effect as it is drawn; an empty `name` makes a head of `title`."""

    title: str
    name: str = ""
    estimate: float = np.nan
    interval: Interval | None = None
    p_holm: float | None = None
    supported: bool = False
    crossed: bool = False


def factor_effects(comparison: Comparison) -> Drawing | None:
    """Main effects and interactions of the factors, or of the components of a study, with their intervals.

    None where the design was refused or has no factors: the findings have the reason.
    """
    analyses = [analysis for analysis in analyses_of(comparison) if not analysis.refusal and analysis.effects]
    studies = effects_of(comparison)
    items = [*_of_factors(analyses), *_of_components(studies)]
    if not any(item.name for item in items):
        return None
    total = sum(bool(item.name) for item in items)
    items = items[: MOST + 4]
    while not items[-1].name:
        items.pop()
    shown = [item for item in items if item.name]
    with mpl.rc_context(SETTINGS):
        figure = _figure(items, comparison)
        fix_layout(figure)
    parts = []
    if analyses:
        parts.append("Main effect: mean of a level over all levels of the other factors, minus the overall mean.")
        if any(item.crossed for item in shown):
            parts.append("Interaction (hollow): what a pair of levels adds to the sum of its main effects.")
        parts += [f"{analysis.note.capitalize()}." for analysis in analyses if analysis.note]
    else:
        parts.append(
            "Effect of a component: all components minus all but this one."
            if studies[0].is_removal
            else "Effect of a component: with it minus without it, mean over the settings of the other components."
        )
        if any(item.crossed for item in shown):
            parts.append(
                "Interaction (hollow): what two components give together beyond the sum of what each adds alone."
            )
    if any(item.interval is not None for item in shown):
        parts.append(f"Bars: {100 * LEVEL:.0f}% CI over {comparison.units}, each for one effect.")
    if any(item.supported for item in shown):
        parts.append(f"*: significant, p < {ALPHA:g} after Holm correction.")
    parts.append(f"The first {len(shown)} of {total} effects are shown." if len(shown) < total else "")
    rows = [row for row in comparison.rows if not row.is_control and row.accuracy.primary is not None]
    alt = in_words((item.name, item.estimate, item.interval) for item in shown)
    return Drawing(figure, paragraph(parts), tuple(row.key for row in rows), alt=f"Effects. {alt}")


class Panel(NamedTuple):
    """Two factors, or two components, with the mean accuracy of each pair of their levels.

    `first` is drawn along the axis, each level of `second` is a line. `where` tells the analysis from others.
    """

    where: str
    first: str
    second: str
    levels: tuple[Sequence[str], Sequence[str]]
    means: dict[tuple[str, str], float]
    keys: tuple[str, ...]


def interactions(comparison: Comparison) -> Drawing | None:
    """Means of pairs of levels, one panel for each two factors: parallel lines are factors that do not interact.

    Pairs with a supported interaction come first, then those with the largest.
    """
    panels = [*_panels_of_factors(comparison), *_panels_of_components(comparison)]
    if not panels:
        return None
    shown = panels[:PANELS]
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(TWO_COLUMNS, 3.2), layout="constrained")
        several = len({panel.where for panel in panels}) > 1
        for position, panel in enumerate(shown, start=1):
            axes = figure.add_subplot(1, len(shown), position)
            _draw_panel(axes, panel, comparison.metric.label)
            if several:
                axes.set_xlabel(written(f"{panel.first} ({panel.where})"))
        fix_layout(figure)
    noun = "factor" if comparison.sweep.design is None else "component"
    unit, over = comparison.units.removesuffix("s"), comparison.averaged_over
    settings = "the levels of other factors" if noun == "factor" else "the settings of other components"
    parts = [
        f"Mean {comparison.metric.label} of each pair of levels over {over} and {settings}. Parallel lines: no "
        f"interaction as measured. Lines that converge or cross: the effect of one {noun} depends on the other, as "
        f"measured. Whether that is more than {unit}-to-{unit} variance is shown by the CIs of the interactions.",
        f"The first {len(shown)} of {len(panels)} pairs of {noun}s are shown." if len(shown) < len(panels) else "",
    ]
    keys = dict.fromkeys(key for panel in shown for key in panel.keys)
    return Drawing(figure, paragraph(parts), tuple(keys))


def _panels_of_factors(comparison: Comparison) -> list[Panel]:
    """A panel for each two factors of each analysis."""
    panels: list[tuple[tuple[bool, float], Panel]] = []
    for analysis in analyses_of(comparison):
        if analysis.refusal or not analysis.interactions:
            continue
        rows = _rows_of(comparison, analysis)
        names = sorted(analysis.levels, key=lambda name, levels=analysis.levels: -len(levels[name]))  # type: ignore[misc]
        for first, second in combinations(names, 2):
            levels = analysis.levels[first], analysis.levels[second]
            if len(levels[1]) > LEVELS or len(levels[0]) > 2 * LEVELS:
                continue
            pairs: dict[tuple[str, str], list[float]] = {}
            for row in rows:
                if row.accuracy.primary is not None:
                    pair = row.variant.factors[first], row.variant.factors[second]
                    pairs.setdefault(pair, []).append(row.accuracy.primary)
            crossed = [e for e in analysis.interactions if set(e.term.split(" x ")) == {first, second}]
            rank = not any(e.supported for e in crossed), -max((abs(e.interval.estimate) for e in crossed), default=0.0)
            means = {pair: fmean(accuracies) for pair, accuracies in pairs.items()}
            where = f"{analysis.model}, {analysis.data}"
            panels.append((rank, Panel(where, first, second, levels, means, tuple(row.key for row in rows))))
    return [panel for _, panel in sorted(panels, key=lambda one: one[0])]


def _panels_of_components(comparison: Comparison) -> list[Panel]:
    """A panel for each two components of a factorial."""
    design = comparison.sweep.design
    if design is None or design.name != "factorial":
        return []
    fair = {row.key for row in comparison.rows if row.takes_part}
    panels: list[tuple[tuple[bool, float], Panel]] = []
    members = studies_of(comparison.variants, design)
    for study, (variants, title) in zip(effects_of(comparison), members, strict=True):
        measured = [v for v in variants if v.marks is not None and v.accuracy() and v.key in fair]
        for one in study.interactions:
            places = [design.components.index(name) for name in one.components]
            pairs: dict[tuple[str, str], list[float]] = {}
            for variant in measured:
                first, second = (PRESENT[(variant.marks or ())[place]] for place in places)
                shared = [accuracy for each, accuracy in variant.accuracy().items() if each in one.replicates]
                if shared:
                    pairs.setdefault((first, second), []).append(fmean(shared))
            means = {pair: fmean(accuracies) for pair, accuracies in pairs.items()}
            panel = Panel(title, *one.components, (PRESENT, PRESENT), means, tuple(v.key for v in measured))
            panels.append(((not one.supported, -abs(one.value.mean)), panel))
    return [panel for _, panel in sorted(panels, key=lambda one: one[0])]


def _of_factors(analyses: Sequence[FactorAnalysis]) -> list[Item]:
    items = []
    for analysis in analyses:
        where = f"{analysis.model}, {analysis.data}: " if len(analyses) > 1 else ""
        for effects, crossed in ((analysis.effects, False), (analysis.interactions, True)):
            for term in dict.fromkeys(effect.term for effect in effects):
                items.append(Item(f"{where}{'interaction ' if crossed else ''}{term}"))
                items += [
                    Item(term, e.level, e.interval.estimate, e.interval, e.p_value, e.supported, crossed)
                    for e in effects
                    if e.term == term
                ]
    return items


def _of_components(studies: Sequence[StudyEffects]) -> list[Item]:
    items = []
    for number, study in enumerate(studies, start=1):
        effects = [effect for effect in study.effects if effect.mean is not None]
        if effects:
            items.append(Item(f"components, study {number}" if len(studies) > 1 else "components"))
        items += [Item("", e.component, e.mean or 0.0, e.interval, e.p_holm, e.supported) for e in effects]
        crossed = study.interactions
        items += [Item("interactions")] if crossed else []
        items += [
            Item(
                "interactions",
                " x ".join(one.components),
                one.value.mean,
                one.value.interval,
                one.p_holm,
                one.supported,
                True,
            )
            for one in crossed
        ]
    return items


def _figure(items: Sequence[Item], comparison: Comparison) -> Figure:
    """A line for each effect under the head of its term, with its numbers."""
    lines: list[Line] = []
    for item in items:
        name = shortened(written(item.name))
        y = lines[-1].y + distance(lines[-1], name) + (0.0 if name else 0.6) if lines else 0.0
        lines.append(Line(y, name=name) if name else Line(y, title=item.title))
    figure, axes = canvas(lines, right=RIGHT, below=0.45)
    inch = 1 / (TWO_COLUMNS - LEFT - RIGHT)
    estimate, interval, p_value = 1 + 0.54 * inch, 1 + 0.64 * inch, 1 + 1.74 * inch
    across = axes.get_yaxis_transform()

    def write(x: float, line: Line, text: str, weight: str = "normal") -> None:
        axes.text(
            x, line.y, minus(text), transform=across, ha="right" if x == estimate else "left", va="center",
            fontsize=SMALLEST, fontweight=weight,
        )  # fmt: skip

    for x, text in (
        (estimate, "effect"),
        (interval, f"{100 * LEVEL:.0f}% CI ({comparison.units})"),
        (p_value, "p (Holm)"),
    ):
        write(x, lines[0], text, "bold")
    axes.axvline(0, color="black", linewidth=0.9, zorder=1)
    terms = list(dict.fromkeys(item.title for item in items if item.name))
    for line, item in zip(lines, items, strict=True):
        if not item.name:
            continue
        index = terms.index(item.title)
        color, marker = PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)]
        ends = (item.interval.low, item.interval.high) if item.interval else (np.nan, np.nan)
        axes.plot(ends, [line.y] * 2, color=color, linewidth=2.2, zorder=2, solid_capstyle="butt")
        axes.plot(item.estimate, line.y, marker, color=color, markersize=6, zorder=3,
                  markerfacecolor="white" if item.crossed else color)  # fmt: skip
        write(estimate, line, accuracy_text(item.estimate, signed=True))
        if item.interval is not None:
            write(interval, line, cell("delta_ci", item.interval, signed=True))
        if item.p_holm is not None:
            write(p_value, line, f"{cell('p_holm', item.p_holm)}{'*' if item.supported else ''}")
    axes.set_xlabel(f"effect on {comparison.metric.label}; further right is more accurate")
    return figure


def _rows_of(comparison: Comparison, analysis: FactorAnalysis) -> list[Row]:
    """The rows of the table that an analysis rests on, in its order; see `statistics.factorial_model`."""
    rows = [
        row for row in comparison.rows if (row.model, row.data) == (analysis.model, analysis.data) and row.takes_part
    ]
    grafted = [row for row in rows if row.module != BASELINE_MODULE]
    return rows if not grafted or BASELINE_MODULE in analysis.levels.get("module", []) else grafted


def _draw_panel(axes: Axes, panel: Panel, accuracy: str) -> None:
    """A line for each level of the second factor over the levels of the first."""
    levels, lines = panel.levels
    for index, level in enumerate(lines):
        axes.plot(
            range(len(levels)),
            [panel.means.get((one, level), np.nan) for one in levels],
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
    axes.set(xlabel=panel.first, ylabel=accuracy)
    broad = max(map(len, lines)) >= 12
    axes.legend(
        title=panel.second, title_fontsize=7.5, handlelength=3.4, columnspacing=1.2, loc="lower center",
        bbox_to_anchor=(0.5, 1.0), ncols=1 if broad else 2,
    )  # fmt: skip
