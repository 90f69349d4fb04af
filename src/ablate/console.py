"""Printing to a terminal: lines as they are, short paths, and what the terminal can do."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.text import Text


def print_line(console: Console, line: str | Text, style: str | None = None) -> None:
    """Print a line as it is: no markup, no emoji codes, no highlighting, not wrapped, so that paths can be copied."""
    text = line if isinstance(line, Text) else Text(line, style=style or "")
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
