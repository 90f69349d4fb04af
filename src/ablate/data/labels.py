"""Reading one YOLO label file, with errors that name the file and the line.

The rules are those by which Ultralytics 8.4 drops an image and goes on (`verify_image_label`). Here they are
errors, because a data set that shrinks silently makes trials incomparable.
"""

from __future__ import annotations

import math
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ablate.data.data_errors import DataError
from ablate.errors import count

_TOLERANCE = 0.01  # Ultralytics accepts coordinates that leave the image by 1 %


@dataclass(frozen=True)
class LabelFile:
    """What a label file holds, after exact repetitions of a row are taken out, as Ultralytics does."""

    classes: tuple[int, ...]
    """The class of each box."""
    empty_boxes: tuple[int, ...] = ()
    """Line numbers (from 1) of boxes without area."""
    repeated: int = 0
    """Rows that repeat another one exactly."""


def parse_label(content: bytes, path: Path, class_count: int, columns_behind: int = 0) -> LabelFile:
    """Check a label file: rows `class x y w h` in parts of the image, or polygons `class x1 y1 x2 y2 ...`.

    Args:
        content: the file's bytes.
        path: its name, for the message.
        class_count: classes are 0 to class_count - 1.
        columns_behind: columns of key points behind a box, which are passed over.

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
        if columns_behind and len(columns) == 5 + columns_behind:
            columns = columns[:5]
        is_polygon = len(columns) > 6 and len(columns) % 2 == 1
        if len(columns) != 5 and not is_polygon:
            _fail(
                path,
                number,
                f"{count(len(columns), 'column')} where 5 belong: class x_center y_center width height",
            )
        if polygons is not None and polygons != is_polygon:
            _fail(path, number, "boxes and polygons are mixed in one file")
        polygons = is_polygon
        row = _numbers(columns, path, number, class_count, is_polygon)
        precise = row if is_polygon else [value + 0.0 for value in row]  # -0 is 0 among boxes, not among polygons
        key = array("f", precise).tobytes()  # compared in the precision that training reads
        if key in seen:
            repeated += 1
            continue
        seen.add(key)
        classes.append(int(row[0]))
        if _area(row) == 0:
            empty_boxes.append(number)
    return LabelFile(tuple(classes), tuple(empty_boxes), repeated)


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
    if is_polygon and max(_sides(row)) > 1 + _TOLERANCE:  # each point may leave the image a little, the box may not
        _fail(path, number, "the polygon is larger than the image")
    return row


def _area(row: tuple[float, ...]) -> float:
    width, height = row[3:] if len(row) == 5 else _sides(row)
    return width * height


def _sides(polygon: tuple[float, ...]) -> tuple[float, float]:
    """Width and height of the box around a polygon (class, x1, y1, x2, y2, ...)."""
    xs, ys = polygon[1::2], polygon[2::2]
    return max(xs) - min(xs), max(ys) - min(ys)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _fail(path: Path, line: int, what: str) -> NoReturn:
    raise DataError(f"{path}, line {line}: {what}")
