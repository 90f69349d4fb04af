"""What variants detect on the same validation images, next to the ground truth."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from ablate.comparing.figures import PALETTE, SETTINGS, settle
from ablate.comparing.variants import is_measured
from ablate.tracking.records import Record, Sweep, sequence, value

CONFIDENCE = 0.25  # predictions below are not drawn
IOU = 0.5  # overlap from which a prediction of the right class counts as a hit
IMAGES = 4
VARIANTS = 5  # baseline included
SIDE = 256  # pixels to which images are reduced
LEGEND = (
    f"solid: hit (right class, IoU at least {IOU}); dashed: false alarm; dotted: missed; "
    f"confidence at least {CONFIDENCE}"
)
LEGEND_WIDTH = 32  # characters of the legend that fit beneath one column
GAP = 0.06  # of a panel's side

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Panel:
    """One image with what one trial says about it. Boxes are (class, confidence, x1, y1, x2, y2)."""

    pixels: np.ndarray
    size: tuple[int, int]
    truth: list[tuple[int, Box]]
    predictions: list[tuple[int, float, Box]]


def sample_detections(sweep: Sweep, rows: pd.DataFrame) -> Figure | None:
    """Ground truth, baseline and variants (columns) on the same images (rows), of one seed.

    Args:
        sweep: what `load_sweep` read.
        rows: rows of one comparison group of the comparison table, baseline first.

    Returns:
        A figure, or None where no trial has samples. Solid boxes are hits (right class, IoU of at
        least 0.5), dashed boxes false alarms, thin dotted ones what was missed.
    """
    chosen = _one_seed(sweep, rows)
    columns = [(label, panels) for label, record in chosen if (panels := _panels(sweep, record))]
    if not columns:
        return None
    reference = columns[0][1]
    images = list(reference)[:IMAGES]
    classes = [str(name) for name in sequence(chosen[0][1], "data", "classes")]
    columns = columns[:VARIANTS]
    step = 1 + GAP
    with mpl.rc_context({**SETTINGS, "axes.grid": False}):
        width, height = step * (len(columns) + 1), step * len(images)
        figure = Figure(figsize=(1.75 * width, 1.75 * height + 0.7), layout="constrained")
        axes = figure.add_subplot()
        for line, image in enumerate(images):
            truth = reference[image]
            _draw(axes, truth, 0, line, classes, only_truth=True)
            for column, (_, panels) in enumerate(columns, start=1):
                if image in panels and panels[image].truth == truth.truth:
                    _draw(axes, panels[image], column, line, classes)
                else:
                    axes.text(
                        column * step + 0.5,
                        line * step + 0.5,
                        "not recorded",
                        ha="center",
                        va="center",
                        color="#777777",
                    )
        for column, title in enumerate(["ground truth", *(label for label, _ in columns)]):
            axes.text(column * step + 0.5, -0.04, title, ha="center", va="bottom", fontsize=8, fontweight="bold")
        axes.set(xlim=(0, width - GAP), aspect="equal")
        legend = f"{LEGEND}; seed {shown_seed(sweep, rows)}"
        axes.text(
            0,
            height - GAP + 0.05,
            textwrap.fill(legend, LEGEND_WIDTH * (len(columns) + 1)),
            fontsize=7,
            va="top",
            color="#444444",
        )
        lines = -(-len(legend) // (LEGEND_WIDTH * (len(columns) + 1)))
        axes.set_ylim(height - GAP + 0.06 + 0.1 * lines, -0.14)
        axes.axis("off")
        settle(figure)
    return figure


def shown_seed(sweep: Sweep, rows: pd.DataFrame) -> Any:
    """The seed whose detections `sample_detections` shows."""
    chosen = _one_seed(sweep, rows)
    return chosen[0][1].get("seed") if chosen else None


def _one_seed(sweep: Sweep, rows: pd.DataFrame) -> list[tuple[str, Record]]:
    """Label and trial per variant, all of the first seed that most variants have samples for."""
    labels = dict(zip(rows["variant_key"], rows["variant"], strict=True))
    found: dict[Any, dict[str, Record]] = {}
    for record in sweep.records:
        key = str(record.get("variant_key"))
        if key in labels and is_measured(record) and sequence(record, "samples"):
            found.setdefault(str(record.get("seed")), {}).setdefault(key, record)
    if not found:
        return []
    first = rows["variant_key"].iloc[0]
    seed = max(found, key=lambda seed: (first in found[seed], len(found[seed])))
    return [(label, found[seed][key]) for key, label in labels.items() if key in found[seed]]


def _panels(sweep: Sweep, record: Record) -> dict[str, Panel]:
    """Image name -> panel, for the samples of a trial that can be read."""
    panels = {}
    for sample in sequence(record, "samples"):
        name = value(sample, "image")
        if not isinstance(name, str):
            continue
        try:
            pixels = _pixels(sweep.trial_dir(str(record["signature"])) / name)
            size = (int(sample.get("width") or pixels.shape[1]), int(sample.get("height") or pixels.shape[0]))
            truth = [(int(box[0]), _box(box[1:5])) for box in sequence(sample, "truth")]
            predictions = [
                (int(box[0]), float(box[1]), _box(box[2:6]))
                for box in sequence(sample, "predictions")
                if float(box[1]) >= CONFIDENCE
            ]
        except (
            OSError,
            TypeError,
            ValueError,
            IndexError,
            SyntaxError,  # PIL's on a broken image
            ImportError,  # PIL's once Ultralytics has been imported: it then asks for a plugin
        ):
            continue
        panels[name] = Panel(pixels, size, truth, sorted(predictions, key=lambda found: -found[1]))
    return panels


def _pixels(path: Path) -> np.ndarray:
    """An image reduced to at most SIDE pixels a side, shape (H, W, 3), uint8."""
    with Image.open(path) as image:
        image.draft("RGB", (SIDE, SIDE))
        image.thumbnail((SIDE, SIDE))
        return np.asarray(image.convert("RGB"))


def _box(corners: Any) -> Box:
    x1, y1, x2, y2 = (float(corner) for corner in corners)
    return x1, y1, x2, y2


def _draw(axes: Axes, panel: Panel, column: int, line: int, classes: list[str], *, only_truth: bool = False) -> None:
    """Draw one panel into the unit square at a column and line."""
    scale = 1 / max(panel.size)
    width, height = panel.size[0] * scale, panel.size[1] * scale
    left, top = column * (1 + GAP) + (1 - width) / 2, line * (1 + GAP) + (1 - height) / 2
    axes.imshow(panel.pixels, extent=(left, left + width, top + height, top), interpolation="none", zorder=1)

    def outline(kind: int, box: Box, text: str, dashes: Any, thick: float) -> None:
        color = PALETTE[kind % len(PALETTE)]
        x, y = left + box[0] * scale, top + box[1] * scale
        w, h = (box[2] - box[0]) * scale, (box[3] - box[1]) * scale
        axes.add_patch(Rectangle((x, y), w, h, fill=False, edgecolor="white", linewidth=thick + 1.2, zorder=2))
        axes.add_patch(
            Rectangle((x, y), w, h, fill=False, edgecolor=color, linewidth=thick, linestyle=dashes, zorder=3)
        )
        if text:
            axes.text(
                x,
                y,
                text,
                fontsize=4.6,
                color="white",
                va="bottom" if box[1] * scale > 0.05 else "top",
                zorder=4,
                bbox={"facecolor": color, "edgecolor": "none", "pad": 0.6},
            )

    def named(kind: int) -> str:
        return classes[kind] if 0 <= kind < len(classes) else str(kind)

    if only_truth:
        for kind, box in panel.truth:
            outline(kind, box, named(kind), "-", 1.2)
        return
    hits, missed = _match(panel)
    for kind, box in missed:
        outline(kind, box, "", (0, (1, 1.5)), 0.8)
    for (kind, confidence, box), hit in zip(panel.predictions, hits, strict=True):
        outline(kind, box, f"{named(kind)} {confidence:.2f}", "-" if hit else (0, (3, 1.5)), 1.2)


def _match(panel: Panel) -> tuple[list[bool], list[tuple[int, Box]]]:
    """Which predictions hit, most confident first, each truth at most once; and the truths that none hit."""
    free = list(panel.truth)
    hits = []
    for kind, _, box in panel.predictions:
        overlaps = [_iou(box, other) if kind == other_kind else 0.0 for other_kind, other in free]
        best = int(np.argmax(overlaps)) if overlaps else -1
        hit = best >= 0 and overlaps[best] >= IOU
        if hit:
            free.pop(best)
        hits.append(hit)
    return hits, free


def _iou(a: Box, b: Box) -> float:
    """Intersection over union of two boxes (x1, y1, x2, y2)."""
    across = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    down = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    common = across * down
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - common
    return common / union if union > 0 else 0.0
