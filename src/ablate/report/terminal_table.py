"""The comparison in a terminal: the columns that fit, whole numbers, notes beneath."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ablate.analysis.columns import components_of, rows_of
from ablate.analysis.number_format import CHECK, SHOWN, best_rows, display, named_by_marks, short_lines
from ablate.findings.all_findings import findings, head, remarks
from ablate.findings.control_findings import ALARM
from ablate.records.records import Sweep
from ablate.statistics.paired import ALPHA

# Least important last: columns are dropped from the end until the table fits.
PRIORITY = (
    "map50_95", "delta_map50_95", "delta_ci", "latency_ms", "latency_ratio", "map50", "params_m", "gflops",
    "p_holm", "train_minutes", "replicates", "map50_95_std", "peak_memory_gb", "precision", "recall",
    "latency_p95_ms", "p_value",
)  # fmt: skip
SHORT_TITLES = {
    "delta_ci": "95% CI", "delta_map50_95": "Δ", "p_holm": "p Holm", "params_m": "M par.",
    "latency_ms": "lat. ms", "latency_p95_ms": "p95 ms", "latency_ratio": "× base",  # noqa: RUF001
    "train_minutes": "min", "peak_memory_gb": "GB", "replicates": "n", "map50_95_std": "±",
    "precision": "P", "recall": "R",
}  # fmt: skip
PLAIN = {"Δ": "delta", "× base": "x base", "±": "+-"}  # noqa: RUF001
NARROWEST_LABEL = 14
GAP = 2  # blanks between columns
UNFAIR = "!"  # in the notes column: not comparable with the baseline
SENTENCES = 8  # more of them are not read; the pages have all
RULE = box.Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)  # a line under the head, and nothing else


def print_table(sweep: Sweep, table: pd.DataFrame, *, console: Console | None = None) -> None:
    """Print table, notes and findings of a comparison.

    Columns are chosen by the console's width; numbers are never wrapped or cut. Colour is left to
    the console (rich: only on a terminal, and not with NO_COLOR). Falls back to ASCII where the
    console's encoding has no Greek.
    """
    console = console or Console(highlight=False, emoji=False)
    ascii_only = not _speaks(console.encoding)
    notes = _Notes()
    shown = display(table)
    marks = [
        f"{UNFAIR} {notes.mark(text)}".rstrip() if fair == "no" else notes.mark(text)
        for fair, text in zip(shown["comparable"], shown["notes"], strict=True)
    ]
    console.print(Text(f"{sweep.name}: {head(sweep, table)}", style="bold"))
    if len(table):
        heads = _component_heads(components_of(table), console.width)
        console.print(_grid(table, shown, marks, heads, console.width, ascii_only))
        for name, title in heads.items():
            if title.replace("\n", "") != name:
                _say(console, f"{title} = ", name, ascii_only)
    for number, note in enumerate(notes.seen, start=1):
        _say(console, f"[{number}] ", note, ascii_only, style="yellow")
    if (table["comparable"] == "no").any():
        said = "not comparable with its baseline, or has none (strict=true leaves these rows out)"
        _say(console, f"{UNFAIR}   ", said, ascii_only, style="yellow")
    console.print()
    rest = remarks(sweep, table)
    found = findings(sweep, table)
    said_here = found[: max(1, SENTENCES - len(rest))]
    for sentence in [*said_here, *rest]:
        _say(console, "- ", sentence, ascii_only, style="bold red" if sentence.startswith(ALARM) else "")
    if len(found) > len(said_here):
        _say(console, "  ", f"{len(found) - len(said_here)} more findings are in comparison.html", ascii_only)


@contextmanager
def image_progress(console: Console) -> Iterator[Callable[[str, float], None] | None]:
    """A line on a terminal for `compute_intervals`, which is there only while it works; None elsewhere."""
    if not console.is_terminal:
        yield None
        return
    progress = Progress(
        TextColumn("resampling images"), BarColumn(), TaskProgressColumn(),
        TextColumn("{task.description}", markup=False), TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    task = progress.add_task("", total=1.0)

    def told(variant: str, share: float) -> None:
        if not progress.live.is_started:
            progress.start()
        progress.update(task, completed=share, description=variant)

    try:
        yield told
    finally:
        progress.stop()


class _Notes:
    """Numbered notes, each said once."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def mark(self, text: str) -> str:
        """References like '1,3' for notes that are joined by '; '."""
        numbers = []
        for note in filter(None, text.split("; ")):
            if note not in self.seen:
                self.seen.append(note)
            numbers.append(str(self.seen.index(note) + 1))
        return ",".join(numbers)


def _component_heads(components: Sequence[str], width: int) -> dict[str, str]:
    """Heads of the columns with check marks: the components' names in short lines, or letters where these are many."""
    heads = {name: "\n".join(short_lines(name)) for name in components}
    if sum(_breadth(head) + GAP for head in heads.values()) > width // 3:
        return dict(zip(components, string.ascii_uppercase, strict=False))
    return heads


def _breadth(head: str) -> int:
    return max(map(len, head.splitlines()))


def _grid(
    table: pd.DataFrame,
    shown: pd.DataFrame,
    marks: Sequence[str],
    heads: dict[str, str],
    width: int,
    ascii_only: bool,
) -> Table:
    """The rich table with as many columns as fit; a variant's name may be among those that do not."""
    titles = {column.source: SHORT_TITLES.get(column.source, column.title) for column in SHOWN}
    if ascii_only:
        titles = {name: PLAIN.get(title, title) for name, title in titles.items()}
    marked = max(map(len, marks), default=0)
    room = width - (max(marked, len("note")) + GAP if marked else 0)
    room -= sum(_breadth(head) + GAP for head in heads.values())
    label, kept = _what_fits(shown, titles, room, None if named_by_marks(table) else width * 2 // 5)
    lines = RULE if ascii_only else box.SIMPLE_HEAD
    grid = Table(box=lines, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0))
    for title in heads.values():
        grid.add_column(title, justify="center", no_wrap=True, width=_breadth(title))
    if label:
        grid.add_column("Variant", overflow="fold", width=label)
    columns = [column.source for column in SHOWN if column.source in kept]
    for name in columns:
        grid.add_column(titles[name], justify="right", no_wrap=True, min_width=_size(shown, titles, name))
    if marked:
        grid.add_column("note", no_wrap=True, style="yellow")
    best = best_rows(table)
    groups = list(table["comparison_key"])
    for position, row in enumerate(rows_of(shown)):
        cells = [_mark(row[name], table[name].iloc[position], ascii_only) for name in heads]
        cells += [Text(row["variant"], style="dim" if row["replicates"] == "0" else "")] if label else []
        cells += [Text(row[name], style=_style(name, position, table.iloc[position], best)) for name in columns]
        cells += [Text(marks[position])] if marked else []
        last = position + 1 == len(groups) or groups[position + 1] != groups[position]
        grid.add_row(*cells, end_section=last)
    return grid


def _what_fits(shown: pd.DataFrame, titles: dict[str, str], room: int, broadest: int | None) -> tuple[int, set[str]]:
    """Width of the variants' names (0: left out), and the columns for which there is room.

    Names are at most `broadest` and may fold; with None they are whole, and there only if room is left in the end.
    """
    longest = max(len("Variant"), *map(len, shown["variant"]))
    sizes = {name: GAP + _size(shown, titles, name) for name in PRIORITY if name in shown.columns}
    must: list[str] = [name for name in ("map50_95", "delta_map50_95") if name in sizes]
    used = sum(sizes[name] for name in must)
    label = 0
    if broadest is not None:
        label = min(longest, max(NARROWEST_LABEL, broadest))
        label = max(NARROWEST_LABEL, min(label, room - used))
    kept, used = set(must), used + label
    for name in sizes:
        if name not in kept and used + sizes[name] <= room:
            kept.add(name)
            used += sizes[name]
    if broadest is None and used + GAP + longest <= room:
        label = longest
    return label, kept


def _size(shown: pd.DataFrame, titles: dict[str, str], name: str) -> int:
    return max(len(titles[name]), *map(len, shown[name]))


def _mark(check: str, mark: str, ascii_only: bool) -> Text:
    """A check mark, a dot for a component that is not there, nothing for a variant outside of the design."""
    if check:
        return Text("x" if ascii_only else CHECK, style="bold")
    return Text(("." if ascii_only else "·") if mark else "", style="dim")


def _style(name: str, position: int, row: pd.Series, best: dict[str, set[int]]) -> str:
    """Bold for the best; green or red for a difference that is supported (corrected, comparable)."""
    if name in ("delta_map50_95", "delta_ci") and row["p_holm"] < ALPHA and row["comparable"] == "yes":
        return "green" if row["delta_map50_95"] > 0 else "red"
    return "bold" if position in best.get(name, ()) else ""


def _say(console: Console, lead: str, text: str, ascii_only: bool, style: str = "") -> None:
    """Print a sentence with a hanging lead, folded at words."""
    grid = Table.grid(padding=0)
    grid.add_column(no_wrap=True)
    grid.add_column()
    shown = text.encode("ascii", "replace").decode() if ascii_only else text
    grid.add_row(Text(lead, style=style), Text(shown))
    console.print(grid)


def _speaks(encoding: str | None) -> bool:
    """Whether the letters and lines of the table exist in an encoding."""
    try:
        "Δ×±─✓·".encode(encoding or "ascii")  # noqa: RUF001
    except (UnicodeEncodeError, LookupError):
        return False
    return True
