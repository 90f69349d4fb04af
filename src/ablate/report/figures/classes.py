"""Per-class heat map: where a variant gains, and where it loses."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from ablate.analysis.phrases import minus
from ablate.analysis.table import rows_of
from ablate.analysis.variants import is_measured, variant_key
from ablate.records.class_names import ClassName, recorded_classes
from ablate.records.records import Record, Sweep, number, sequence
from ablate.report.figures.lettering import written, written_class
from ablate.report.figures.style import (
    DIVERGING,
    ONE_COLUMN,
    SETTINGS,
    SMALLEST,
    TWO_COLUMNS,
    Drawing,
    flags,
    foremost,
    ink,
    is_control,
    names_of,
    references,
    said,
    settle,
)
from ablate.statistics.paired import paired_differences

CLASSES = 25  # of a readable figure
VARIANTS = 10
CELL = 0.5, 0.22  # inches

Accuracy = dict[ClassName, dict[int, float]]  # class -> seed -> AP50-95


def class_heat_map(sweep: Sweep, rows: pd.DataFrame) -> Drawing | None:
    """Classes (lines) by variants (columns): the baseline's AP50-95, and differences to it.

    Args:
        sweep: What `load_sweep` read.
        rows: Rows of one comparison group of the comparison table.

    Returns:
        A drawing, or None where no class of the baseline and of a variant was recorded with the same seed.
    """
    found = class_accuracy(sweep, rows)
    differences = class_differences(found, rows)
    base = rows.loc[references(rows), "variant"]
    if differences.empty or base.empty:
        return None
    kept = foremost(rows[references(rows) | rows["variant"].isin(differences.columns)], VARIANTS + 1)
    shown = differences[[label for label in kept["variant"] if label in differences.columns]]
    strongest = shown.abs().max(axis=1).sort_values(ascending=False, kind="stable").index[:CLASSES]
    shown = shown.loc[[name for name in shown.index if name in set(strongest)]]
    base_accuracy = found[base.iloc[0]]
    before = pd.Series([float(np.mean(list(base_accuracy[name].values()))) for name in shown.index], index=shown.index)
    controls = dict(zip(rows["variant"], is_control(rows), strict=True))
    names = names_of(rows)
    with mpl.rc_context({**SETTINGS, "axes.grid": False}):
        figure = _figure(before, shown, base.iloc[0], _instances(sweep, rows), controls, names)
        settle(figure)
    parts = [
        "First column: the baseline's AP50-95 in points (100 is perfect), the mean over seeds. The others: variant "
        "minus baseline in points, the mean over the seeds that both have. Blue is better than the baseline, orange "
        "worse, and every cell says its number. In parentheses: true objects of the class.",
        "Single cells are not tested: of so many some are large by chance.",
    ]
    if len(shown) < len(differences):
        parts.append(f"The {len(shown)} of {len(differences)} classes that differ most are shown.")
    if len(shown.columns) < len(differences.columns):
        parts.append(
            f"The first {len(shown.columns)} of {len(differences.columns)} variants by size of the difference are "
            "shown."
        )
    drawn = rows[rows["variant"].isin([base.iloc[0], *shown.columns])]
    parts.append(flags(drawn))
    return Drawing(figure, said(parts), tuple(drawn["variant_key"]))


def class_accuracy(sweep: Sweep, rows: pd.DataFrame) -> dict[str, Accuracy]:
    """Variant label -> class -> seed -> AP50-95, of the trials that were measured."""
    labels = dict(zip(rows["variant_key"], rows["variant"], strict=True))
    found: dict[str, Accuracy] = {}
    for record in sweep.records:
        label, seed = labels.get(variant_key(record)), record.get("seed")
        if label is None or not isinstance(seed, int) or not is_measured(record):
            continue
        for name, entry in zip(recorded_classes(record), sequence(record, "per_class"), strict=True):
            accuracy = number(entry, "map50_95")
            if accuracy is not None:
                found.setdefault(label, {}).setdefault(name, {})[seed] = accuracy
    return found


def class_differences(found: dict[str, Accuracy], rows: pd.DataFrame) -> pd.DataFrame:
    """Mean paired difference to the baseline, shape (classes, variants); NaN where there is no shared seed.

    Its index holds `ClassName`s: classes are the same where their index and their name are.
    """
    base = next(iter(rows.loc[references(rows), "variant"]), None)
    theirs = found.get(str(base), {})
    columns = {}
    for row in rows_of(rows):
        mine = found.get(row["variant"], {})
        if row["variant"] == base or not mine:
            continue
        paired = {name: paired_differences(mine.get(name, {}), accuracy)[1] for name, accuracy in theirs.items()}
        columns[row["variant"]] = {name: float(np.mean(d)) if d else np.nan for name, d in paired.items()}
    table = pd.DataFrame(
        {label: [values[name] for name in theirs] for label, values in columns.items()},
        index=pd.Index(list(theirs), dtype="object"),
        dtype="float64",
    )
    return table.dropna(how="all").dropna(how="all", axis=1)


def _instances(sweep: Sweep, rows: pd.DataFrame) -> dict[ClassName, int]:
    """Class -> how many true objects it has in the images that the accuracy was measured on."""
    keys = set(rows["variant_key"])
    for record in sweep.records:
        if variant_key(record) in keys and is_measured(record):
            counts = _counts(record)
            if counts:
                return counts
    return {}


def _counts(record: Record) -> dict[ClassName, int]:
    return {
        name: int(count)
        for name, entry in zip(recorded_classes(record), sequence(record, "per_class"), strict=True)
        if (count := number(entry, "instances")) is not None
    }


def _figure(
    before: pd.Series,
    shown: pd.DataFrame,
    base: str,
    instances: dict[ClassName, int],
    controls: dict[str, bool],
    labels: dict[str, str],
) -> Figure:
    """The baseline's column, and beside it those of the variants with a colour bar."""
    names = [_wrapped(label, labels[label], 18) for label in shown.columns]
    names = [f"({name})" if controls[label] else name for name, label in zip(names, shown.columns, strict=True)]
    limit = 100 * float(np.nanmax(shown.abs().to_numpy())) or 1.0
    lines = [_class_name(name, instances) for name in before.index]
    margin = 0.15 + 0.062 * max(len(line) for line in lines)
    slanted = len(names) > 4 or max(len(line) for name in names for line in name.split("\n")) > 14
    above = 0.95 if slanted else 0.5
    wanted = margin + CELL[0] * (len(names) + 1.5) + (0.7 if slanted else 0.1)
    width = ONE_COLUMN if wanted <= ONE_COLUMN else TWO_COLUMNS
    cell = (width - margin - (0.7 if slanted else 0.1)) / (len(names) + 1.15)
    tall = CELL[1] * len(shown)
    total = tall + above + 0.62
    figure = Figure(figsize=(width, total))
    left = figure.add_axes((margin / width, 0.62 / total, cell / width, tall / total))
    right = figure.add_axes(((margin + 1.15 * cell) / width, 0.62 / total, cell * len(names) / width, tall / total))
    scale = figure.add_axes((margin / width, 0.46 / total, (width - margin - 0.7) / width, 0.07 / total))
    plain = left.imshow(100 * before.to_numpy()[:, None], aspect="auto", cmap="Greys", vmin=0, vmax=200)
    _write(
        left,
        100 * before.to_numpy()[:, None],
        "{:.1f}",
        np.asarray(plain.cmap(plain.norm(100 * before.to_numpy()[:, None]))),
    )
    norm = TwoSlopeNorm(0.0, -limit, limit)
    points = 100 * shown.to_numpy()
    drawn = right.imshow(points, aspect="auto", cmap=DIVERGING, norm=norm)
    _write(right, points, "{:+.1f}", np.asarray(drawn.cmap(norm(points))))
    left.set_yticks(range(len(before)), lines)
    _heads(left, ["\n".join(textwrap.wrap(f"{labels[base]} (AP)", 14))], slanted=slanted)
    _heads(right, names, slanted=slanted)
    right.set_yticks([])
    bar = figure.colorbar(drawn, cax=scale, orientation="horizontal")
    bar.set_label("difference in AP50-95 to the baseline (points)")
    bar.outline.set_linewidth(0.5)
    return figure


def _write(axes: Axes, numbers: np.ndarray, form: str, grounds: np.ndarray) -> None:
    """Numbers in the cells, in an ink that can be read on the cell's colour, (lines, columns, 4)."""
    for (line, column), found in np.ndenumerate(numbers):
        nothing = abs(found) < 0.05  # neither +0.0 nor -0.0
        text = "\N{EN DASH}" if found != found else "0.0" if nothing else minus(form.format(found))
        color = ink(grounds[line, column][:3]) if found == found else "black"
        axes.text(column, line, text, ha="center", va="center", fontsize=SMALLEST, color=color)


def _wrapped(label: str, drawn: str, width: int) -> str:
    """A variant's name in three lines; a dagger survives what is cut off."""
    plain = written(label)
    return "\n".join(textwrap.wrap(plain, width, max_lines=3, placeholder=" ...")) + drawn.removeprefix(plain)


def _heads(axes: Axes, names: Sequence[str], *, slanted: bool) -> None:
    options: dict[str, Any] = {"rotation": 40, "ha": "left", "rotation_mode": "anchor"} if slanted else {}
    axes.xaxis.tick_top()
    axes.set_xticks(range(len(names)), names, fontsize=SMALLEST, **options)
    axes.tick_params(axis="both", length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _class_name(name: ClassName, instances: dict[ClassName, int]) -> str:
    text = written_class(name, 24)
    return f"{text} ({instances[name]})" if name in instances else text
