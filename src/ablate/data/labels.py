"""Reading one YOLO label file and one image header, with errors that name the file and the line.

The rules are those by which Ultralytics 8.4 drops an image and goes on (`verify_image_label`). Here they are
errors, because a data set that shrinks silently makes trials incomparable.
"""

from __future__ import annotations

import io
import math
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from ablate.data.errors import DataError

IMAGE_SUFFIXES: Final = frozenset(
    ("avif", "bmp", "dng", "heic", "heif", "jp2", "jpeg", "jpg", "mpo", "png", "tif", "tiff", "webp")
)
"""What Ultralytics takes for an image, by the end of its name in lower case."""

MIN_SIDE: Final = 10
"""Ultralytics drops images with a side of fewer pixels."""

_TOLERANCE = 0.01  # Ultralytics accepts coordinates that leave the image by 1 %
_NEEDS_PLUGIN = frozenset(("avif", "heic", "heif", "dng", "jp2"))  # not every Pillow opens them


@dataclass(frozen=True)
class LabelFile:
    """What a label file holds, after exact repetitions of a row are taken out, as Ultralytics does."""

    classes: tuple[int, ...]
    """The class of each box."""
    empty_boxes: tuple[int, ...] = ()
    """Line numbers (from 1) of boxes without area."""
    repeated: int = 0
    """Rows that repeat another one exactly."""


def parse_label(content: bytes, path: Path, class_count: int, pose_columns: int = 0) -> LabelFile:
    """Check a label file: rows `class x y w h` in parts of the image, or polygons `class x1 y1 x2 y2 ...`.

    Args:
        content: the file's bytes.
        path: its name, for the message.
        class_count: classes are 0 to class_count - 1.
        pose_columns: columns of keypoints behind a box, which are passed over.

    Raises:
        DataError: a row that is not a box; it names the file and the line.
    """
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: the label file is not UTF-8 text") from error
    seen: set[bytes] = set()
    classes, empty_boxes, repeated = [], [], 0
    polygons: bool | None = None
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if not columns:
            continue
        if pose_columns and len(columns) == 5 + pose_columns:
            columns = columns[:5]
        is_polygon = len(columns) > 6 and len(columns) % 2 == 1
        if len(columns) != 5 and not is_polygon:
            _fail(
                path,
                number,
                f"{_count(len(columns), 'column')} where 5 belong: class x_center y_center width height",
            )
        if polygons is not None and polygons != is_polygon:
            _fail(path, number, "boxes and polygons are mixed in one file")
        polygons = is_polygon
        row = _numbers(columns, path, number, class_count, is_polygon)
        key = array("f", row).tobytes()  # compared in the precision that training reads
        if key in seen:
            repeated += 1
            continue
        seen.add(key)
        classes.append(int(row[0]))
        if _area(row) == 0:
            empty_boxes.append(number)
    return LabelFile(tuple(classes), tuple(empty_boxes), repeated)


def check_image(content: bytes, path: Path) -> None:
    """Check an image by its header and its end, without decoding it.

    Raises:
        DataError: it is empty, no image, cut off, or smaller than Ultralytics accepts.
    """
    from PIL import Image, UnidentifiedImageError

    if not content:
        raise DataError(f"{path}: the image file is empty")
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            if _is_cut_off(content, image.format or ""):
                image.load()  # odd endings are not always damage: decode these few
    except (UnidentifiedImageError, ImportError) as error:  # the second where Ultralytics, once imported, opens images
        if path.suffix.lower().lstrip(".") in _NEEDS_PLUGIN:
            return
        raise DataError(f"{path}: this is not an image that can be read") from error
    except (OSError, SyntaxError, ValueError) as error:
        raise DataError(f"{path}: the image file is damaged or cut off ({error})") from error
    if min(width, height) < MIN_SIDE:
        raise DataError(f"{path}: the image has {width}x{height} pixels, at least {MIN_SIDE}x{MIN_SIDE} are needed")


def _numbers(columns: list[str], path: Path, number: int, class_count: int, is_polygon: bool) -> tuple[float, ...]:
    try:
        row = tuple(map(float, columns))
    except ValueError:
        bad = next(column for column in columns if not _is_number(column))
        _fail(path, number, f"{bad[:40]!r} is not a number")
    for column, value in zip(columns, row, strict=True):
        if not math.isfinite(value):
            _fail(path, number, f"{column!r} is not a finite number")
    if row[0] != int(row[0]) or not 0 <= row[0] < class_count:
        valid = f"0 to {class_count - 1}" if class_count > 1 else "0"
        _fail(path, number, f"class {columns[0]} is not one of the {class_count} classes ({valid})")
    for index, value in enumerate(row[1:], start=1):
        lowest = 0.0 if index > 2 and not is_polygon else -_TOLERANCE  # a width or height is never negative
        if not lowest <= value <= 1 + _TOLERANCE:
            _fail(path, number, f"{columns[index]} is outside [0, 1]; lengths are given in parts of the image")
    return row


def _area(row: tuple[float, ...]) -> float:
    if len(row) == 5:
        return row[3] * row[4]
    xs, ys = row[1::2], row[2::2]
    return (max(xs) - min(xs)) * (max(ys) - min(ys))


def _is_cut_off(content: bytes, image_format: str) -> bool:
    """Whether a file does not end as its format says."""
    if image_format in {"JPEG", "MPO"}:
        return content[-2:] != b"\xff\xd9"
    if image_format == "PNG":
        return b"IEND" not in content[-12:]
    if image_format == "BMP":
        return len(content) < int.from_bytes(content[2:6], "little")
    if image_format == "WEBP":
        return len(content) < int.from_bytes(content[4:8], "little") + 8
    return False


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _fail(path: Path, line: int, what: str) -> NoReturn:
    raise DataError(f"{path}, line {line}: {what}")
