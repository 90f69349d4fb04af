"""Live progress display: frames that are redrawn in place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live as Screen
from rich.text import Text

from ablate.console import is_animated, print_line, short_path
from ablate.errors import count
from ablate.monitor.attempt import Attempt, Item
from ablate.monitor.epoch_rows import TrialProgress, batch_progress
from ablate.monitor.render import (
    RECENT,
    View,
    duration,
    estimate_words,
    finish_words,
    frame,
    tally,
)
from ablate.monitor.time_left import LONG, Announcer, Pace, time_left
from ablate.monitor.trial_state import TrialState, trial_state
from ablate.records.metrics import EpochRow
from ablate.records.trial_record import Failure
from ablate.settings.metric import MAP50_95, Metric
from ablate.storage.layout import TrialFolder
from ablate.storage.locking import held

REFRESH = 0.4  # seconds between two frames
SUMMARY = 300.0  # seconds between two summaries in plain lines
LINES = 5  # progress lines a trial, in plain lines


class Live:
    """Shows a sweep while it runs; a context manager, used from one thread.

    What it holds grows with the trials that run and with the variants, not with the trials that have ended.

    Args:
        console: Where to show it.
        trials: What will run.
        done: How many trials of the sweep were done before.
        slots: How many run at a time.
        clock: A clock in seconds that never goes back.
        announcer: Decides when an estimate is printed.
        why: What makes it long, printed where it turns out to be.
    """

    def __init__(
        self,
        console: Console,
        trials: Sequence[Item],
        done: int = 0,
        slots: int = 1,
        clock: Callable[[], float] = time.monotonic,
        announcer: Announcer | None = None,
        why: str = "",
        metric: Metric = MAP50_95,
    ) -> None:
        self._console = console
        self._trials = list(trials)
        self._total = done + len(trials)
        self._slots = slots
        self._clock = clock
        self._opened = clock()
        self._widest = max((cell_len(item.name) for item in trials), default=0)
        self._done, self._failed, self._number = done, 0, done
        self._waiting = dict.fromkeys(range(len(trials)))  # in order
        self._reported: dict[int, int] = {}  # of trials that are tried again: the last epoch that was returned
        self._elsewhere: set[int] = set()  # trained by another command
        self._renewed: set[int] = set()  # get a new process before anything was trained
        self._running: dict[int, Attempt] = {}
        self._recent: deque[TrialState] = deque(maxlen=RECENT)
        self._pace = Pace()
        self._why = why
        self._metric = metric
        self._announcer = announcer or Announcer()
        self._drawn = -REFRESH
        self._summed = clock()
        self._frame = Text()
        self._screen: Screen | None = None
        if is_animated(console):
            self._screen = Screen(Text(), console=console, auto_refresh=False, vertical_overflow="crop")

    def __enter__(self) -> Live:
        if self._screen is not None:
            try:
                self._screen.start()
                self._draw()
            except BaseException:  # Ctrl-C here must not leave a terminal without a cursor
                self._screen.stop()
                raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Draw a last frame that stays, and restore the terminal."""
        if self._screen is not None:
            try:
                self._draw(closed=True)
            finally:
                self._screen.stop()

    def start(self, index: int, device: str, resumed: int = 0) -> None:
        """Show that an attempt at a trial starts; call this before its process can have written anything.

        Args:
            index: Which trial.
            device: Where it runs.
            resumed: The last epoch of an earlier attempt from which this one resumes; 0 if it starts anew.
        """
        item = self._trials[index]
        stale = batch_progress(item.folder)
        attempt = Attempt(
            item,
            TrialProgress(
                item.folder,
                item.epochs,
                skip=resumed == 0,
                after=None if stale is None else stale.time,
                metric=self._metric,
            ),
            device,
            resumed,
            reported=self._reported.get(index, 0),
            owner=held(TrialFolder(item.folder).lock),
            shown=index not in self._elsewhere,
            started=self._clock(),
        )
        self._number += index not in self._reported
        self._reported.pop(index, None)
        self._waiting.pop(index, None)
        self._running[index] = attempt
        if attempt.shown and index not in self._renewed:
            self._announce(item, attempt)
        self._renewed.discard(index)
        self._refresh()

    def poll(self, index: int) -> list[EpochRow]:
        """Read how far a trial is and show it; return the epochs that have ended since the last call.

        Each epoch is returned once, however often its trial is tried again. Where an attempt resumes from an earlier
        command's, the first call returns the earlier epochs too, because only the caller knows what was recorded.
        While another command trains it, nothing is returned.
        """
        item, attempt = self._trials[index], self._running.get(index)
        if attempt is None or attempt.is_elsewhere():
            self._refresh()
            return []
        rows = attempt.progress.update()
        trained = [row for row in rows if row.epoch > attempt.resumed]
        seconds = sum(row.seconds or 0.0 for row in trained)
        attempt.trained += seconds
        self._pace.add(item.name, seconds, len(trained), item.size)
        if not attempt.shown and (rows or attempt.progress.fraction):
            attempt.shown = True
            self._elsewhere.discard(index)
            self._announce(item, attempt)
        if trained and self._screen is None:
            self._print_epoch(item, attempt.progress, trained)
        self._print_threads(item, attempt)
        self._refresh()
        fresh = [row for row in rows if row.epoch > attempt.reported]
        attempt.reported = max([attempt.reported, *(row.epoch for row in fresh)])
        return fresh

    def end(self, index: int, failure: str | None, log: Path | None = None) -> None:
        """Show how a trial ended; a failure (``type: message``) at once, with its log."""
        item, attempt = self._trials[index], self._running.pop(index, None)
        self._waiting.pop(index, None)
        self._reported.pop(index, None)
        self._elsewhere.discard(index)
        state = replace(trial_state(item.folder, item.name, self._metric), name=item.name, failure=None)
        if attempt is not None and attempt.shown:
            took = self._clock() - attempt.started
            state = replace(state, seconds=took)
            if failure is None:
                self._pace.add(item.name, max(took - attempt.trained, 0.0), 0, item.size)
        if failure is None:
            self._ended_well(replace(state, state="done"))
        else:
            kind, _, message = failure.partition(": ")
            self._failed += 1
            self._recent.append(replace(state, state="failed", failure=Failure(type=kind, message=message)))
            self._print(f"    {item.name} failed: {failure}", "red")
            if log is not None:
                self._print(f"        log: {short_path(log)}")
        self._refresh()

    def retry(self, index: int, why: str) -> None:
        """Show that a trial's process has died and that it will be tried again."""
        self._put_back(index)
        self._print(f"    {self._trials[index].name}: {why}; it will be tried again", "yellow")
        self._refresh()

    def busy(self, index: int) -> None:
        """Show that another command trains this trial, and that this one waits for it; printed once a trial."""
        self._put_back(index)
        if index not in self._elsewhere:
            self._elsewhere.add(index)
            self._print(f"    {self._trials[index].name}: another command trains it; waiting for it", "yellow")
        self._refresh()

    def add(self, items: Sequence[Item]) -> None:
        """Show that further trials will run, after the others."""
        self._waiting |= dict.fromkeys(range(len(self._trials), len(self._trials) + len(items)))
        self._trials += items
        self._total += len(items)
        self._widest = max(self._widest, *(cell_len(item.name) for item in items), 0)

    def drop(self, index: int) -> None:
        """Show that a trial that waited will not run."""
        self._waiting.pop(index, None)
        self._total -= 1

    def renew(self, index: int) -> None:
        """Note that a trial, whose start was shown, waits for a new process."""
        self._put_back(index)
        self._renewed.add(index)

    def _put_back(self, index: int) -> None:
        attempt = self._running.pop(index, None)
        self._reported[index] = attempt.reported if attempt else 0
        self._waiting[index] = None

    def _ended_well(self, state: TrialState) -> None:
        self._done += 1
        self._recent.append(state)
        if self._screen is None:
            took = "" if state.seconds is None else f" in {duration(state.seconds)}"
            best = "" if state.accuracy is None else f"  {self._metric.label} {state.accuracy:.4f}"
            self._print(f"    {state.name} done{took}{best}")

    def _announce(self, item: Item, attempt: Attempt) -> None:
        if self._screen is None:
            where = f" on {attempt.device}" if attempt.device else ""
            how = f"goes on after epoch {attempt.resumed}," if attempt.resumed else "starts,"
            self._print(f"[{self._number}/{self._total}] {item.name}: {how} {count(item.epochs, 'epoch')}{where}")

    def _print_epoch(self, item: Item, progress: TrialProgress, rows: Sequence[EpochRow]) -> None:
        """Print a line when another fifth of a trial is done, not for every epoch."""
        total = max(progress.epochs or item.epochs, 1)
        first, last = rows[0].epoch, rows[-1].epoch
        if last * LINES // total == (first - 1) * LINES // total:
            return
        accuracy, left = rows[-1].value(self._metric), progress.seconds_left
        best = progress.accuracy or 0.0
        better = f" (best {best:.4f})" if accuracy is not None and best - accuracy >= 5e-5 else ""
        words = [f"    {item.name}: epoch {last}/{total}"]
        words += [] if accuracy is None else [f"{self._metric.label} {accuracy:.4f}{better}"]
        words += [f"{duration(left)} left"] if left else []
        self._print("  ".join(words))

    def _print_threads(self, item: Item, attempt: Attempt) -> None:
        """Print a line when a trial uses fewer threads because of other processes, or all of them again."""
        threads = attempt.progress.threads
        if threads == attempt.threads:
            return
        attempt.threads = threads
        if threads is None:
            self._print(f"    {item.name}: the machine is quiet again: all threads")
        else:
            self._print(
                f"    {item.name}: other processes use this machine: {threads[0]} of {threads[1]} threads", "yellow"
            )

    def _print_estimate(self) -> None:
        """Print how long everything will take: as soon as it is known, and when the estimate has changed."""
        running = {index: attempt for index, attempt in self._running.items() if attempt.shown}
        passed, left = self._clock() - self._opened, self._left(running) if running or self._waiting else None
        due = self._announcer.due(passed, left)
        if left is None or not due:
            return
        if self._screen is None:
            first = estimate_words(left, len(self._trials), self._slots)
            self._print(first if due == "first" else f"about {duration(left)} left now")
        if passed + left > LONG and self._why:
            self._print(f"why so long: {self._why}", "yellow")
            self._why = ""

    def _refresh(self) -> None:
        """Draw a frame, or print a summary, when it is due."""
        self._print_estimate()
        now = self._clock()
        if self._screen is not None and now - self._drawn >= REFRESH:
            self._drawn = now
            self._draw()
        if self._screen is None and now - self._summed >= SUMMARY:
            self._summed = now
            view = self._view()
            self._print("; ".join(part for part in (tally(view.counts).plain, view.words) if part))

    def _draw(self, *, closed: bool = False) -> None:
        if self._screen is None:
            return
        width, height = self._console.size
        new = frame(self._view(closed=closed), width, height, ascii_only=self._console.options.ascii_only)
        if new != self._frame:  # what has not changed is not drawn again
            self._frame = new
            self._screen.update(new, refresh=True)

    def _view(self, *, closed: bool = False) -> View:
        running = {index: attempt for index, attempt in self._running.items() if attempt.shown}
        counts = {
            "done": self._done,
            "failed": self._failed,
            "interrupted" if closed else "running": len(running),
            "elsewhere": len(self._elsewhere),
        }
        counts["waiting"] = self._total - sum(counts.values())
        words = f"after {duration(self._clock() - self._opened)}" if closed else finish_words(self._left(running))
        rows = [self._state(self._trials[index], attempt) for index, attempt in running.items()]
        return View(counts, words, rows, list(self._recent), self._widest, stopped=closed)

    def _left(self, running: dict[int, Attempt]) -> float | None:
        """Estimate the seconds until all is done; what another command trains is not counted."""
        now = [self._seconds_left(self._trials[index], attempt.progress) for index, attempt in running.items()]
        waiting = [self._trials[index] for index in self._waiting if index not in self._elsewhere]
        return time_left(now, [self._expect(item, item.epochs) for item in waiting], self._slots)

    def _seconds_left(self, item: Item, progress: TrialProgress) -> float | None:
        """Estimate the seconds that a trial still needs: by its own epochs, or by those of others before it has any."""
        left = progress.seconds_left
        return self._expect(item, progress.epochs_left or 0.0) if left is None else left

    def _expect(self, item: Item, epochs: float) -> float | None:
        """Estimate a trial's seconds: by epochs of this sweep, by first batches, or by the forecast."""
        seconds = self._pace.expect(item.name, epochs, item.size)
        if seconds is None:
            running = [(attempt.progress.epoch_seconds, attempt.item.size) for attempt in self._running.values()]
            guesses = [epoch / size for epoch, size in running if epoch is not None]
            seconds = epochs * item.size * fmean(guesses) if guesses else None
        if seconds is None and item.expected is not None:
            seconds = item.expected * epochs / item.epochs
        return seconds

    def _state(self, item: Item, attempt: Attempt) -> TrialState:
        progress = attempt.progress
        return TrialState(
            item.name,
            item.signature,
            "running",
            epoch=progress.epoch,
            epochs=progress.epochs,
            fraction=progress.fraction,
            accuracy=progress.accuracy,
            seconds_left=self._seconds_left(item, progress),
            device=attempt.device,
            metric=self._metric,
        )

    def _print(self, line: str, style: str | None = None) -> None:
        print_line(self._console, line, style)
