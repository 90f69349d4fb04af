"""How all figures look: readable in black and white, by colour-blind readers, and in print at their own size.

No pyplot: no window, no global state. Colours are those of Okabe and Ito (2008, jfly.uni-koeln.de/color), and each
comes with its own marker and line. Figures are as wide as two columns of a paper, and no text is below 7 points.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from ablate.analysis.comparison import Comparison
from ablate.analysis.variant_row import Row
from ablate.records.factor_levels import STOCK
from ablate.report.figures.lettering import make_drawable, written
from ablate.statistics.interval import Interval

TWO_COLUMNS = 7.16  # inches: the width of every figure, so that all of a page are equally wide
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
class CountTable:
    """A small table of text beneath a figure."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Drawing:
    """A figure with its caption.

    Attributes:
        figure: What to show.
        caption: What is drawn, what bars and bands cover, and what was left out.
        rows: Keys of the variants that it draws.
        counts: A small table that belongs beneath.
        alt: What it shows, for who does not see it; empty: its title.
    """

    figure: Figure
    caption: str
    rows: tuple[str, ...] = ()
    counts: CountTable | None = None
    alt: str = ""


class Style(NamedTuple):
    """How one variant is drawn in every figure."""

    color: str
    marker: str
    dashes: Any


def styles(comparison: Comparison) -> dict[str, Style]:
    """Variant label -> style: a colour per module (or loss), a marker and line per module and place; controls grey.

    The same module at the same place looks the same in every comparison group.
    """
    drawn: dict[tuple[str, str, str, int], Style] = {}
    by_label = {}
    changes = list(dict.fromkeys(_change(r) for r in comparison.rows if not r.is_baseline and not r.is_control))
    for group in comparison.groups:
        occurrences: Counter[tuple[str, str, str]] = Counter()
        for row in group.rows:
            place = row.module, row.insertion, _beside_modules(row)
            occurrence = occurrences[place]
            occurrences[place] += 1
            if row.is_baseline:
                by_label[row.label] = Style(BASELINE, "o", "-")
                continue
            color = CONTROL if row.is_control else PALETTE[changes.index(_change(row)) % len(PALETTE)]
            index = len(drawn) + 1
            style = Style(color, MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)])
            by_label[row.label] = drawn.setdefault((*place, occurrence), style)
    return by_label


def _change(row: Row) -> str:
    """What a variant is known by: its module, else its losses and its head."""
    return row.module if row.module != "none" else _beside_modules(row)


def _beside_modules(row: Row) -> str:
    """The losses and the head of a variant that are not those of the stock network."""
    levels = row.variant.factors
    return "+".join(f"{levels[name]}@{name}" for name, level in STOCK.items() if levels[name] != level)


def written_name(row: Row) -> str:
    """A variant's name as figures write it: with a dagger where it may not be compared with its baseline."""
    name = written(row.label)
    return name if row.is_comparable else f"{name}{DAGGER}"


def dagger_caption(rows: Iterable[Row]) -> str:
    """What the daggers on these rows mean; empty where there are none."""
    if all(row.is_comparable for row in rows):
        return ""
    return f"{DAGGER.strip()}: not comparable with its baseline; the notes say why."


def ink(ground: Any) -> str:
    """Black or white, whichever can be read better on a colour: by WCAG's contrast, at least 4.58 to 1 for any."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(ground)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "black" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "white"


def paragraph(parts: Iterable[str]) -> str:
    """Sentences as one paragraph."""
    return " ".join(part.strip() for part in parts if part.strip())


def in_words(estimates: Iterable[tuple[str, float, Interval | None]]) -> str:
    """Names, differences and their 95 % intervals, for who does not see a figure."""
    return paragraph(
        f"{name}: {estimate:+.4f}{f' ({interval.low:+.4f} to {interval.high:+.4f})' if interval else ''}."
        for name, estimate, interval in estimates
    )


def fix_layout(figure: Figure) -> None:
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
