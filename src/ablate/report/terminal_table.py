"""The comparison in a terminal: the columns that fit, whole numbers, notes beneath."""

from __future__ import annotations

import string
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from ablate.analysis.columns import OTHERS
from ablate.analysis.comparison import Comparison
from ablate.analysis.data_sets import data_set_studies
from ablate.analysis.image_intervals import compute_intervals
from ablate.analysis.split_comparison import TestSplit, compare_splits, on_test_split
from ablate.analysis.variant_row import Row
from ablate.console import Terminal
from ablate.errors import count
from ablate.evaluation.image_bootstrap import RESAMPLES
from ablate.findings.all_findings import findings, remarks
from ablate.findings.control_findings import ALARM
from ablate.findings.facts import headline
from ablate.findings.finding import Kind
from ablate.records.sweep_record import Sweep
from ablate.report.captions import others_legend
from ablate.report.data_set_table import data_set_columns
from ablate.report.split_table import has_marks, openings_text, split_columns
from ablate.report.text_table import CHECK, TableColumn, best_rows, mark_columns, short_lines, text_columns
from ablate.safe_text import one_line

ASCII = {"Δ": "delta", "×": "x", "±": "+-", OTHERS: "*"}  # noqa: RUF001
NARROWEST_LABEL = 14
GAP = 2  # blanks between columns
UNFAIR = "!"  # in the notes column: not comparable with the baseline
OVER_DATA_SETS = {
    name: rank for rank, name in enumerate(("mean", "higher", "probability", "interval", "p_holm", "rank"))
}
ON_TEST = {
    name: rank for rank, name in enumerate(("test", "test_delta", "test_verdict", "validation", "fall", "p_holm"))
}
SENTENCES = 8  # more of them are not read; the pages have all
RULE = box.Box("    \n    \n -- \n" + "    \n" * 5, ascii=True)  # a line under the head, and nothing else


def print_table(comparison: Comparison, *, console: Console | None = None) -> None:
    """Print table, notes and findings of a comparison.

    Columns are chosen by the console's width; numbers are never wrapped or cut. Colour is left to
    the console (rich: only on a terminal, and not with NO_COLOR). Falls back to ASCII where the
    console's encoding has no Greek.
    """
    console = console or Terminal()
    ascii_only = not _can_encode(console.encoding)
    notes = _Notes()
    references = [
        notes.numbers(row.notes) if row.is_comparable else f"{UNFAIR} {notes.numbers(row.notes)}".rstrip()
        for row in comparison.rows
    ]
    console.print(Text(one_line(f"{comparison.sweep.name}: {headline(comparison)}"), style="bold"))
    if comparison.rows:
        heads = _component_heads([one_line(column.title) for column in mark_columns(comparison)], console.width)
        console.print(_grid(comparison, references, heads, console.width, ascii_only))
        for name, title in heads.items():
            if title.replace("\n", "") != name:
                _print_sentence(console, f"{title} = ", name, ascii_only)
    for number, note in enumerate(notes.seen, start=1):
        _print_sentence(console, f"[{number}] ", note, ascii_only, style="yellow")
    if not all(row.is_comparable for row in comparison.rows):
        meaning = "not comparable with its baseline, or has none (strict=true leaves these rows out)"
        _print_sentence(console, f"{UNFAIR}   ", meaning, ascii_only, style="yellow")
    if any(row.is_over_others for row in comparison.rows):
        _print_legend(comparison, console, ascii_only)
    for study in data_set_studies(comparison):
        console.print()
        head = f"{len(study.data)} data sets{f', {study.title}' if study.title else ''}, against {study.baseline}"
        console.print(Text(one_line(head), style="bold"))
        console.print(_fitting(data_set_columns(study), OVER_DATA_SETS, console.width, ascii_only))
    if comparison.on_test is not None:
        console.print()
        _print_test_split(comparison.on_test, console, ascii_only)
    console.print()
    all_found = findings(comparison)
    rest, texts = [[finding.text for finding in group] for group in (remarks(comparison), all_found)]
    on_test = [finding.text for finding in all_found if finding.kind is Kind.TEST_SPLIT]
    foremost = texts[: max(1, SENTENCES - len(rest))]
    shown = [*foremost, *(text for text in on_test if text not in foremost)]
    for sentence in [*shown, *rest]:
        _print_sentence(console, "- ", sentence, ascii_only, style="bold red" if sentence.startswith(ALARM) else "")
    if len(texts) > len(shown):
        _print_sentence(
            console, "  ", f"{count(len(texts) - len(shown), 'more finding')} in comparison.html", ascii_only
        )


def _print_legend(comparison: Comparison, console: Console, ascii_only: bool) -> None:
    """What the mark beside an accuracy means."""
    mark, meaning = others_legend(comparison).split(": ", 1)
    _print_sentence(console, f"{_letters(mark, ascii_only)}   ", meaning, ascii_only, style="yellow")


def _print_test_split(split: TestSplit, console: Console, ascii_only: bool) -> None:
    """The variants on the test split, when that was opened, and what it says."""
    console.print(Text(one_line(f"Test split, {count(len(split.rows), 'variant')}"), style="bold"))
    if split.rows:
        console.print(_fitting(split_columns(split), ON_TEST, console.width, ascii_only))
    if has_marks(split):
        _print_legend(split.comparison, console, ascii_only)
    for line in openings_text(split):
        _print_sentence(console, "", line, ascii_only, style="yellow" if split.damage else "")


def _fitting(all_columns: Sequence[TableColumn], ranks: dict[str, int], width: int, ascii_only: bool) -> Table:
    """A table of names, and the columns that fit, by their rank; those without one come last."""
    names, *columns = all_columns
    titles = {column.name: _letters(column.title, ascii_only) for column in columns}
    label = min(max(len("Variant"), *map(len, names.cells)), max(NARROWEST_LABEL, width * 2 // 5))
    room, fitting = width - label, set()
    for column in sorted(columns, key=lambda one: ranks.get(one.name, len(ranks))):
        size = GAP + _size(column, titles)
        if size <= room:
            fitting.add(column.name)
            room -= size
    shown = [column for column in columns if column.name in fitting]
    grid = Table(
        box=RULE if ascii_only else box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0)
    )
    grid.add_column("Variant", overflow="fold", width=label)
    for column in shown:
        grid.add_column(titles[column.name], justify="left" if column.kind == "text" else "right", no_wrap=True)
    for index, name in enumerate(names.cells):
        grid.add_row(Text(one_line(name)), *(Text(_letters(column.cells[index], ascii_only)) for column in shown))
    return grid


def compare_with_progress(sweep: Sweep, console: Console, *, strict: bool, resamples: int = RESAMPLES) -> Comparison:
    """Compute the intervals over images that are not known yet, with progress on the console, and compare a sweep."""
    with image_progress(console) as progress:
        for one in (sweep, on_test_split(sweep)):
            if one is not None:
                compute_intervals(one, resamples=resamples, on_progress=progress)
    return compare_splits(sweep, strict=strict)


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

    def show(variant: str, share: float) -> None:
        if not progress.live.is_started:
            progress.start()
        progress.update(task, completed=share, description=variant)

    try:
        yield show
    finally:
        progress.stop()


class _Notes:
    """Notes, each said once, numbered in the order in which a reader of the rows meets them."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def numbers(self, notes: Sequence[str]) -> str:
        """References like '1,3' for the notes of a row, ascending."""
        numbers: list[int] = []
        for note in notes:
            if note not in self.seen:
                self.seen.append(note)
            numbers.append(self.seen.index(note) + 1)
        return ",".join(map(str, sorted(numbers)))


def _component_heads(components: Sequence[str], width: int) -> dict[str, str]:
    """Heads of the columns with check marks: the components' names in short lines, or letters where these are many."""
    heads = {name: "\n".join(short_lines(name)) for name in components}
    if sum(_breadth(head) + GAP for head in heads.values()) > width // 3:
        return dict(zip(components, string.ascii_uppercase, strict=False))
    return heads


def _breadth(head: str) -> int:
    return max(map(len, head.splitlines()))


def _grid(
    comparison: Comparison, references: Sequence[str], heads: dict[str, str], width: int, ascii_only: bool
) -> Table:
    """The rich table with as many columns as fit; a variant's name may be among those that do not."""
    shown = [column for column in text_columns(comparison, "table", components=False) if column.kind == "number"]
    titles = {column.name: _title(column, ascii_only) for column in shown}
    noted = max(map(len, references), default=0)
    room = width - (max(noted, len("note")) + GAP if noted else 0)
    room -= sum(_breadth(head) + GAP for head in heads.values())
    labels = [one_line(row.label) for row in comparison.rows]
    label, fitting = _what_fits(shown, labels, titles, room, None if comparison.is_named_by_marks else width * 2 // 5)
    grid = Table(
        box=RULE if ascii_only else box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, GAP - 1, 0, 0)
    )
    for title in heads.values():
        grid.add_column(title, justify="center", no_wrap=True, width=_breadth(title))
    if label:
        grid.add_column("Variant", overflow="fold", width=label)
    columns = [column for column in shown if column.name in fitting]
    for column in columns:
        grid.add_column(titles[column.name], justify="right", no_wrap=True, min_width=_size(column, titles))
    if noted:
        grid.add_column("note", no_wrap=True, style="yellow")
    best = best_rows(comparison)
    position = 0
    for group in comparison.groups:
        for row in group.rows:
            marks = row.variant.marks
            cells = [_mark(None if marks is None else marks[i], ascii_only) for i in range(len(heads))]
            cells += [Text(one_line(row.label), style="" if row.replicates else "dim")] if label else []
            cells += [
                Text(_letters(_aligned(one, position), ascii_only), style=_style(one, position, row, best))
                for one in columns
            ]
            cells += [Text(references[position])] if noted else []
            grid.add_row(*cells, end_section=row is group.rows[-1])
            position += 1
    return grid


def _title(column: TableColumn, ascii_only: bool) -> str:
    return _letters((column.column.short if column.column else "") or column.title, ascii_only)


def _letters(text: str, ascii_only: bool) -> str:
    """Text without the letters that an ASCII console lacks."""
    return "".join(ASCII.get(letter, letter) for letter in text) if ascii_only else text


def _what_fits(
    shown: Sequence[TableColumn], labels: Sequence[str], titles: dict[str, str], room: int, broadest: int | None
) -> tuple[int, set[str]]:
    """Width of the variants' names (0: left out), and the columns for which there is room.

    Names are at most `broadest` and may fold; with None they are whole, and there only if room is left in the end.
    """
    longest = max(len("Variant"), *map(len, labels))
    ranked = sorted((c for c in shown if c.column and "terminal" in c.column.places), key=_rank)
    sizes = {column.name: GAP + _size(column, titles) for column in ranked}
    must = [column.name for column in ranked if column.column and column.column.role]
    used = sum(sizes[name] for name in must)
    label = 0
    if broadest is not None:
        label = min(longest, max(NARROWEST_LABEL, broadest))
        label = max(NARROWEST_LABEL, min(label, room - used))
    fitting, used = set(must), used + label
    for name in sizes:
        if name not in fitting and used + sizes[name] <= room:
            fitting.add(name)
            used += sizes[name]
    if broadest is None and used + GAP + longest <= room:
        label = longest
    return label, fitting


def _rank(column: TableColumn) -> int:
    return column.column.places["terminal"] if column.column else 0


def _size(column: TableColumn, titles: dict[str, str]) -> int:
    return max(len(titles[column.name]), *map(len, column.cells))


def _aligned(column: TableColumn, position: int) -> str:
    """A number, with a blank in place of the mark that others of its column have behind them."""
    text = column.cells[position]
    has_marks = any(cell.endswith(OTHERS) for cell in column.cells)
    return f"{text} " if has_marks and not text.endswith(OTHERS) else text


def _mark(mark: bool | None, ascii_only: bool) -> Text:
    """A check mark, a dot for a component that is not there, nothing for a variant outside of the design."""
    if mark:
        return Text("x" if ascii_only else CHECK, style="bold")
    return Text("" if mark is None else "." if ascii_only else "·", style="dim")


def _style(column: TableColumn, position: int, row: Row, best: dict[str, set[int]]) -> str:
    """Bold for the best; green or red for a difference that is supported."""
    is_difference = column.name == "delta_ci" or (column.column is not None and column.column.role == "difference")
    if is_difference and row.difference is not None and row.supported:
        return "green" if row.difference.estimate > 0 else "red"
    return "bold" if position in best.get(column.name, ()) else ""


def _print_sentence(console: Console, lead: str, text: str, ascii_only: bool, style: str = "") -> None:
    """Print a sentence with a hanging lead, folded at words."""
    grid = Table.grid(padding=0)
    grid.add_column(no_wrap=True)
    grid.add_column()
    text = one_line(text)
    shown = _letters(text, ascii_only).encode("ascii", "replace").decode() if ascii_only else text
    grid.add_row(Text(lead, style=style), Text(shown))
    console.print(grid)


def _can_encode(encoding: str | None) -> bool:
    """Whether the letters and lines of the table exist in an encoding."""
    try:
        f"Δ×±{OTHERS}─✓·".encode(encoding or "ascii")  # noqa: RUF001
    except (UnicodeEncodeError, LookupError):
        return False
    return True
