"""What one sees while a sweep runs: a progress bar per trial on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Live:
    """Progress of the trials of one sweep.

    Args:
        console: Where to show it.
        trials: How many trials will run.
    """

    def __init__(self, console: Console, trials: int) -> None:
        self._console = console
        self._trials = trials
        self._number = 0
        self._started = time.monotonic()
        self._task: Any = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
        )

    def __enter__(self) -> Live:
        if self._console.is_terminal:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._console.is_terminal:
            self._progress.stop()

    def start(self, name: str, epochs: int) -> None:
        """Show that a trial starts."""
        self._number += 1
        self._started = time.monotonic()
        title = f"[{self._number}/{self._trials}] {name}"
        if self._console.is_terminal:
            self._task = self._progress.add_task(title.replace("[", r"\["), total=epochs, note="")
        else:
            self._say(f"{title}: starts, {epochs} epochs")

    def epoch(self, row: Mapping[str, Any]) -> None:
        """Show a finished epoch."""
        note = f"mAP50-95 {row.get('map50_95', float('nan')):.3f}"
        if self._console.is_terminal:
            self._progress.update(self._task, completed=row["epoch"], note=note)
        elif row["epoch"] == row["epochs"] or row["epoch"] % max(row["epochs"] // 5, 1) == 0:
            self._say(f"    epoch {row['epoch']}/{row['epochs']}  {note}  {row['seconds']:.1f} s")

    def end(self, name: str, failure: str | None) -> None:
        """Show how a trial ended; a failure with its reason, at once."""
        minutes = (time.monotonic() - self._started) / 60
        if self._console.is_terminal and self._task is not None:
            note = "[red]failed[/red]" if failure else self._progress.tasks[self._task].fields["note"]
            self._progress.update(self._task, note=note)
            self._progress.stop_task(self._task)
        if failure:
            self._console.print(
                f"    {name} failed: {failure}", style="red", markup=False, highlight=False, soft_wrap=True
            )
        elif not self._console.is_terminal:
            self._say(f"    done in {minutes:.1f} min")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
