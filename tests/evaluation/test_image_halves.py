"""Two halves of the images: always the same ones, equally large, and measured as the whole is."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.evaluation.average_precision import ap_of_ranked
from ablate.evaluation.image_halves import half_accuracies, second_half, second_half_of_groups

RANDOM = np.random.default_rng(0)


def images(count: int) -> tuple[list[str], list[np.ndarray]]:
    classes = [RANDOM.integers(0, 3, RANDOM.integers(0, 5)) for _ in range(count)]
    for image in (3, 17):  # a rare class, in two images
        classes[image] = np.array([7, 0])
    return [f"images/val/{number}.jpg" for number in range(count)], classes


@pytest.mark.parametrize("count", [0, 1, 2, 21, 100])
def test_the_halves_differ_by_one_image_at_most(count: int) -> None:
    names = [f"{number}.jpg" for number in range(count)]
    second = second_half(names, [np.array([0])] * count)
    assert second.sum() == count // 2


def test_a_rare_class_is_in_both_halves() -> None:
    names, classes = images(50)
    assert second_half(names, classes)[[3, 17]].sum() == 1


def test_the_halves_do_not_depend_on_the_order_of_evaluation() -> None:
    names, classes = images(50)
    order = RANDOM.permutation(50)
    shuffled = second_half([names[i] for i in order], [classes[i] for i in order])
    np.testing.assert_array_equal(shuffled, second_half(names, classes)[order])


def test_the_accuracy_of_a_half_is_that_of_its_images_alone() -> None:
    names, classes = images(40)
    counts = RANDOM.integers(0, 6, 40)
    hits = [RANDOM.random((count, 10)) < 0.5 for count in counts]
    confidences = [RANDOM.random(count) for count in counts]
    detected = [RANDOM.integers(0, 3, count).astype(float) for count in counts]
    second = second_half(names, classes)
    found = half_accuracies(second, hits, confidences, detected, classes)
    for half in (0, 1):
        chosen = np.flatnonzero(second == half)
        order = np.argsort(-np.concatenate([confidences[i] for i in chosen]))
        hit = np.concatenate([hits[i] for i in chosen])[order]
        cls = np.concatenate([detected[i] for i in chosen])[order]
        ap = ap_of_ranked(hit, cls, np.concatenate([classes[i] for i in chosen]))
        assert found.map50_95[half] == pytest.approx(ap.mean())
        assert found.map50[half] == pytest.approx(ap[:, 0].mean())


def test_images_without_detections_or_objects_have_an_accuracy_of_zero() -> None:
    nothing = [np.zeros((0, 10), dtype=bool)] * 2, [np.empty(0)] * 2, [np.empty(0)] * 2, [np.empty(0)] * 2
    assert half_accuracies(np.array([False, True]), *nothing) == ((0.0, 0.0), (0.0, 0.0))
    assert half_accuracies(np.zeros(0, dtype=bool), [], [], [], []) == ((0.0, 0.0), (0.0, 0.0))


def clips(count: int, images_of_each: int = 5) -> tuple[list[str], list[np.ndarray], list[str]]:
    """Frames of clips: their names, their objects (each clip shows one class of three), and their groups."""
    names = [f"images/val/{clip:02}-{frame}.jpg" for clip in range(count) for frame in range(images_of_each)]
    classes = [np.full(1 + frame % 2, clip % 3) for clip in range(count) for frame in range(images_of_each)]
    return names, classes, [f"clip {clip}" for clip in range(count) for _ in range(images_of_each)]


def halved(names: list[str], classes: list[np.ndarray], groups: list[str]) -> np.ndarray:
    second = second_half_of_groups(names, classes, groups)
    assert second is not None
    return second


def test_images_of_one_group_are_in_one_half_and_single_images_divide_them() -> None:
    names, classes, groups = clips(12)
    second = halved(names, classes, groups)
    assert all(len(set(second[[g == group for g in groups]])) == 1 for group in set(groups))
    assert second.sum() == 30
    of_images = second_half(names, classes)
    assert any(len(set(of_images[[g == group for g in groups]])) == 2 for group in set(groups))


def test_halves_of_groups_have_every_class_where_two_groups_have_it() -> None:
    names, classes, groups = clips(6)
    second = halved(names, classes, groups)
    assert {int(classes[i][0]) for i in np.flatnonzero(second)} == {0, 1, 2}
    assert {int(classes[i][0]) for i in np.flatnonzero(~second)} == {0, 1, 2}


def test_halves_of_groups_depend_neither_on_the_order_nor_on_what_groups_are_called() -> None:
    names, classes, groups = clips(9, 4)
    order = RANDOM.permutation(len(names))
    distinct = sorted(set(groups), reverse=True)
    renamed = [f"other {distinct.index(group)}" for group in groups]
    shuffled = halved([names[i] for i in order], [classes[i] for i in order], [renamed[i] for i in order])
    np.testing.assert_array_equal(shuffled, halved(names, classes, groups)[order])


def test_images_of_one_single_group_cannot_be_halved() -> None:
    names, classes, _ = clips(1)
    assert second_half_of_groups(names, classes, ["all"] * len(names)) is None
    assert second_half_of_groups([], [], []) is None


def test_one_large_group_is_a_half_of_its_own() -> None:
    names, classes, groups = clips(10, 4)
    groups = ["large" if index < 30 else group for index, group in enumerate(groups)]
    assert halved(names, classes, groups).sum() in (10, 30)
