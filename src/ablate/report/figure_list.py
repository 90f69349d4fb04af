"""All figures of a report: what each is called, what it shows, and how it is drawn and written."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from ablate.records.records import Sweep
from ablate.report.figures import KINDS
from ablate.report.figures.style import ONE_COLUMN, Drawing, encode, groups_of
from ablate.storage.files import atomic_write_bytes

if TYPE_CHECKING:
    from ablate.report.html import Picture

NAMES = (
    "differences", "accuracy_latency", "training_curves", "per_class", "effects", "interactions", "latency",
    "found_missed", "samples",
)  # fmt: skip
PHOTOGRAPHS = ("found_missed", "samples")
GROUPS = 4  # comparison groups that get a figure of their own


@dataclass(frozen=True)
class Entry:
    """One figure of the gallery: its file's name without ending, its title, and who draws it.

    `draw` returns None where the records hold nothing to draw.
    """

    name: str
    title: str
    draw: Callable[[], Drawing | None]


def gallery(sweep: Sweep, table: pd.DataFrame) -> list[Entry]:
    """All figures that a report may have, in its order."""
    from ablate.report.figures.classes import class_heat_map
    from ablate.report.figures.curves import training_curves
    from ablate.report.figures.detections import found_and_missed
    from ablate.report.figures.distribution import latency_distribution
    from ablate.report.figures.effects import factor_effects, interactions
    from ablate.report.figures.forest import forest
    from ablate.report.figures.samples import sample_detections
    from ablate.report.figures.tradeoff import accuracy_against_latency

    return [
        Entry("differences", "Differences to the baseline", lambda: forest(table)),
        Entry("accuracy_latency", "Accuracy against latency", lambda: accuracy_against_latency(table)),
        Entry("training_curves", "Training curves", lambda: training_curves(sweep, table)),
        *_each_group(table, "per_class", "Classes", lambda rows: class_heat_map(sweep, rows)),
        Entry("effects", "Effects of factors", lambda: factor_effects(sweep, table)),
        Entry("interactions", "Interactions of factors", lambda: interactions(sweep, table)),
        Entry("latency", "Distribution of latency", lambda: latency_distribution(sweep, table)),
        *_each_group(table, "found_missed", "What is found and missed", lambda rows: found_and_missed(sweep, rows)),
        *_each_group(table, "samples", "Sample detections", lambda rows: sample_detections(sweep, rows)),
    ]


def hang(
    sweep: Sweep, table: pd.DataFrame, out: Path, kinds: Collection[str] = KINDS
) -> tuple[list[Picture], dict[str, Path], list[str]]:
    """Draw every figure for which there are records, and write it as files of these kinds; for no kind draw nothing.

    A figure that cannot be drawn costs only itself; files of an earlier report whose figure is no longer drawn are
    removed. Raises OSError when the folder cannot be written.

    Returns:
        The figures for the page, the files by name, and what could not be drawn, in words.
    """
    from ablate.report.html import Picture

    pictures, files, problems = [], {}, []
    for entry in gallery(sweep, table) if kinds else ():
        try:
            drawing = entry.draw()
            contents = {} if drawing is None else {kind: encode(drawing.figure, kind, dpi=200) for kind in kinds}
        except Exception as error:  # one figure must not take the table along
            problems.append(f"the figure {entry.name} could not be drawn: {type(error).__name__}: {error}")
            continue
        if drawing is None:
            continue
        for kind, content in contents.items():
            path = out / f"{entry.name}.{kind}"
            atomic_write_bytes(path, content)
            files[path.name] = path
        photographs = entry.name.startswith(PHOTOGRAPHS)
        shown = (
            encode(drawing.figure, "jpg", dpi=170)
            if photographs
            else contents.get("svg") or encode(drawing.figure, "svg")
        )
        pictures.append(
            Picture(
                title=entry.title,
                caption=drawing.caption,
                content=shown,
                kind="jpg" if photographs else "svg",
                name=entry.name,
                files=tuple(f"{entry.name}.{kind}" for kind in KINDS[::-1] if kind in kinds),
                rows=drawing.rows,
                counts=drawing.counts,
                narrow=bool(drawing.figure.get_size_inches()[0] <= ONE_COLUMN),
            )
        )
    _remove_earlier(out, files)
    return pictures, files, problems


def _each_group(
    table: pd.DataFrame, name: str, title: str, draw: Callable[[pd.DataFrame], Drawing | None]
) -> Iterator[Entry]:
    """An entry for each comparison group, as many as a reader will look at."""
    groups = groups_of(table)
    most = f" (the first {GROUPS} of {len(groups)} groups are drawn)" if len(groups) > GROUPS else ""
    for number, rows in enumerate(groups[:GROUPS], start=1):
        several = len(groups) > 1
        yield Entry(
            f"{name}_{number}" if several else name,
            f"{title}: {rows['variant'].iloc[0]} and what is compared with it{most}" if several else title,
            lambda rows=rows: draw(rows),  # type: ignore[misc]
        )


def _remove_earlier(out: Path, files: dict[str, Path]) -> None:
    """Remove figures that an earlier report wrote and this one did not."""
    ours = re.compile(rf"({'|'.join(NAMES)})(_\d+)?\.({'|'.join(KINDS)})")
    for path in out.iterdir() if out.is_dir() else ():
        if ours.fullmatch(path.name) and path.name not in files:
            path.unlink(missing_ok=True)
