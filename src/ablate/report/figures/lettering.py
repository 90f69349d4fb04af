"""Names of users in figures: literally, in letters that the font has.

A dollar sign is no mathematics (``text.parse_math`` is off in `SETTINGS`), a leading underscore does not keep an entry
out of a legend, and letters without a glyph become squares instead of warnings.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.text import Text

from ablate.records.class_names import ClassName
from ablate.safe_text import clipped

MISSING = "□"
_PART = re.compile(r"\S[^@\[,\s]*,?\s*")  # of a variant's name


def written(text: str) -> str:
    """Return a text in letters that can be drawn; marks and joiners that the font lacks are left out."""
    drawable = _known()
    return "".join(letter if letter == "\n" or ord(letter) in drawable else _instead(letter) for letter in text)


def written_class(name: ClassName, most: int) -> str:
    """Return what a figure calls a class, in about so many characters; by its index where letters are missing."""
    text = written(name.label)
    return clipped(text if text == name.label else f"{name.index}: {text}", most)


def wrapped(name: str, width: int, most: int) -> str:
    """Return a variant's name in at most so many lines of about so many characters, broken between its parts."""
    lines = [""]
    words = re.findall(r"\S+\s*", name)
    parts = (part for word in words for part in ([word] if len(word.rstrip()) <= width else _PART.findall(word)))
    for part in parts:
        for piece in (part[start : start + width] for start in range(0, len(part.rstrip()), width)):
            if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
                lines.append("")
            lines[-1] += piece
    lines = [line.rstrip() for line in lines]
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1][: width - 4]} ..."]
    return "\n".join(lines)


def in_legend(text: str) -> str:
    """Return a text that matplotlib takes as an entry of a legend, also where it begins with an underscore."""
    text = written(text)
    return f" {text}" if text.startswith("_") else text


def make_drawable(figure: Figure) -> None:
    """Write all that a figure says in letters that can be drawn."""
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _make_ticks_drawable(axis)
    for artist in figure.findobj(Text):
        text = artist.get_text()
        if text != written(text):
            artist.set_text(written(text))


def _make_ticks_drawable(axis: Axis) -> None:
    texts = [label.get_text() for label in axis.get_ticklabels()]
    if any(text != written(text) for text in texts):
        axis.set_ticklabels([written(text) for text in texts])


@cache
def _known() -> frozenset[int]:
    """Code points of the letters that the font has, upright and bold."""
    maps = [get_font(findfont(FontProperties(weight=weight))).get_charmap() for weight in ("normal", "bold")]
    return frozenset(maps[0]).intersection(maps[1])


def _instead(letter: str) -> str:
    return "" if unicodedata.category(letter) in ("Mn", "Me", "Cf") else MISSING
