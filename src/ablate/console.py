"""Printing to a terminal: lines as they are, short paths, what the terminal can do, and what it must not obey."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from ablate.redaction import without_secrets
from ablate.safe_text import one_line, visible


class Terminal(Console):
    """A console to which strangers' text cannot give orders: no escape code of a name, a message or a log is sent.

    Emoji codes, such as :100: in a path, and markup are no more than text.

    Args:
        stderr: Write to standard error.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, emoji=False, highlight=False)

    def on_broken_pipe(self) -> None:
        """Leave it to the program what to do where nobody reads the output any more; rich would end it with code 1."""
        raise

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as rich does; its own control codes stay, those within texts are left out."""
        for segment in super().render(renderable, options):
            text = segment.text if segment.control else visible(segment.text)
            yield segment if text == segment.text else Segment(text, segment.style)


def print_line(console: Console, line: str | Text, style: str | None = None) -> None:
    """Print a line as it is: no markup, no emoji codes, no highlighting, not wrapped, so that paths can be copied."""
    text = line if isinstance(line, Text) else Text(one_line(without_secrets(line)), style=style or "")
    console.print(text, highlight=False, soft_wrap=True)


def short_path(path: Path) -> Path:
    """Return a path relative to the working directory if it lies below it, else unchanged."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def is_animated(console: Console) -> bool:
    """Return whether frames can be drawn over each other; FORCE_COLOR alone, as for a log file, does not count."""
    return console.is_interactive and (not os.environ.get("FORCE_COLOR") or console.file.isatty())


def show_cursor() -> None:
    """Show the terminal's cursor again by a system call alone, for a process that exits at once without cleanup."""
    for descriptor in (1, 2):
        if os.isatty(descriptor):
            os.write(descriptor, b"\x1b[?25h")
