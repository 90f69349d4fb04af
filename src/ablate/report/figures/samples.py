"""What variants detect on the same validation images, next to the ground truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from ablate.analysis.comparison import Group
from ablate.analysis.variant_row import Row
from ablate.evaluation.boxes import overlaps
from ablate.records.class_names import ClassName, class_names
from ablate.records.replicate import Replicate
from ablate.records.sweep_record import Sweep
from ablate.records.trial_record import TrialRecord
from ablate.report.figures.image_files import UNREADABLE, open_image
from ablate.report.figures.lettering import in_legend, wrapped, written_class
from ablate.report.figures.missed import CONFIDENCE, IOU
from ablate.report.figures.style import (
    PALETTE,
    SETTINGS,
    SMALLEST,
    TWO_COLUMNS,
    Drawing,
    dagger_caption,
    fix_layout,
    paragraph,
    written_name,
)
from ablate.report.foremost_rows import foremost, limit_text
from ablate.storage.confined import inside

IMAGES = 4
VARIANTS = 5  # baseline included
SIDE = 256  # pixels to which images are reduced
NAMED = 7  # boxes of a panel that still have room for their class
HIT: Any
FALSE: Any
MISSED: Any
HIT, FALSE, MISSED = "-", (0, (3, 1.5)), (0, (1, 1.5))
GAP = 0.06  # of a panel's side
LETTER = 0.068  # inches, of a bold title

Corners = Sequence[float]  # x1, y1, x2, y2


@dataclass(frozen=True)
class Panel:
    """One image with what one trial says about it. Boxes are (class, confidence, x1, y1, x2, y2)."""

    pixels: np.ndarray
    size: tuple[int, int]
    truth: list[tuple[int, Corners]]
    predictions: list[tuple[int, float, Corners]]


def sample_detections(sweep: Sweep, group: Group) -> Drawing | None:
    """Ground truth and predictions of the variants of a group on the same images, for one seed.

    Returns:
        A drawing, or None where no trial recorded samples that can be read.
    """
    rows = foremost([row for row in group.rows if not row.is_control], VARIANTS)
    chosen = _one_replicate(rows)
    columns = [(row, panels) for row, trial in chosen if (panels := _panels(sweep, trial))]
    if not columns:
        return None
    reference = columns[0][1]
    images = list(reference)[:IMAGES]
    classes = class_names(data.classes if (data := chosen[0][1].data) else ())
    step = 1 + GAP
    with mpl.rc_context({**SETTINGS, "axes.grid": False}):
        shape = max(panel.size[1] / max(panel.size) for panel in reference.values())
        down = shape + GAP
        width, height = step * (len(columns) + 1) - GAP, down * len(images) - GAP
        inch = min(TWO_COLUMNS / width, 2.2)
        names = ["ground truth", *(written_name(row) for row, _ in columns)]
        titles = [wrapped(name, int(inch / LETTER), 5) for name in names]
        above = (0.1 + 0.13 * max(title.count("\n") + 1 for title in titles)) / inch
        figure = Figure(figsize=(TWO_COLUMNS, inch * (height + above) + 0.4), layout="constrained")
        axes = figure.add_subplot()
        kinds: set[int] = set()
        for line, image in enumerate(images):
            truth = reference[image]
            kinds |= _draw(axes, truth, (0, line * down), shape, classes, only_truth=True)
            for column, (_, panels) in enumerate(columns, start=1):
                if image in panels and panels[image].truth == truth.truth:
                    kinds |= _draw(axes, panels[image], (column * step, line * down), shape, classes)
                else:
                    axes.text(
                        column * step + 0.5, line * down + shape / 2, "not recorded", ha="center", va="center",
                        color="#666666",
                    )  # fmt: skip
        for column, title in enumerate(titles):
            axes.text(
                column * step + 0.5, -0.04, title, ha="center", va="bottom", fontsize=SMALLEST,
                fontweight="bold",
            )  # fmt: skip
        axes.set(xlim=(0, width), ylim=(height, -above), aspect="equal")
        axes.axis("off")
        figure.legend(
            handles=_handles(classes, kinds), loc="outside lower center", ncols=9, handlelength=2.4, columnspacing=1.2
        )
        fix_layout(figure)
    drawn = [row for row, _ in columns]
    caption = [
        f"Predictions on the same images, {chosen[0][1].replicate.in_words}. Solid: true positive (correct class, IoU "
        f"at least {IOU}); dashed: false positive; dotted: missed. Confidence at least {CONFIDENCE}.",
        dagger_caption(drawn),
        limit_text(len(drawn), sum(not row.is_control for row in group.rows), "variants"),
    ]
    return Drawing(figure, paragraph(caption), tuple(row.key for row in drawn))


def _handles(classes: Sequence[ClassName], kinds: set[int]) -> list[Line2D]:
    """Handles of the legend: kinds of lines, and the colours of these classes."""
    lines = ((HIT, "true positive"), (FALSE, "false positive"), (MISSED, "missed"))
    handles = [Line2D([], [], color="black", linestyle=dashes, linewidth=1.3, label=label) for dashes, label in lines]
    for kind in sorted(kinds)[: len(PALETTE)]:
        color, label = PALETTE[kind % len(PALETTE)], in_legend(_named(classes, kind, 20))
        handles.append(Line2D([], [], color=color, linewidth=4, label=label))
    return handles


def _one_replicate(rows: Sequence[Row]) -> list[tuple[Row, TrialRecord]]:
    """Row and trial per variant, all of the first seed, and fold, that most variants have samples for."""
    by_replicate: dict[Replicate, dict[str, TrialRecord]] = {}
    for row in rows:
        for trial in row.variant.measured:
            if trial.samples:
                by_replicate.setdefault(trial.replicate, {}).setdefault(row.key, trial)
    if not by_replicate:
        return []
    best = max(by_replicate.values(), key=lambda trials: (rows[0].key in trials, len(trials)))
    return [(row, best[row.key]) for row in rows if row.key in best]


def _panels(sweep: Sweep, record: TrialRecord) -> dict[str, Panel]:
    """Image name -> panel, for the samples of a trial that can be read."""
    panels = {}
    for sample in record.samples:
        try:
            path = inside(sweep.folder.trial(record.signature).path, sample.image)
            pixels = None if path is None else _pixels(path)
        except UNREADABLE:
            continue
        if pixels is None:
            continue
        size = (sample.width or pixels.shape[1], sample.height or pixels.shape[0])
        truth: list[tuple[int, Corners]] = [(kind, box) for kind, *box in sample.truth]
        detections: list[tuple[int, float, Corners]] = [(kind, score, box) for kind, score, *box in sample.predictions]
        shown = sorted((d for d in detections if d[1] >= CONFIDENCE), key=lambda detection: -detection[1])
        panels[sample.image] = Panel(pixels, size, truth, shown)
    return panels


def _pixels(path: Path) -> np.ndarray:
    """An image reduced to at most SIDE pixels a side, shape (H, W, 3), uint8."""
    with open_image(path) as image:
        image.draft("RGB", (SIDE, SIDE))
        image.thumbnail((SIDE, SIDE))
        return np.asarray(image.convert("RGB"))


def _draw(
    axes: Axes,
    panel: Panel,
    corner: tuple[float, float],
    tall: float,
    classes: Sequence[ClassName],
    *,
    only_truth: bool = False,
) -> set[int]:
    """Draw one panel into a place, 1 wide and so tall, with this upper left corner; returns the classes drawn."""
    scale = min(1 / panel.size[0], tall / panel.size[1])
    width, height = panel.size[0] * scale, panel.size[1] * scale
    left, top = corner[0] + (1 - width) / 2, corner[1] + (tall - height) / 2
    axes.imshow(panel.pixels, extent=(left, left + width, top + height, top), interpolation="none", zorder=1)

    def outline(kind: int, box: Corners, text: str, dashes: Any, thick: float) -> None:
        color = PALETTE[kind % len(PALETTE)]
        x, y = left + box[0] * scale, top + box[1] * scale
        w, h = (box[2] - box[0]) * scale, (box[3] - box[1]) * scale
        axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor="white", linewidth=thick + 1.2, zorder=2))
        axes.add_patch(
            Rectangle((x, y), w, h, fill=False, edgecolor=color, linewidth=thick, linestyle=dashes, zorder=3)
        )
        if text:
            over = box[1] * scale > 0.1
            axes.text(
                x, y if over else y + h, text, fontsize=SMALLEST, color="white", va="bottom" if over else "top",
                zorder=4, bbox={"facecolor": color, "edgecolor": "none", "pad": 0.4}, clip_on=True,
            )  # fmt: skip

    if only_truth:
        for kind, box in panel.truth:
            outline(kind, box, _named(classes, kind, 16) if len(panel.truth) <= NAMED else "", HIT, 1.2)
        return {kind for kind, _ in panel.truth}
    hits, missed = _match(panel)
    for kind, box in missed:
        outline(kind, box, "", MISSED, 1.3)
    for (kind, _, box), hit in zip(panel.predictions, hits, strict=True):
        outline(kind, box, "", HIT if hit else FALSE, 1.2)
    return {kind for kind, _, _ in panel.predictions} | {kind for kind, _ in missed}


def _named(classes: Sequence[ClassName], kind: int, most: int) -> str:
    return written_class(classes[kind], most) if 0 <= kind < len(classes) else str(kind)


def _match(panel: Panel) -> tuple[list[bool], list[tuple[int, Corners]]]:
    """Which predictions hit, most confident first, each truth at most once; and the truths that none hit."""
    free = list(panel.truth)
    hits = []
    for kind, _, box in panel.predictions:
        same = [kind == other for other, _ in free]
        shared = overlaps(np.array(box), np.array([other for _, other in free])) * same if free else np.zeros(0)
        best = int(np.argmax(shared)) if free else -1
        hit = best >= 0 and bool(shared[best] >= IOU)
        if hit:
            free.pop(best)
        hits.append(hit)
    return hits, free
