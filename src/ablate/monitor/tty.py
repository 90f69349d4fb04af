"""What a terminal can do, and how it is given back."""

from __future__ import annotations

import os

from rich.console import Console


def is_animated(console: Console) -> bool:
    """Tell whether frames can be drawn over each other; colour that a variable asks for in a log file is no sign."""
    return console.is_interactive and (not os.environ.get("FORCE_COLOR") or console.file.isatty())


def show_cursor() -> None:
    """Give a terminal its cursor back by a system call alone, for a process that ends at once, without any ceremony."""
    for descriptor in (1, 2):
        if os.isatty(descriptor):
            os.write(descriptor, b"\x1b[?25h")
