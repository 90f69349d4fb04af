"""All figures of a report: what each is called, what it shows, and how it is drawn and written."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ablate.analysis.comparison import Comparison, Group
from ablate.report.figures import KINDS
from ablate.report.figures.style import Drawing, encode
from ablate.storage.files import atomic_write_bytes

if TYPE_CHECKING:
    from ablate.report.html import Picture

NAMES = (
    "differences", "looks", "accuracy_latency", "training_curves", "per_class", "effects", "interactions", "latency",
    "data_sets", "critical_difference", "validation_test", "found_missed", "samples",
)  # fmt: skip
PHOTOGRAPHS = ("found_missed", "samples")
GROUPS = 4  # comparison groups that get a figure of their own


@dataclass(frozen=True)
class FigureEntry:
    """One figure of a report: its file's name without ending, its title, and who draws it.

    `draw` returns None where the records hold nothing to draw.
    """

    name: str
    title: str
    draw: Callable[[], Drawing | None]


def figure_list(comparison: Comparison) -> list[FigureEntry]:
    """All figures that a report may have, in its order."""
    from ablate.report.figures.classes import class_heat_map
    from ablate.report.figures.curves import training_curves
    from ablate.report.figures.data_sets import critical_difference, over_data_sets
    from ablate.report.figures.detections import found_and_missed
    from ablate.report.figures.distribution import latency_distribution
    from ablate.report.figures.effects import factor_effects, interactions
    from ablate.report.figures.forest import forest
    from ablate.report.figures.looks import looks_by_seeds
    from ablate.report.figures.samples import sample_detections
    from ablate.report.figures.splits import validation_and_test
    from ablate.report.figures.tradeoff import accuracy_against_latency

    def each_group(name: str, title: str, draw: Callable[[Group], Drawing | None]) -> Iterator[FigureEntry]:
        return _each_group(comparison.groups, name, title, draw)

    sweep, noun = comparison.sweep, "factors" if comparison.sweep.design is None else "components"
    return [
        FigureEntry("differences", "Differences to the baseline", lambda: forest(comparison)),
        FigureEntry("looks", "Looks at a growing number of seeds", lambda: looks_by_seeds(comparison)),
        FigureEntry("accuracy_latency", "Accuracy against latency", lambda: accuracy_against_latency(comparison)),
        FigureEntry("training_curves", "Training curves", lambda: training_curves(comparison)),
        *each_group("per_class", "Accuracy by class", class_heat_map),
        FigureEntry("effects", f"Effects of {noun}", lambda: factor_effects(comparison)),
        FigureEntry("interactions", f"Interactions of {noun}", lambda: interactions(comparison)),
        FigureEntry("data_sets", "Differences on several data sets", lambda: over_data_sets(comparison)),
        FigureEntry("critical_difference", "Mean ranks over data sets", lambda: critical_difference(comparison)),
        FigureEntry("validation_test", "Validation images and test split", lambda: validation_and_test(comparison)),
        FigureEntry("latency", "Distribution of latency", lambda: latency_distribution(comparison)),
        *each_group("found_missed", "Objects detected and missed", lambda group: found_and_missed(sweep, group)),
        *each_group("samples", "Sample detections", lambda group: sample_detections(sweep, group)),
    ]


def write_figures(
    comparison: Comparison, out: Path, kinds: Collection[str] = KINDS
) -> tuple[list[Picture], dict[str, Path], list[str]]:
    """Draw every figure for which there are records, and write it as files of these kinds; for no kind draw nothing.

    A figure that cannot be drawn costs only itself; files of an earlier report whose figure is no longer drawn are
    removed. Raises OSError when the folder cannot be written.

    Returns:
        The figures for the page, the files by name, and what could not be drawn, in words.
    """
    pictures, files, problems = [], {}, []
    for entry in figure_list(comparison) if kinds else ():
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
        pictures.append(_picture(entry, drawing, contents))
    _remove_earlier(out, files)
    return pictures, files, problems


def _picture(entry: FigureEntry, drawing: Drawing, contents: dict[str, bytes]) -> Picture:
    """A figure for the page: photographs as JPEG, all else as SVG."""
    from ablate.report.html import Picture

    is_photograph = entry.name.startswith(PHOTOGRAPHS)
    if is_photograph:
        content = encode(drawing.figure, "jpg", dpi=170)
    else:
        content = contents.get("svg") or encode(drawing.figure, "svg")
    return Picture(
        title=entry.title,
        caption=drawing.caption,
        content=content,
        kind="jpg" if is_photograph else "svg",
        name=entry.name,
        files=tuple(f"{entry.name}.{kind}" for kind in KINDS[::-1] if kind in contents),
        rows=drawing.rows,
        counts=drawing.counts,
        alt=drawing.alt,
    )


def _each_group(
    groups: Sequence[Group], name: str, title: str, draw: Callable[[Group], Drawing | None]
) -> Iterator[FigureEntry]:
    """An entry for each comparison group, as many as a reader will look at."""
    several = len(groups) > 1
    limit = f" (the first {GROUPS} of {len(groups)} groups are drawn)" if len(groups) > GROUPS else ""
    for number, group in enumerate(groups[:GROUPS], start=1):
        yield FigureEntry(
            f"{name}_{number}" if several else name,
            f"{title}: {group.rows[0].label} and what is compared with it{limit}" if several else title,
            partial(draw, group),
        )


def _remove_earlier(out: Path, files: dict[str, Path]) -> None:
    """Remove figures that an earlier report wrote and this one did not."""
    ours = re.compile(rf"({'|'.join(NAMES)})(_\d+)?\.({'|'.join(KINDS)})")
    for path in out.iterdir() if out.is_dir() else ():
        if ours.fullmatch(path.name) and path.name not in files:
            path.unlink(missing_ok=True)
