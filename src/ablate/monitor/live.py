"""What one sees while a sweep runs: one display that stays in its place on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live as Screen
from rich.text import Text

from ablate.console import is_animated, print_line, short_path
from ablate.monitor.epoch_rows import Watch
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
from ablate.records.loading import load_object
from ablate.records.metrics import EpochRow
from ablate.records.records import number
from ablate.records.trial_record import Failure
from ablate.storage.layout import TrialFolder
from ablate.storage.locking import held

REFRESH = 0.4  # seconds between two frames
SUMMARY = 300.0  # seconds between two summaries in plain lines
LINES = 5  # progress lines a trial, in plain lines


@dataclass(frozen=True)
class Item:
    """A trial that a command will run.

    Attributes:
        name: The trial for people.
        signature: Its identity.
        folder: Where it writes.
        epochs: How many it trains.
        size: FLOPs of its network, in those of another trial's.
        expected: Seconds that it will take, as far as that is known before.
    """

    name: str
    signature: str
    folder: Path
    epochs: int
    size: float = 1.0
    expected: float | None = None


@dataclass
class _Try:
    """One try at a trial, from its start to its end.

    Attributes:
        watch: What its folder tells.
        device: Where it runs.
        resumed: The last epoch of the try that it goes on from, or 0.
        handed: The last epoch that `poll` has returned, in this try or an earlier one.
        owner: Who held the trial's lock before this try asked for it, as long as that is so.
        shown: Whether it is known to run; false while it may only be waiting for another command.
        started: By the clock.
        trained: Seconds of its own epochs.
        threads: What was last said of its threads (see `Watch.threads`).
    """

    watch: Watch
    device: str
    resumed: int
    handed: int
    owner: dict[str, Any] | None
    shown: bool
    started: float
    trained: float = 0.0
    threads: tuple[int, int] | None = None


class Live:
    """Shows a sweep while it runs; a context manager, used from one thread.

    What it holds grows with the trials that run and with the variants, not with the trials that have ended.

    Args:
        console: Where to show it.
        trials: What will run.
        done: How many trials of the sweep were done before.
        slots: How many run at a time.
        clock: A clock in seconds that never goes back.
        announcer: Knows what was said before of the time that it takes.
        why: What makes it long, said where it turns out to be.
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
    ) -> None:
        self._console = console
        self._trials = trials
        self._total = done + len(trials)
        self._slots = slots
        self._clock = clock
        self._opened = clock()
        self._widest = max((cell_len(item.name) for item in trials), default=0)
        self._done, self._failed, self._number = done, 0, done
        self._waiting = dict.fromkeys(range(len(trials)))  # in order
        self._handed: dict[int, int] = {}  # of trials that are tried again: the last epoch that was returned
        self._elsewhere: set[int] = set()  # trained by another command
        self._renewed: set[int] = set()  # get a new process before anything was trained
        self._running: dict[int, _Try] = {}
        self._recent: deque[TrialState] = deque(maxlen=RECENT)
        self._pace = Pace()
        self._why = why
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
        """Leave a last frame where it is, and give the terminal back."""
        if self._screen is not None:
            try:
                self._draw(closed=True)
            finally:
                self._screen.stop()

    def start(self, index: int, device: str, resumed: int = 0) -> None:
        """Show that a try at a trial starts; call this before its process can have written anything.

        Args:
            index: Which trial.
            device: Where it runs.
            resumed: The last epoch of an earlier try from which this one goes on; 0 if it starts anew.
        """
        item = self._trials[index]
        files = TrialFolder(item.folder)
        stale = number(load_object(files.training.progress), "time")
        attempt = _Try(
            Watch(item.folder, item.epochs, skip=resumed == 0, after=stale),
            device,
            resumed,
            handed=self._handed.get(index, 0),
            owner=held(files.lock),
            shown=index not in self._elsewhere,
            started=self._clock(),
        )
        self._number += index not in self._handed
        self._handed.pop(index, None)
        self._waiting.pop(index, None)
        self._running[index] = attempt
        if attempt.shown and index not in self._renewed:
            self._announce(item, attempt)
        self._renewed.discard(index)
        self._refresh()

    def poll(self, index: int) -> list[EpochRow]:
        """Read how far a trial is and show it; return the epochs that have ended since the last call.

        Each epoch is returned once, however often its trial is tried again. Where a try goes on from an earlier
        command's, the first call returns the earlier epochs too, because only the caller knows who has heard of them.
        While another command trains it, nothing is returned.
        """
        item, attempt = self._trials[index], self._running.get(index)
        if attempt is None or _is_elsewhere(item, attempt):
            self._refresh()
            return []
        rows = attempt.watch.update()
        own = [row for row in rows if row.epoch > attempt.resumed]
        seconds = sum(row.seconds or 0.0 for row in own)
        attempt.trained += seconds
        self._pace.saw(item.name, seconds, len(own), item.size)
        if not attempt.shown and (rows or attempt.watch.fraction):
            attempt.shown = True
            self._elsewhere.discard(index)
            self._announce(item, attempt)
        if own and self._screen is None:
            self._say_epoch(item, attempt.watch, own)
        self._say_threads(item, attempt)
        self._refresh()
        fresh = [row for row in rows if row.epoch > attempt.handed]
        attempt.handed = max([attempt.handed, *(row.epoch for row in fresh)])
        return fresh

    def end(self, index: int, failure: str | None, log: Path | None = None) -> None:
        """Show how a trial ended; a failure (``type: message``) at once, with its log."""
        item, attempt = self._trials[index], self._running.pop(index, None)
        self._waiting.pop(index, None)
        self._handed.pop(index, None)
        self._elsewhere.discard(index)
        state = replace(trial_state(item.folder, item.name), name=item.name, failure=None)
        if attempt is not None and attempt.shown:
            took = self._clock() - attempt.started
            state = replace(state, seconds=took)
            if failure is None:
                self._pace.saw(item.name, max(took - attempt.trained, 0.0), 0, item.size)
        if failure is None:
            self._ended_well(replace(state, state="done"))
        else:
            kind, _, message = failure.partition(": ")
            self._failed += 1
            self._recent.append(replace(state, state="failed", failure=Failure(type=kind, message=message)))
            self._say(f"    {item.name} failed: {failure}", "red")
            if log is not None:
                self._say(f"        log: {short_path(log)}")
        self._refresh()

    def retry(self, index: int, why: str) -> None:
        """Show that a trial's process has died and that it will be tried again."""
        self._put_back(index)
        self._say(f"    {self._trials[index].name}: {why}; it will be tried again", "yellow")
        self._refresh()

    def busy(self, index: int) -> None:
        """Show that another command trains this trial, and that this one waits for it; said once a trial."""
        self._put_back(index)
        if index not in self._elsewhere:
            self._elsewhere.add(index)
            self._say(f"    {self._trials[index].name}: another command trains it; waiting for it", "yellow")
        self._refresh()

    def renew(self, index: int) -> None:
        """Note that a trial, whose start was shown, waits for a new process."""
        self._put_back(index)
        self._renewed.add(index)

    def _put_back(self, index: int) -> None:
        attempt = self._running.pop(index, None)
        self._handed[index] = attempt.handed if attempt else 0
        self._waiting[index] = None

    def _ended_well(self, state: TrialState) -> None:
        self._done += 1
        self._recent.append(state)
        if self._screen is None:
            took = "" if state.seconds is None else f" in {duration(state.seconds)}"
            best = "" if state.map50_95 is None else f"  mAP50-95 {state.map50_95:.4f}"
            self._say(f"    {state.name} done{took}{best}")

    def _announce(self, item: Item, attempt: _Try) -> None:
        if self._screen is None:
            where = f" on {attempt.device}" if attempt.device else ""
            how = f"goes on after epoch {attempt.resumed}," if attempt.resumed else "starts,"
            self._say(f"[{self._number}/{self._total}] {item.name}: {how} {item.epochs} epochs{where}")

    def _say_epoch(self, item: Item, watch: Watch, rows: Sequence[EpochRow]) -> None:
        """Say when another fifth of a trial is done, not every epoch."""
        total = max(watch.epochs or item.epochs, 1)
        first, last = rows[0].epoch, rows[-1].epoch
        if last * LINES // total == (first - 1) * LINES // total:
            return
        found, left = rows[-1].map50_95, watch.seconds_left
        best = "" if found is None or (watch.map50_95 or 0.0) - found < 5e-5 else f" (best {watch.map50_95:.4f})"
        words = [f"    {item.name}: epoch {last}/{total}"]
        words += [] if found is None else [f"mAP50-95 {found:.4f}{best}"]
        words += [f"{duration(left)} left"] if left else []
        self._say("  ".join(words))

    def _say_threads(self, item: Item, attempt: _Try) -> None:
        """Say when a trial makes room for other processes, or has its threads back."""
        threads = attempt.watch.threads
        if threads == attempt.threads:
            return
        attempt.threads = threads
        if threads is None:
            self._say(f"    {item.name}: the machine is quiet again: all threads")
        else:
            self._say(
                f"    {item.name}: other processes use this machine: {threads[0]} of {threads[1]} threads", "yellow"
            )

    def _say_estimate(self) -> None:
        """Say how long all will take: as soon as it is known, and when it turns out to be something else."""
        running = {index: attempt for index, attempt in self._running.items() if attempt.shown}
        passed, left = self._clock() - self._opened, self._left(running) if running or self._waiting else None
        due = self._announcer.due(passed, left)
        if left is None or not due:
            return
        if self._screen is None:
            first = estimate_words(left, len(self._trials), self._slots)
            self._say(first if due == "first" else f"about {duration(left)} left now")
        if passed + left > LONG and self._why:
            self._say(f"why so long: {self._why}", "yellow")
            self._why = ""

    def _refresh(self) -> None:
        """Draw a frame, or say a summary, when it is time to."""
        self._say_estimate()
        now = self._clock()
        if self._screen is not None and now - self._drawn >= REFRESH:
            self._drawn = now
            self._draw()
        if self._screen is None and now - self._summed >= SUMMARY:
            self._summed = now
            view = self._view()
            self._say("; ".join(part for part in (tally(view.counts).plain, view.words) if part))

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

    def _left(self, running: dict[int, _Try]) -> float | None:
        """Estimate the seconds until all is done; what another command trains is not counted."""
        now = [self._seconds_left(self._trials[index], attempt.watch) for index, attempt in running.items()]
        waiting = [self._trials[index] for index in self._waiting if index not in self._elsewhere]
        return time_left(now, [self._expect(item, item.epochs) for item in waiting], self._slots)

    def _seconds_left(self, item: Item, watch: Watch) -> float | None:
        """Estimate what a trial still needs: by its own epochs, or before it has any, by those of others."""
        left = watch.seconds_left
        return self._expect(item, watch.epochs_left or 0.0) if left is None else left

    def _expect(self, item: Item, epochs: float) -> float | None:
        """Estimate a trial's seconds: by epochs of this sweep, by first batches, by what was known before."""
        known = self._pace.expect(item.name, epochs, item.size)
        if known is None:
            running = [(attempt.watch.epoch_seconds, self._trials[i].size) for i, attempt in self._running.items()]
            guesses = [seconds / size for seconds, size in running if seconds is not None]
            known = epochs * item.size * fmean(guesses) if guesses else None
        if known is None and item.expected is not None:
            known = item.expected * epochs / item.epochs
        return known

    def _state(self, item: Item, attempt: _Try) -> TrialState:
        watch = attempt.watch
        return TrialState(
            item.name,
            item.signature,
            "running",
            epoch=watch.epoch,
            epochs=watch.epochs,
            fraction=watch.fraction,
            map50_95=watch.map50_95,
            seconds_left=self._seconds_left(item, watch),
            device=attempt.device,
        )

    def _say(self, line: str, style: str | None = None) -> None:
        print_line(self._console, line, style)


def _is_elsewhere(item: Item, attempt: _Try) -> bool:
    """Tell whether the lock is still in the hands in which it was before this try asked for it."""
    if attempt.owner is None:
        return False
    now = load_object(TrialFolder(item.folder).lock)
    if any(now.get(key) != attempt.owner.get(key) for key in ("host", "pid", "since")):
        attempt.owner = None
    return attempt.owner is not None
