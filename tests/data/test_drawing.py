from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ablate.data.drawing import CLASSES, UNIT, Style, _Canvas, _rasterise, draw

PLAIN = Style(imgsz=64, objects=4, clutter=3, noise=10, occlusion=50)


def test_equal_seeds_draw_equal_pictures_and_other_seeds_draw_others() -> None:
    first, again, other = draw(PLAIN, (0, 1)), draw(PLAIN, (0, 1)), draw(PLAIN, (0, 2))
    assert np.array_equal(first.pixels, again.pixels)
    assert first.boxes == again.boxes
    assert not np.array_equal(first.pixels, other.pixels)


def test_a_picture_is_pinned_to_its_bytes() -> None:
    made = draw(PLAIN, (7, 0, 3))
    digest = hashlib.sha256(made.pixels.tobytes() + repr(made.boxes).encode()).hexdigest()
    assert digest == "a8113d9017c993e54d6426a18c7dd846fb1559e64c3567834d50fe8c10f5f458"


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("turn", [(0, 0), (5, 1), (-12, 3)])
def test_no_shape_is_cut_by_its_window(kind: str, turn: tuple[int, int]) -> None:
    radius = 20 * UNIT
    reach = radius * 6 // 5
    side = 2 * reach // UNIT + 2
    inside = _rasterise(kind, reach, reach, radius, turn, side)
    wider = _rasterise(kind, reach + 10 * UNIT, reach + 10 * UNIT, radius, turn, side + 20)
    assert inside.sum() == wider.sum() > 0


def test_a_circle_covers_pi_r_squared() -> None:
    radius = 20 * UNIT
    inside = _rasterise("circle", 24 * UNIT, 24 * UNIT, radius, (3, 2), 48)
    assert inside.sum() / 16 == pytest.approx(np.pi * 20**2, rel=0.005)


def test_boxes_lie_in_the_picture_around_something_drawn() -> None:
    for index in range(20):
        made = draw(PLAIN, (0, index))
        assert made.boxes
        for cls, x1, y1, x2, y2 in made.boxes:
            assert 0 <= cls < len(CLASSES)
            assert 0 <= x1 < x2 <= 64 * UNIT
            assert 0 <= y1 < y2 <= 64 * UNIT


def test_every_object_keeps_the_part_that_must_be_seen() -> None:
    crowded = Style(imgsz=96, objects=30, clutter=20, noise=0, occlusion=40)
    for seed in range(5):
        canvas = _Canvas(np.random.RandomState([seed]), crowded)
        for _ in range(40):
            canvas.place(CLASSES)
        assert len(canvas.boxes) > 5
        for number, area in enumerate(canvas.area):
            assert (canvas.owner == number).sum() >= 0.6 * area


def test_occlusion_happens() -> None:
    crowded = Style(imgsz=96, objects=12, clutter=8, noise=0, occlusion=60)
    canvas = _Canvas(np.random.RandomState([1]), crowded)
    for _ in range(12):
        canvas.place(CLASSES)
    seen = np.array([(canvas.owner == number).sum() for number in range(len(canvas.area))])
    assert (seen < 0.9 * np.array(canvas.area)).any()


def test_noise_is_what_the_style_says() -> None:
    quiet = draw(Style(64, 4, 3, 0, 50), (0, 0)).pixels.astype(int)
    noisy = draw(Style(64, 4, 3, 32, 50), (0, 0)).pixels.astype(int)
    difference = (noisy - quiet)[(quiet > 40) & (quiet < 215)]
    assert abs(difference.mean()) < 1
    assert np.abs(difference).max() <= 32
    assert difference.std() == pytest.approx(32 / 6**0.5, rel=0.1)  # of a triangular distribution
