from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from PIL import Image

from ablate.data.data_errors import DataError
from ablate.data.labels import parse_label

PATH = Path("labels/a.txt")


def parse(text: str, classes: int = 3, **options: int) -> tuple[tuple[int, ...], tuple[int, ...], int]:
    label = parse_label(text.encode(), PATH, classes, **options)
    return label.classes, label.empty_boxes, label.repeated


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("0 0.5 0.5 0.2\n", 1, "4 columns where 5 belong"),
        ("0\n", 1, "1 column where 5 belong"),
        ("0 .5 .5 .2 .2\n0 .5 .5 .2 .2 .9\n", 2, "6 columns where 5 belong"),
        ("\n\n0 .5 cat .2 .2\n", 3, "'cat' is not a number"),
        ("0 .5 nan .2 .2\n", 1, "'nan' is not a finite number"),
        ("0 .5 inf .2 .2\n", 1, "'inf' is not a finite number"),
        ("nan .5 .5 .2 .2\n", 1, "'nan' is not a finite number"),
        ("0 .5 1.2 .2 .2\n", 1, r"1\.2 is outside \[0, 1\]"),
        ("0 320 240 64 64\n", 1, r"320 is outside \[0, 1\]"),
        ("0 .5 .5 -0.001 .2\n", 1, r"-0\.001 is outside \[0, 1\]"),
        ("3 .5 .5 .2 .2\n", 1, r"class 3 is not one of the 3 classes \(0 to 2\)"),
        ("-1 .5 .5 .2 .2\n", 1, "class -1 is not one of"),
        ("1.5 .5 .5 .2 .2\n", 1, r"class 1\.5 is not one of"),
        ("0 .5 .5 .2 .2\n0 .1 .1 .2 .1 .2 .2\n", 2, "boxes and polygons are mixed"),
    ],
)
def test_garbage_is_an_error_that_names_file_line_and_fault(text: str, line: int, what: str) -> None:
    with pytest.raises(DataError, match=rf"labels/a\.txt, line {line}: {what}"):
        parse(text)


def test_bytes_that_are_no_text_are_an_error() -> None:
    with pytest.raises(DataError, match=r"labels/a\.txt: the label file is not UTF-8 text"):
        parse_label(b"\xff\xfe\x00", PATH, 3)


def test_sound_rows_are_counted_and_blank_lines_passed_over() -> None:
    assert parse("0 .5 .5 .2 .2\n\n2 .1 .1 .1 .1\r\n") == ((0, 2), (), 0)
    assert parse("\ufeff0 .5 .5 .2 .2") == ((0,), (), 0)
    assert parse("") == ((), (), 0)


def test_a_box_without_area_is_noted_with_its_line() -> None:
    assert parse("0 .5 .5 .2 .2\n1 .5 .5 0 .2\n1 .5 .5 0 0\n") == ((0, 1, 1), (2, 3), 0)


def test_a_repeated_row_counts_once() -> None:
    assert parse("0 .5 .5 .2 .2\n0 .50 .5 .2 .2\n1 .5 .5 .2 .2\n") == ((0, 1), (), 1)


def test_one_per_cent_outside_the_image_passes_as_in_ultralytics() -> None:
    assert parse("0 -0.005 1.005 .2 .2\n")[0] == (0,)


def test_polygons_count_as_boxes() -> None:
    assert parse("1 .1 .1 .2 .1 .2 .2\n1 .3 .3 .3 .4 .3 .5\n") == ((1, 1), (2,), 0)


def test_key_points_behind_a_box_are_passed_over() -> None:
    assert parse("0 .5 .5 .2 .2 .1 .1 2 .1 .1 2 .1 .1\n", columns_behind=8) == ((0,), (), 0)


def used_by_ultralytics(text: str, tmp_path: Path, classes: int, kpt_shape: tuple[int, int]) -> int | None:
    """Boxes that Ultralytics takes from a label file; None where it drops the image."""
    from ultralytics.data.utils import verify_image_label

    image, label = tmp_path / "a.png", tmp_path / "a.txt"
    if not image.exists():
        Image.new("RGB", (32, 32)).save(image)
    label.write_text(text, encoding="utf-8")
    found = verify_image_label((str(image), str(label), "", False, classes, *kpt_shape, False))
    return None if found[0] is None else len(found[1])


ROWS = [
    "0 .5 .5 .2 .2",
    "2 .5 .5 .2 .2",
    "3 .5 .5 .2 .2",
    "-0 .5 .5 .2 .2",
    "0 .50 .5 .2 .2",
    "0 -0.0 0 .2 .2",
    "0 0 0 .2 .2",
    "0 1.01 .5 1.01 .2",
    "0 1.02 .5 .2 .2",
    "0 -0.009 .5 .2 .2",
    "0 -0.02 .5 .2 .2",
    "0 .5 .5 -0.001 .2",
    "0 .5 .5 nan .2",
    "0 .5 .5 .2",
    "0 .5 .5 .2 .2 .9",
    "0 .1 .1 .2 .1 .2 .2",
    "0 .1 .1 .2 .1 .2 .2 .1 .2",
    "0 -0.01 .1 1.01 .1 .2 .2",
    "0 -0.01 .1 .9 .1 .2 .2",
    "0 .1 .1 .2 .1 .2",
    "1 .5 .5 .2 .2 .1 .1 2 .3 .3 2",
    "0.5 .5 .5 .2 .2",
    "0 .5 .5 0 0",
    "",
]


@pytest.mark.parametrize("kpt_shape", [(0, 0), (2, 3)])
def test_what_passes_is_what_ultralytics_takes_box_for_box(tmp_path: Path, kpt_shape: tuple[int, int]) -> None:
    """An image that it would drop for its label is always an error here."""
    passed = 0
    for first, second in itertools.product(ROWS, ROWS):
        text = f"{first}\n{second}\n"
        try:
            ours = len(parse(text, 3, columns_behind=kpt_shape[0] * kpt_shape[1])[0])
        except DataError:
            continue
        passed += 1
        assert used_by_ultralytics(text, tmp_path, 3, kpt_shape) == ours, text
    assert passed > 100
