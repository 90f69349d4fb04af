from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ablate.data.errors import DataError
from ablate.data.labels import check_image, parse_label

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
    assert parse("0 .5 .5 .2 .2 .1 .1 2 .1 .1 2 .1 .1\n", pose_columns=8) == ((0,), (), 0)


def encoded(suffix: str, side: int = 64) -> bytes:
    pixels = np.random.RandomState(0).randint(0, 256, (side, side, 3)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, suffix)
    return out.getvalue()


@pytest.mark.parametrize("suffix", ["jpeg", "png", "bmp", "webp", "tiff"])
def test_a_sound_image_passes(suffix: str) -> None:
    check_image(encoded(suffix), Path(f"a.{suffix}"))


@pytest.mark.parametrize("suffix", ["jpeg", "png", "bmp", "webp"])
def test_an_image_that_is_cut_off_is_an_error_that_names_it(suffix: str) -> None:
    content = encoded(suffix)
    with pytest.raises(DataError, match=rf"a\.{suffix}: the image file is damaged or cut off"):
        check_image(content[: len(content) * 2 // 3], Path(f"a.{suffix}"))


def test_a_jpeg_with_something_behind_its_end_passes() -> None:
    check_image(encoded("jpeg") + b"\0\0trailer", Path("a.jpg"))


@pytest.mark.parametrize(
    ("content", "what"),
    [(b"", "is empty"), (b"not an image", "not an image that can be read"), (encoded("png", 9), "has 9x9 pixels")],
)
def test_what_is_no_usable_image_is_an_error(content: bytes, what: str) -> None:
    with pytest.raises(DataError, match=rf"a\.png: .*{what}"):
        check_image(content, Path("a.png"))


def test_an_unusable_image_is_an_error_in_a_process_that_has_imported_ultralytics(tmp_path: Path) -> None:
    import ultralytics.utils.patches  # noqa: F401 - replaces PIL's Image.open in the whole process

    with pytest.raises(DataError, match="not an image that can be read"):
        check_image(b"this is no image", tmp_path / "a.jpg")
