"""Text of strangers in Markdown: shown as it is, never as a mark, a link, an image or HTML."""

from __future__ import annotations

import re

from ablate.safe_text import one_line, visible

# What Markdown (and GitHub's: ~~ and $) takes for marks. Underscores within words and brackets before no address are
# none, and stay readable.
_MARKS = re.compile(r"[\\*`$~&]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])|!(?=\[)|\](?=[(\[:])")
# What is more than text at the start of a line: a list, a heading, a quotation, a rule.
_START = re.compile(r"[-+](?=\s|$|[-=])|[#>=|]|\d{1,9}(?=[.)](?:\s|$))")


def literal(text: str) -> str:
    """Return a text as Markdown shows it literally, on one line that may stand at the start of a line."""
    line = inline(text)
    start = _START.match(line)
    if start is None:
        return line
    number = start.group()
    return f"{number}\\{line[len(number) :]}" if number.isdigit() else f"\\{line}"


def inline(text: str) -> str:
    """Return a text as Markdown shows it literally, on one line that stands behind other text."""
    return _MARKS.sub(r"\\\g<0>", one_line(text).strip()).replace("<", "&lt;")


def table_cell(text: str) -> str:
    """Return a text as a cell of a table shows it literally."""
    return inline(text).replace("|", "\\|")


def code_block(text: str) -> str:
    """Return lines as a block of code, which no line of theirs ends."""
    lines = visible(text)
    fence = "`" * max([3, *(len(run) + 1 for run in re.findall(r"`+", lines))])
    return f"{fence}\n{lines}\n{fence}\n"
