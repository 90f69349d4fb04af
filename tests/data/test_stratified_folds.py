"""Folds are disjoint, complete, alike in size and in objects, keep groups whole, and do not depend on any order."""

from __future__ import annotations

import numpy as np
import pytest

from ablate.data.stratified_folds import divide


def drawn(images: int, classes: int, seed: int = 0) -> np.ndarray:
    """Objects of each class in each image, (I, C); some images have many, some classes are rare."""
    random = np.random.default_rng(seed)
    rate = 4.0 * 2.0 ** -np.arange(classes) * random.gamma(1, 1, (images, 1))
    return random.poisson(rate).astype(np.int64)


def names_of(images: int) -> list[str]:
    return [f"images/train/{index:04d}.jpg" for index in range(images)]


@pytest.mark.parametrize(("images", "folds"), [(100, 5), (101, 5), (11, 5), (7, 7), (200, 2)])
def test_single_images_make_folds_that_differ_by_one_image_at_most(images: int, folds: int) -> None:
    names = names_of(images)

    sizes = np.bincount(divide(names, names, drawn(images, 3), folds), minlength=folds)

    assert sizes.sum() == images
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.parametrize("seed", range(5))
def test_each_class_is_spread_more_evenly_than_by_chance(seed: int) -> None:
    objects, names = drawn(300, 5, seed), names_of(300)
    chance = np.random.default_rng(seed).permutation(300) % 5

    shares = [
        np.array([objects[fold_of == fold].sum(0) for fold in range(5)]) / objects.sum(0)
        for fold_of in (divide(names, names, objects, 5), chance)
    ]

    deviations = [float(np.abs(share - 0.2).max()) for share in shares]
    assert deviations[0] < 0.03
    assert deviations[0] < deviations[1] / 2


def test_a_class_in_as_many_images_as_there_are_folds_is_in_every_fold() -> None:
    objects = drawn(100, 1)
    rare = np.zeros((100, 1), np.int64)
    rare[[3, 4, 5, 6, 7]] = 1
    names = names_of(100)

    fold_of = divide(names, names, np.hstack([objects, rare]), 5)

    assert sorted(fold_of[3:8]) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_whole_and_folds_nearly_equal(seed: int) -> None:
    random = np.random.default_rng(seed)
    groups = [f"clip {number}" for number in random.integers(0, 40, 200)]

    fold_of = divide(names_of(200), groups, drawn(200, 3, seed), 5)

    folds_of = {group: {int(f) for f, g in zip(fold_of, groups, strict=True) if g == group} for group in groups}
    assert all(len(folds) == 1 for folds in folds_of.values())
    assert np.abs(np.bincount(fold_of) - 40).max() <= 3


def test_no_fold_is_empty_where_there_are_as_many_groups_as_folds() -> None:
    groups = ["a"] * 6 + ["b"] * 3 + ["c"]

    fold_of = divide(names_of(10), groups, drawn(10, 2), 3)

    assert sorted(np.bincount(fold_of)) == [1, 3, 6]


def test_images_in_another_order_are_in_the_same_folds() -> None:
    names, objects = names_of(60), drawn(60, 3)
    groups = [f"g{index // 3}" for index in range(60)]
    order = np.random.default_rng(1).permutation(60)

    fold_of = divide(names, groups, objects, 4)
    shuffled = divide([names[i] for i in order], [groups[i] for i in order], objects[order], 4)

    assert (shuffled == fold_of[order]).all()


def test_the_division_of_some_images_stays_what_it_was() -> None:
    """Another division makes other trials; `VERSION` then goes up."""
    names, objects = names_of(12), np.array([[index % 4, index % 3 == 0] for index in range(12)], dtype=np.int64)
    assert "".join(map(str, divide(names, names, objects, 3))) == "012010112202"
