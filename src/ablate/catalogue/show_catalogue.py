"""Print the catalogue: as JSON, or for people with a row for each module and loss."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ablate.catalogue.figures import IMGSZ, MODEL, Figures, find_figures
from ablate.catalogue.figures import Progress as Report
from ablate.catalogue.listed_components import ListedComponent, listed_components, read_selection
from ablate.console import Terminal, is_animated, print_line
from ablate.errors import count
from ablate.measuring.processor import processor_name
from ablate.monitor.render import Row, table

TITLES = ("name", "kind", "family", "at", "+M par.", "+GFLOPs", "x stock", "paper")
NUMBERS = ("+M par.", "+GFLOPs", "x stock")


def show_catalogue(words: Sequence[str], *, figures: bool = False, measure: bool = False, as_json: bool = False) -> int:
    """Print the modules and losses that some words mean; return the exit code.

    Args:
        words: Names, patterns, and filters such as ``family=attention``; none: everything.
        figures: Show parameters and GFLOPs; those that are not known yet are counted.
        measure: Also measure latencies.
        as_json: Print JSON to stdout.

    Raises:
        ConfigError: There is no such filter, or a name matches nothing.
    """
    components = listed_components(read_selection(words))
    console = Terminal(stderr=as_json)
    counted: dict[str, Figures] = {}
    if figures or measure:
        with _progress(console) as report:
            counted = find_figures(components, timed=measure, on_progress=report)
    if as_json:
        print(catalogue_json(components, counted))  # noqa: T201
    else:
        _print(components, counted, console)
    return 0


def catalogue_json(components: Sequence[ListedComponent], counted: Mapping[str, Figures]) -> str:
    """Return a catalogue as one line of JSON."""
    rows = []
    for component in components:
        figures = counted.get(component.text)
        is_counted = figures is not None and not figures.problem
        rows.append({
            "name": component.name,
            "kinds": component.kinds,
            "family": component.family,
            "paper": component.paper,
            "point": component.point,
            "params_added": figures.params_added if figures and is_counted else None,
            "gflops_added": round(figures.gflops_added, 4) if figures and is_counted else None,
            "places": figures.places if figures and is_counted else None,
            "latency_ratio": figures.latency_ratio if figures else None,
            "problem": component.problem or (figures.problem if figures else ""),
        })  # fmt: skip
    timed = any(row["latency_ratio"] is not None for row in rows)
    content = {"model": MODEL, "imgsz": IMGSZ, "processor": processor_name() if timed else None, "components": rows}
    return json.dumps(content)


def _print(components: Sequence[ListedComponent], counted: Mapping[str, Figures], console: Terminal) -> None:
    rows = [_row(component, counted.get(component.text)) for component in components]
    filled = [index for index in range(len(TITLES)) if index in (0, len(TITLES) - 1) or any(row[index] for row in rows)]
    titles, rows = [TITLES[index] for index in filled], [[row[index] for index in filled] for row in rows]
    width = console.width if console.is_terminal else None
    for line in table(titles, rows, width, right=NUMBERS, drop=("family",)):
        print_line(console, line)
    print_line(console, "")
    for note in _notes(components, counted):
        print_line(console, note)


def _row(component: ListedComponent, figures: Figures | None) -> Row:
    problem = component.problem or (figures.problem if figures else "")
    numbers = ["", "", ""]
    if figures is not None and not problem:
        ratio = "" if figures.latency_ratio is None else f"{figures.latency_ratio:.2f}"
        numbers = [f"{figures.params_added / 1e6:+.3f}", f"{figures.gflops_added:+.2f}", ratio]
    return [
        component.name,
        ", ".join(component.kinds),
        component.family,
        component.point,
        *numbers,
        f"cannot be built: {problem}" if problem else component.paper,
    ]


def _notes(components: Sequence[ListedComponent], counted: Mapping[str, Figures]) -> Iterator[str]:
    modules = [component for component in components if not component.is_loss]
    losses = len(components) - len(modules)
    yield f"{count(len(modules), 'module')}, {count(losses, 'loss', 'losses')}"
    if counted:
        yield f"+M par., +GFLOPs: what it adds to {MODEL} at the point named, deployed, at {IMGSZ} px"
    if any(figures.latency_ratio is not None for figures in counted.values()):
        yield f"x stock: latency over that of the stock network, one thread of {processor_name()}, medians"
    if any(each.text not in counted and each.graft is not None for each in modules):
        yield "parameters and GFLOPs: --figures; latency on this machine: --measure"


@contextmanager
def _progress(console: Terminal) -> Iterator[Report | None]:
    """A bar on a terminal, which is there only while modules are counted; None elsewhere."""
    if not is_animated(console):
        yield None
        return
    bar = Progress(
        TextColumn("counting modules"), BarColumn(), TextColumn("{task.completed}/{task.total}"),
        TextColumn("{task.description}", markup=False), TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    task = bar.add_task("")

    def show(done: int, total: int, name: str) -> None:
        if not bar.live.is_started:
            bar.start()
        bar.update(task, completed=done, total=total, description=name)

    try:
        yield show
    finally:
        bar.stop()
