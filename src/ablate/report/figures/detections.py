"""Real images on which a variant detects what its baseline misses, and the reverse."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from PIL import Image, ImageOps

from ablate.analysis.comparison import Group
from ablate.data.cache import is_in_view
from ablate.records.class_names import ClassName, class_names
from ablate.records.sweep_record import Sweep
from ablate.report.figures.image_files import UNREADABLE, open_image
from ablate.report.figures.lettering import wrapped, written, written_class
from ablate.report.figures.missed import CONFIDENCE, IOU, Detected, GroupDetections, compare_detections, corners
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
from ablate.report.foremost_rows import limit_text
from ablate.storage.confined import inside

SHOWN = 3  # variants, a line of images each
EACH = 2  # images for what is gained, and as many for what is lost
TRIED = 40  # images that are looked for on disk before a place is left empty
SIDE = 320  # pixels of a part, as it is drawn
ROOM = 0.35  # of the part's side, around what is to be seen
LEAST = 0.22  # of the image's shorter side: parts are not cut smaller
TITLE = 15  # characters of a line of a name

GAINED: Any = (PALETTE[0], "-", 1.7)
LOST: Any = (PALETTE[1], (0, (3.2, 1.3)), 1.7)
BOTH: Any = ("#ffffff", "-", 0.7)
NONE: Any = ("#ffffff", (0, (1, 1.4)), 1.0)


class Part(NamedTuple):
    """A square or smaller part of an image around what differs; `frame` is x1, y1, x2, y2 in pixels of the image."""

    pixels: np.ndarray
    frame: np.ndarray
    size: tuple[int, int]
    image: int


def found_and_missed(sweep: Sweep, group: Group) -> Drawing | None:
    """Parts of images where a variant of a group finds what the baseline misses (left) and the reverse (right).

    Returns:
        A drawing with the counts of all variants; None where no trial kept predictions, or no image is on disk.
    """
    detections = compare_detections(sweep, group)
    if detections is None:
        return None
    library = _Library(sweep, detections)
    chosen = [(one, parts) for one in _largest(detections, group) if any(parts := library.parts(one))][:SHOWN]
    if not chosen:
        return None
    base = detections.baseline
    with mpl.rc_context({**SETTINGS, "axes.grid": False}):
        figure = _figure(detections, chosen)
        fix_layout(figure)
    words = [
        f"Crops of validation images, {detections.replicate.in_words}. Boxes: ground truth. Thick solid blue: detected "
        f"by the variant, missed by {base.label}; thick dashed orange: the reverse; thin white: detected by both; "
        f"dotted: missed by both. Detected: correct class, IoU of at least {IOU}, confidence of at least {CONFIDENCE}. "
        "The images that differ most are shown. The counts below are over all images, of one training each, and are "
        "not tested.",
        limit_text(len(chosen), len(detections.variants), "variants", "by objects detected by one only"),
        "Reduced copies are shown, as original images are no longer where they were." if library.copied else "",
        "; ".join(detections.unread).capitalize() + "." if detections.unread else "",
    ]
    labels = {base.label, *(one.row.label for one in detections.variants)}
    drawn = [row for row in group.rows if row.label in labels]
    caption = paragraph([*words, dagger_caption(drawn)])
    return Drawing(figure, caption, tuple(row.key for row in drawn), detections.counts())


def _largest(detections: GroupDetections, group: Group) -> list[Detected]:
    """Variants with most boxes that only one of the two detected; the first few in the table's order."""
    place = {row.label: index for index, row in enumerate(group.rows)}
    most = sorted(detections.variants, key=lambda one: -int(one.gained.sum() + one.lost.sum()))[: 2 * SHOWN]
    return sorted(most, key=lambda one: (most.index(one) >= SHOWN, place[one.row.label]))


class _Library:
    """The images of one comparison, as far as they are on disk."""

    def __init__(self, sweep: Sweep, detections: GroupDetections) -> None:
        self._detections = detections
        self.copied = False
        trial = detections.trial
        folder = sweep.folder.trial(trial.signature).path
        self._root = Path(trial.data.root) if trial.data and trial.data.root else None
        copies = [(sample.source, inside(folder, sample.image)) for sample in trial.samples if sample.source]
        self._samples = [(source, copy) for source, copy in copies if copy is not None]

    def parts(self, one: Detected) -> list[Part | None]:
        """What to show for one variant: EACH parts that it gains, then EACH that it loses; None where there is none."""
        taken: set[int] = set()
        shown: list[Part | None] = []
        for mask in (one.gained, one.lost):
            parts: list[Part] = []
            for index in self._candidates(mask):
                if index not in taken and len(parts) < EACH and (part := self._part(index, mask)) is not None:
                    taken.add(index)
                    parts.append(part)
                if len(parts) == EACH:
                    break
            shown += [*parts, *[None] * (EACH - len(parts))]
        return shown

    def _candidates(self, mask: np.ndarray) -> Iterator[int]:
        """Images by falling number of objects that differ."""
        predictions = self._detections.predictions
        counts = np.bincount(predictions.true_image[mask], minlength=len(predictions.names))
        for index in np.argsort(-counts, kind="stable")[:TRIED]:
            if counts[index]:
                yield int(index)

    def _part(self, index: int, mask: np.ndarray) -> Part | None:
        """The part of an image around what differs; None where the image cannot be shown."""
        predictions = self._detections.predictions
        width, height = (int(side) for side in predictions.sizes[index])
        of_image = np.flatnonzero(mask & (predictions.true_image == index))
        boxes = corners(predictions, of_image) * np.array([width, height] * 2)
        frame = _frame(boxes, width, height)
        for path, copy in self._paths(str(predictions.names[index])):
            pixels = _read(path, frame, (width, height))
            if pixels is not None:
                self.copied |= copy
                return Part(pixels, frame, (width, height), index)
        return None

    def _paths(self, name: str) -> Iterator[tuple[Path, bool]]:
        """Where an image may be, and whether that is a reduced copy."""
        originals = [] if self._root is None else [self._root / name]
        matching = [
            (source, copy)
            for source, copy in self._samples
            if Path(source).parts[-len(Path(name).parts) :] == Path(name).parts
        ]
        originals += [Path(source) for source, _ in matching]
        yield from ((path, False) for path in originals if is_in_view(path))
        for _, copy in matching:
            yield copy, True


def _frame(boxes: np.ndarray, width: int, height: int) -> np.ndarray:
    """A square around boxes (n, 4) with some room, inside of the image: x1, y1, x2, y2 in pixels.

    The biggest cluster around the first box would hide others; so all are in, and what is small stays as it is.
    """
    low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    side = min(max(float((high - low).max()) * (1 + 2 * ROOM), LEAST * min(width, height), 32.0), min(width, height))
    centre = (low + high) / 2
    start = np.clip(centre - side / 2, 0, np.maximum([width - side, height - side], 0))
    return np.concatenate([start, start + side])


def _read(path: Path, frame: np.ndarray, size: tuple[int, int]) -> np.ndarray | None:
    """Part of an image file, shape (H, W, 3), uint8; None where it is missing, broken or of another shape."""
    try:
        with open_image(path) as opened:
            image = ImageOps.exif_transpose(opened)  # as the detector saw it
            if abs(image.width / image.height - size[0] / size[1]) > 0.02 * size[0] / size[1]:
                return None
            scale = image.width / size[0]
            part = image.crop(tuple(round(float(edge) * scale) for edge in frame)).convert("RGB")  # type: ignore[arg-type]
            longest = SIDE / max(part.size)
            across, down = (max(1, round(side * longest)) for side in part.size)
            return np.asarray(part.resize((across, down), Image.Resampling.BICUBIC))
    except UNREADABLE:
        return None


def _figure(detections: GroupDetections, chosen: list[tuple[Detected, list[Part | None]]]) -> Figure:
    """A line of parts for each variant, under heads, and a legend."""
    across = 2 * EACH
    inch = (TWO_COLUMNS - 1.25) / (across + 0.2)
    figure = Figure(figsize=(TWO_COLUMNS, inch * len(chosen) * 1.05 + 0.8))
    total = figure.get_size_inches()
    top, left, gap = 0.24, 1.2, 0.06
    kinds = class_names(detections.trial.data.classes if detections.trial.data else ())
    for line, (one, parts) in enumerate(chosen):
        for column, part in enumerate(parts):
            x = left + column * inch + (0.16 if column >= EACH else 0.0)
            y = top + line * inch * 1.05
            axes = figure.add_axes(
                (x / total[0], 1 - (y + inch - gap) / total[1], (inch - gap) / total[0], (inch - gap) / total[1])
            )
            axes.set(xticks=[], yticks=[])
            axes.spines[:].set_visible(False)
            if part is None:
                axes.text(0.5, 0.5, "none" if column % EACH == 0 else "no other", ha="center", va="center",
                          transform=axes.transAxes, color="#666666", fontsize=SMALLEST)  # fmt: skip
                continue
            _draw(axes, detections, one, part, kinds, gained=column < EACH)
        gained, lost = int(one.gained.sum()), int(one.lost.sum())
        plain = written(one.row.label)
        name = wrapped(plain, TITLE, 4) + written_name(one.row).removeprefix(plain)
        y = 1 - (top + line * inch * 1.05 + 0.45 * inch) / total[1]
        figure.text(0.05 / total[0], y, name, fontweight="bold", fontsize=7.5, va="bottom")
        figure.text(
            0.05 / total[0], y - 0.05 / total[1], f"+{gained} gained\n\N{MINUS SIGN}{lost} lost", fontsize=7.5, va="top"
        )
    heads = (
        ("detected by the variant only", 0),
        ("detected by the baseline only", EACH),
    )
    for text, column in heads:
        x = left + column * inch + (0.16 if column >= EACH else 0.0)
        figure.text(x / total[0], 1 - (top - 0.06) / total[1], text, fontweight="bold", fontsize=7.5, va="bottom")
    handles = [_line(GAINED, "variant only"), _line(LOST, "baseline only"), _line(BOTH, "both"), _line(NONE, "neither")]
    figure.legend(
        handles=handles, loc="lower center", ncols=4, handlelength=3.2,
        title=f"ground truth detected by (baseline: {written_name(detections.baseline)})", title_fontsize=7.5,
        facecolor="#cfcfcf", frameon=True, edgecolor="none",
    )  # fmt: skip
    return figure


def _draw(
    axes: Axes, detections: GroupDetections, one: Detected, part: Part, kinds: Sequence[ClassName], *, gained: bool
) -> None:
    """One part of an image with its true objects."""
    predictions = detections.predictions
    x1, y1, x2, y2 = part.frame
    axes.imshow(part.pixels, extent=(x1, x2, y2, y1), interpolation="none", aspect="auto")
    here = np.flatnonzero(predictions.true_image == part.image)
    for index, box in zip(here, corners(predictions, here) * np.array(part.size * 2), strict=True):
        of_variant, of_baseline = bool(one.variant[index]), bool(one.baseline[index])
        differs = of_variant != of_baseline
        color, dashes, width = (GAINED if of_variant else LOST) if differs else (BOTH if of_variant else NONE)
        left, top, right, bottom = box
        if right < x1 or left > x2 or bottom < y1 or top > y2:
            continue
        order = 4 if differs else 3
        place = (left, top), right - left, bottom - top
        halo = "white" if differs else "#555555"
        axes.add_patch(Rectangle(*place, fill=False, zorder=order, linewidth=width + 1.4, edgecolor=halo))
        axes.add_patch(Rectangle(*place, fill=False, zorder=order, linewidth=width, edgecolor=color, linestyle=dashes))
        if differs and of_variant == gained:
            _name(axes, part, box, kinds, int(predictions.true_cls[index]), color)
    axes.set(xlim=(x1, x2), ylim=(y2, y1))


def _name(axes: Axes, part: Part, box: np.ndarray, kinds: Sequence[ClassName], kind: int, color: str) -> None:
    """The class of a box at its upper edge, inside of the part."""
    x1, y1, x2, _ = part.frame
    text = written_class(kinds[kind], 16) if 0 <= kind < len(kinds) else f"class {kind}"
    over = box[1] - y1 > 0.1 * (x2 - x1)
    axes.text(
        max(box[0], x1), box[1] if over else max(box[1], y1), text,
        fontsize=SMALLEST,
        color="white", va="bottom" if over else "top", clip_on=True, zorder=6,
        bbox={"facecolor": color, "edgecolor": "none", "pad": 0.5},
    )  # fmt: skip


def _line(look: Any, label: str) -> Line2D:
    color, dashes, width = look
    return Line2D([], [], color=color, linestyle=dashes, linewidth=width + 0.3, label=label)
