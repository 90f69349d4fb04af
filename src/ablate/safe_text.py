"""Text of strangers, made safe for the place where it is shown: it is read there, never obeyed.

Names of classes, modules and sweeps, messages, commands and paths come from files that anybody may have written. A
terminal obeys escape codes, a page shows text in another direction than it is written, a surrogate ends every program
that writes UTF-8. Each output calls the function for its kind where the text enters it; markup is the business of the
writers of that markup (`ablate.report`).
"""

from __future__ import annotations

import re
import unicodedata

JOINERS = "\u200c\u200d"  # they have no width, but Persian, Hindi and emoji are not what they were without them
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_PLAIN = re.compile(r"[\x20-\x7e\n]*")  # most texts are no more than this


def visible(text: str) -> str:
    """Return a text without what a terminal or a page would obey instead of showing it; lines stay lines.

    Control characters (of which escape codes begin with one), marks of direction, characters without width and
    surrogates are left out, so that what remains of an escape code is read. Joiners of letters stay; a tab is a blank.
    """
    text = text.replace("\t", " ")
    if _PLAIN.fullmatch(text):
        return text
    return "".join(c for c in text if c == "\n" or c in JOINERS or unicodedata.category(c) not in ("Cc", "Cf", "Cs"))


def one_line(text: str) -> str:
    """Return a text as `visible` does, on one line: what ends a line or moves along it is a blank."""
    if text.isprintable():
        return visible(text)
    return visible("".join(" " if c.isspace() else c for c in text.replace("\r\n", "\n")))


def printable(text: str) -> str:
    """Return a name on one line, as `one_line` does, each gap one blank, and a sign where something was left out."""
    letters = []
    for letter in text:
        if letter.isprintable() or letter in JOINERS:
            letters.append(letter)
        elif letter.isspace():
            letters.append(" ")
        elif unicodedata.category(letter) != "Cf":  # marks of direction and the like leave no gap
            letters.append(REPLACEMENT)
    return " ".join("".join(letters).split())


def clipped(text: str, most: int) -> str:
    """Return a text of at most so many characters; one that is cut off ends in an ellipsis."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def escaped(text: str, most: int = 2000) -> str:
    """Return what a user wrote on one line and with nothing left out: what is no letter is written as in Python.

    Args:
        text: Any text, such as a message that repeats what the user wrote.
        most: Characters; a longer text lacks its middle, and says so.
    """
    if len(text) > most:
        left_out = f" [{len(text) - most} characters] "
        text = text[: most // 2] + left_out + text[-(most // 2) :]
    return "".join(c if c.isprintable() or c in JOINERS else c.encode("unicode_escape").decode("ascii") for c in text)
