"""Two halves of the images: always the same ones, equally large, and measured as the whole is."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.evaluation.average_precision import ap_of_ranked
from ablate.evaluation.image_halves import half_accuracies, second_half

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
    found = half_accuracies(names, hits, confidences, detected, classes)
    second = second_half(names, classes)
    for half in (0, 1):
        chosen = np.flatnonzero(second == half)
        order = np.argsort(-np.concatenate([confidences[i] for i in chosen]))
        hit = np.concatenate([hits[i] for i in chosen])[order]
        cls = np.concatenate([detected[i] for i in chosen])[order]
        ap = ap_of_ranked(hit, cls, np.concatenate([classes[i] for i in chosen]))
        assert found["map50_95"][half] == pytest.approx(ap.mean())
        assert found["map50"][half] == pytest.approx(ap[:, 0].mean())


def test_images_without_detections_or_objects_have_an_accuracy_of_zero() -> None:
    nothing = [np.zeros((0, 10), dtype=bool)] * 2, [np.empty(0)] * 2, [np.empty(0)] * 2, [np.empty(0)] * 2
    assert half_accuracies(["a", "b"], *nothing) == {"map50_95": (0.0, 0.0), "map50": (0.0, 0.0)}
    assert half_accuracies([], [], [], [], []) == {"map50_95": (0.0, 0.0), "map50": (0.0, 0.0)}
