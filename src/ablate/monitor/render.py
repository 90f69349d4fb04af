"""Rendering for the terminal: times as text, names cut in the middle, bars, tables that fit, and the live frame."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from rich.cells import cell_len
from rich.text import Text

from ablate.monitor.trial_state import TrialState
from ablate.safe_text import one_line

STYLES = {
    "done": "green",
    "failed": "red",
    "damaged": "red",
    "running": "cyan",
    "interrupted": "yellow",
    "waiting": "dim",
    "elsewhere": "yellow",
}
GAP = 2  # blanks between columns
NARROWEST_NAME = 16
BAR = (8, 12, 40)  # cells of a bar: the fewest, as many as it takes from long names, the most
RECENT = 4  # finished trials that stay in view

Row = list[str | Text]


def duration(seconds: float) -> str:
    """Return a time as text, at most 11 characters: ``45 s``, ``12 min``, ``5 h 12 min``, ``3 d 4 h``."""
    if seconds < 59.5:
        return f"{max(seconds, 0):.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    hours = round(minutes / 60)
    return f"{hours // 24} d {hours % 24} h"


def clock(seconds: float, now: float | None = None) -> str:
    """Return the time of day that is so many seconds ahead, with the day where that is not today."""
    start = datetime.fromtimestamp(time.time() if now is None else now)
    end = datetime.fromtimestamp(start.timestamp() + seconds)
    days = (end.date() - start.date()).days
    return end.strftime("%H:%M" if days == 0 else "%a %H:%M" if days < 7 else "%a %d %b %H:%M")


def estimate_words(seconds: float, trials: int, slots: int, *, rough: bool = False) -> str:
    """Say how long trials will take together, such as ``about 7 min: 3 trials, 2 at a time``."""
    at_a_time = f", {min(slots, trials)} at a time" if trials > 1 else ""
    return f"{'roughly' if rough else 'about'} {duration(seconds)}: {trials} trial{'s' * (trials != 1)}{at_a_time}"


def finish_words(left: float | None, now: float | None = None) -> str:
    """Say when all will be done."""
    return "time left not known yet" if left is None else f"finishes {clock(left, now)}, {duration(left)} left"


def shorten(text: str, width: int, ellipsis: str = "…") -> str:
    """Cut the middle out of a name that is wider than `width` cells; its start and its end (the seed) stay."""
    if cell_len(text) <= width:
        return text
    if width <= len(ellipsis):
        return ellipsis[: max(width, 0)]
    tail = len(text) - (width - len(ellipsis)) // 2
    head = tail
    while head > 0 and cell_len(text[:head]) + cell_len(text[tail:]) + len(ellipsis) > width:
        head -= 1
    while tail < len(text) and cell_len(text[:head]) + cell_len(text[tail:]) + len(ellipsis) > width:
        tail += 1
    return text[:head] + ellipsis + text[tail:]


def bar(fraction: float, width: int, *, ascii_only: bool = False) -> Text:
    """Return a bar of `width` cells, filled to half a cell; it can be read without colour too."""
    halves = round(min(max(fraction, 0.0), 1.0) * width * 2)
    whole, half = divmod(halves, 2)
    full, point, line = ("#", "", "-") if ascii_only else ("━", "╸", "─")
    filled = full * whole + point * half
    style = "bar.finished" if halves == width * 2 else "bar.complete"
    return Text.assemble((filled, style), (line * (width - len(filled)), "bar.back"))


def table(
    titles: Sequence[str],
    rows: Sequence[Row],
    width: int | None,
    *,
    right: Sequence[str] = (),
    drop: Sequence[str] = (),
    narrowest: int = NARROWEST_NAME,
    first: int = 0,
    ellipsis: str = "…",
) -> list[Text]:
    """Return a table's lines: columns as wide as they need, the first shortened until the lines fit.

    Args:
        titles: Of the columns.
        rows: Their cells.
        width: Cells that a line may have, or None for as many as it needs.
        right: Titles of the columns that are set to the right.
        drop: Titles of columns that are left out, one after the other, rather than cut the first below `narrowest`.
        narrowest: The least width of the first column where it is cut.
        first: The width of the first column where there is room.
        ellipsis: Replaces what was cut out of the first column.
    """
    cells = [[Text(title, style="dim") for title in titles]]
    cells += [[cell if isinstance(cell, Text) else Text(one_line(cell)) for cell in row] for row in rows]
    sizes = [max(line[place].cell_len for line in cells) for place in range(len(titles))]
    shown = list(range(len(titles)))
    if width is not None:
        for title in drop:
            if sum(sizes[place] + GAP for place in shown) - GAP - max(sizes[0] - narrowest, 0) > width:
                shown = [place for place in shown if titles[place] != title]
        rest = sum(sizes[place] + GAP for place in shown[1:])
        sizes[0] = min(max(sizes[0], first), max(width - rest, narrowest))
    lines = []
    for row in cells:
        line = Text(no_wrap=True)
        for place in shown:
            line.append_text(_fitted(row[place], sizes[place], titles[place] in right, ellipsis))
            line.append(" " * GAP)
        line.rstrip()
        lines.append(_cut(line, width))
    return lines


def tally(counts: Mapping[str, int]) -> Text:
    """Return the counts of the states that there are, such as ``12 done, 1 failed, 4 running``."""
    words = {"elsewhere": "in another command"}
    parts = [Text(f"{count} {words.get(state, state)}", STYLES[state]) for state, count in counts.items() if count]
    return Text(", ").join(parts)


@dataclass(frozen=True)
class View:
    """What the live frame shows.

    Attributes:
        counts: How many trials are in each state.
        words: When all will be done.
        running: The trials that run now.
        recent: Those that ended last, the newest at the end.
        widest: Cells of the longest name of all, so that nothing moves when other trials come into view.
        stopped: Nothing runs any more; `running` are those that were stopped.
    """

    counts: Mapping[str, int]
    words: str = ""
    running: Sequence[TrialState] = ()
    recent: Sequence[TrialState] = ()
    widest: int = 0
    stopped: bool = False


def frame(view: View, width: int, height: int, *, ascii_only: bool = False) -> Text:
    """Return the whole display: at most `height` - 1 lines, each at least two cells narrower than `width`.

    The two are for the ``^C`` that a terminal may echo behind the last line, which must not begin another.
    """
    width -= 2
    lines = [_head(view, width, ascii_only), _cut(tally(view.counts), width)]
    room = max(height - 1 - len(lines) - 2, 1)  # for trials: an empty line and the titles go off
    running = view.running
    if len(running) > room:
        running = running[: room - 1]
    if running:
        lines += [Text(), *_running(view, running, width, ascii_only)]
        if len(running) < len(view.running):
            lines.append(_cut(Text(f"and {len(view.running) - len(running)} more running", "dim"), width))
    recent = list(view.recent)[-RECENT:]
    recent = recent[len(recent) - max(min(height - 2 - len(lines), len(recent)), 0) :]
    if recent:
        lines += [Text(), *_ended(recent, view.widest, width, ascii_only)]
    shown = Text("\n", no_wrap=True, overflow="crop").join(lines[: max(height - 1, 1)])
    shown.no_wrap, shown.overflow = True, "crop"
    return shown


def accuracy(trial: TrialState) -> str:
    """Return a trial's accuracy as it is shown; empty where there is none."""
    return "" if trial.accuracy is None else f"{trial.accuracy:.4f}"


def epochs(trial: TrialState) -> str:
    """Return a trial's finished epochs as they are shown, such as ``3/20``."""
    if not trial.epoch and trial.state != "running":
        return ""
    return f"{trial.epoch}/{trial.epochs or '?'}"


def left_words(trial: TrialState) -> str:
    """Say how long a running trial still needs, or what it does where that is no question of epochs."""
    if trial.state != "running":
        return ""
    if trial.epochs and trial.epoch >= trial.epochs:
        return "evaluating"
    if not trial.fraction:
        return "starting"
    return "" if trial.seconds_left is None else duration(trial.seconds_left)


def _head(view: View, width: int, ascii_only: bool) -> Text:
    total = sum(view.counts.values())
    ended = sum(view.counts.get(state, 0) for state in ("done", "failed", "damaged"))
    ahead = sum(trial.fraction for trial in view.running)
    lead = f"{ended}/{total} trials"
    room = width - len(lead) - len(view.words) - 2 * GAP
    fraction = (ended + ahead) / total if total else 1.0
    middle = bar(fraction, room, ascii_only=ascii_only) if room >= BAR[0] else Text()
    parts = [part for part in (Text(lead, "bold"), middle, Text(view.words)) if part.plain]
    return _cut(Text(" " * GAP).join(parts), width)


def _running(view: View, trials: Sequence[TrialState], width: int, ascii_only: bool) -> list[Text]:
    """One line a trial: name, device, bar, epoch, best accuracy, time left; the name and the bar share the room."""
    if view.stopped:
        trials = [replace(trial, state="interrupted") for trial in trials]
    metric = trials[0].metric
    best = f"best {metric.label}" if width >= 95 else "best" if metric.is_of_counts or metric.size else "best mAP"
    titles = ["stopped" if view.stopped else "running", "device", "progress", "epoch", best, "left"]
    device = max(len("device"), *(cell_len(trial.device or "") for trial in trials))
    epoch = max(len("epoch"), *(len(epochs(trial)) for trial in trials))
    left = 11  # the longest duration, so that nothing moves when minutes become hours
    room = width - sum(size + GAP for size in (device, epoch, len(best), left)) - GAP
    longest = max(len(titles[0]), view.widest, *(cell_len(trial.name) for trial in trials))
    size = max(min(room - longest, BAR[2]), min(BAR[1], room - NARROWEST_NAME), BAR[0])
    rows: list[Row] = [
        [
            trial.name,
            Text(one_line(trial.device or "").ljust(device), "dim"),
            bar(trial.fraction, size, ascii_only=ascii_only),
            epochs(trial).rjust(epoch),
            accuracy(trial),
            left_words(trial).rjust(left),
        ]
        for trial in trials
    ]
    drop = ("progress", "device", "left")
    return table(titles, rows, width, right=titles[-3:], drop=drop, first=longest, ellipsis=_ellipsis(ascii_only))


def _ended(trials: Sequence[TrialState], widest: int, width: int, ascii_only: bool) -> list[Text]:
    """One line a trial, without titles: how it ended, its accuracy or its kind of failure, what it took."""
    rows: list[Row] = []
    for trial in reversed(trials):
        what = f"{trial.metric.label} {accuracy(trial)}" if accuracy(trial) else ""
        if trial.failure:
            what = trial.failure.type
        took = "" if trial.seconds is None else f"in {duration(trial.seconds)}"
        rows.append([trial.name, Text(trial.state, STYLES[trial.state]), what, Text(took, "dim")])
    return table(["", "", "", ""], rows, width, first=widest, ellipsis=_ellipsis(ascii_only))[1:]


def _ellipsis(ascii_only: bool) -> str:
    return "~" if ascii_only else "…"


def _fitted(cell: Text, size: int, right: bool, ellipsis: str) -> Text:
    shown = Text(shorten(cell.plain, size, ellipsis), cell.style) if cell.cell_len > size else cell
    blanks = Text(" " * (size - shown.cell_len))
    return blanks + shown if right else shown + blanks


def _cut(line: Text, width: int | None) -> Text:
    if width is not None:
        line.truncate(width, overflow="crop")
    return line
