"""How all figures look: readable in black and white, by colour-blind readers, and in print at their own size.

No pyplot: no window, no global state. Colours are those of Okabe and Ito (2008, jfly.uni-koeln.de/color), and each
comes with its own marker and line. Widths are those of one and two columns of a paper, and no text is below 7 points.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from ablate.analysis.number_format import group_title
from ablate.analysis.table import baselines, rows_of
from ablate.report.figures.lettering import make_drawable, written

ONE_COLUMN, TWO_COLUMNS = 3.5, 7.16  # inches
SMALLEST = 7.0  # points
BASELINE = "#000000"
CONTROL = "#767676"
DAGGER = " †"  # behind the name of what may not be compared with its baseline
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (7, 2, 1, 2, 1, 2)))
DIVERGING = LinearSegmentedColormap.from_list("ablate", ["#8a3d00", "#D55E00", "#ffffff", "#0072B2", "#00426b"])
SETTINGS: dict[Any, Any] = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.5,
    "svg.fonttype": "path",
    "svg.hashsalt": "ablate",
    "pdf.fonttype": 42,  # whole outlines: journals refuse the bitmap-like type 3
    "figure.facecolor": "white",
    "axes.titlelocation": "left",
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
}
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


@dataclass(frozen=True)
class Drawing:
    """A figure, and what is to be said of it.

    Attributes:
        figure: What to show.
        caption: What is drawn, what bars and bands cover, and what was left out.
        rows: Keys of the variants that it draws.
        counts: A small table of text that belongs beneath.
    """

    figure: Figure
    caption: str
    rows: tuple[str, ...] = ()
    counts: pd.DataFrame | None = None


class Style(NamedTuple):
    """How one variant is drawn in every figure."""

    color: str
    marker: str
    dashes: Any


def styles(table: pd.DataFrame) -> dict[str, Style]:
    """Variant label -> style: a colour per module, a marker and line per module and place; controls are grey.

    The same module at the same place looks the same in every comparison group.
    """
    drawn: dict[tuple[str, str, int], Style] = {}
    found = {}
    reference, controls = references(table), is_control(table)
    modules = list(dict.fromkeys(table.loc[~reference & ~controls, "module"]))
    occurrences = table.groupby(["comparison_key", "module", "insertion"], sort=False).cumcount()
    for occurrence, baseline, control, row in zip(occurrences, reference, controls, rows_of(table), strict=True):
        if baseline:
            found[row["variant"]] = Style(BASELINE, "o", "-")
            continue
        color = CONTROL if control else PALETTE[modules.index(row["module"]) % len(PALETTE)]
        index = len(drawn) + 1
        style = Style(color, MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])
        found[row["variant"]] = drawn.setdefault((row["module"], row["insertion"], int(occurrence)), style)
    return found


def optional(table: pd.DataFrame, name: str) -> pd.Series:
    """A column of numbers of a comparison table; NaN where the table has none of that name."""
    return table[name] if name in table.columns else pd.Series(float("nan"), index=table.index, name=name)


def is_control(table: pd.DataFrame) -> pd.Series:
    """For each row of a comparison table whether it is a control, shape (rows,)."""
    if "control" not in table.columns:
        return pd.Series(False, index=table.index)
    return table["control"].fillna("").astype(str) != ""


def references(table: pd.DataFrame) -> pd.Series:
    """For each row of a comparison table whether others are compared with it, shape (rows,)."""
    return baselines(table) & ~is_control(table)


def is_flagged(table: pd.DataFrame) -> pd.Series:
    """For each row of a comparison table whether it may not be compared with its baseline, shape (rows,)."""
    if "comparable" not in table.columns:
        return pd.Series(False, index=table.index)
    return table["comparable"] != "yes"


def named(row: Mapping[str, Any]) -> str:
    """A variant's name as figures write it: with a dagger where it may not be compared with its baseline."""
    name = written(str(row["variant"]))
    return f"{name}{DAGGER}" if row.get("comparable", "yes") != "yes" else name


def names_of(rows: pd.DataFrame) -> dict[str, str]:
    """Variant -> its name as figures write it."""
    return {row["variant"]: named(row) for row in rows_of(rows)}


def flags(rows: pd.DataFrame) -> str:
    """What a caption says of the daggers on these rows; nothing where there are none."""
    return f"{DAGGER.strip()}: not comparable with its baseline; the notes say why." if is_flagged(rows).any() else ""


def groups_of(table: pd.DataFrame) -> list[pd.DataFrame]:
    """The rows of each comparison group, in the table's order."""
    return [rows for _, rows in table.groupby("comparison_key", sort=False)]


def title_of(rows: pd.DataFrame) -> str:
    """What the rows of a comparison group share; what a control differs in by design is no matter."""
    controls = is_control(rows)
    return group_title(rows if controls.all() else rows[~controls])


def foremost(rows: pd.DataFrame, most: int) -> pd.DataFrame:
    """At most so many rows of a comparison group, in their order: the baseline and the largest differences to it."""
    if len(rows) <= most:
        return rows
    size = rows["delta_map50_95"].abs().fillna(-1.0).where(~references(rows), float("inf"))
    kept = size.sort_values(ascending=False, kind="stable").index[:most]
    return rows.loc[rows.index.isin(kept)]


def left_out(shown: int, total: int, what: str, how: str = "by size of the difference") -> str:
    """Words for a limit, such as 'The first 30 of 100 variants by size of the difference are shown.'."""
    return f" The first {shown} of {total} {what} {how} are shown." if shown < total else ""


def ink(ground: Any) -> str:
    """Black or white, whichever can be read better on a colour: by WCAG's contrast, at least 4.58 to 1 for any."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(ground)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def said(parts: Iterable[str]) -> str:
    """Sentences as one paragraph."""
    return " ".join(part.strip() for part in parts if part.strip())


def settle(figure: Figure) -> None:
    """Lay a figure out once and for all, so that each time it is drawn it looks the same."""
    FigureCanvasAgg(figure)
    make_drawable(figure)
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")


def encode(figure: Figure, kind: str, *, dpi: int = 160) -> bytes:
    """A figure as a file of kind 'png', 'svg', 'pdf' or 'jpg'; the same figure gives the same bytes."""
    stream = io.BytesIO()
    with mpl.rc_context(SETTINGS):
        figure.savefig(stream, format=kind, dpi=dpi, metadata=METADATA.get(kind))
    return stream.getvalue()


def texts_of(figure: Figure) -> Iterator[Any]:
    """All texts of a figure that are shown and say something."""
    from matplotlib.text import Text

    for artist in figure.findobj(Text):
        if artist.get_visible() and artist.get_text().strip():
            yield artist
