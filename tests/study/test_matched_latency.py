"""The stock network that is as slow as a graft is found by few measurements, and nothing is assumed of its latency."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.data.catalogue import DataSet
from ablate.settings.schema import Config, option_file
from ablate.settings.trial_settings import TrialSettings
from ablate.study.matched_latency import LatencyKey, Measure, Sizes, search, sizes_of, stock_settings
from ablate.study.trial import Trial

DATA = DataSet("mine", Path("mine.yaml"), ["a", "b"], {"train": 8, "val": 4}, {"train": 8, "val": 4}, "f" * 64)
WIDTHS = Sizes("width", 0.25, tuple(number / 128 for number in range(33, 97)))


def settings(module: str = "hmha", model: str = "yolo26n", weights: str | None = None, **train: Any) -> TrialSettings:
    content = asdict(Config())
    content["data"] = {"name": "mine", "path": "mine.yaml"}
    content["module"] = option_file("module", module)
    content["model"] |= {"name": model, "architecture": f"{model}.yaml", "weights": weights}
    content["train"] |= train
    return TrialSettings.from_plain(content)


def slow_as(
    exponent: float, target: float, *, missing: Sequence[float] = (), noise: float = 0.0
) -> tuple[Measure, list[float]]:
    """Latency as a power of the width; `target` is the width that is as slow as the graft."""
    looked: list[float] = []
    generator = np.random.default_rng(0)

    def measure(sizes: Sequence[float]) -> Mapping[float, float | None]:
        looked.extend(sizes)
        exact = {size: (size / target) ** exponent * math.exp(noise * generator.normal()) for size in sizes}
        return {size: None if size in missing else ratio for size, ratio in exact.items()}

    return measure, looked


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0, 2.5])
@pytest.mark.parametrize("target", [0.26, 0.3, 0.41, 0.55, 0.7])
def test_the_widths_beside_the_latency_of_a_graft_are_found_in_few_measurements(exponent: float, target: float) -> None:
    measure, looked = slow_as(exponent, target)
    found = search(WIDTHS, (0.25 / target) ** exponent, measure)

    nearest = min(WIDTHS.larger, key=lambda width: abs(math.log(width / target)))
    ratio = {size: (size / target) ** exponent for size in found.nearest}
    assert nearest in found.nearest or min(abs(one - 1) for one in ratio.values()) <= 0.01
    assert len(looked) <= 15


def test_widths_that_cannot_be_built_are_passed_over() -> None:
    missing = WIDTHS.larger[15:22]
    measure, looked = slow_as(1.5, WIDTHS.larger[18], missing=missing)
    found = search(WIDTHS, (0.25 / WIDTHS.larger[18]) ** 1.5, measure)

    assert not set(found.nearest) & set(missing)
    assert found.nearest[0] < WIDTHS.larger[18] < found.nearest[-1]
    assert len(looked) <= 15


def test_a_graft_that_is_slower_than_every_width_ends_at_the_widest() -> None:
    measure, _ = slow_as(1.0, 2.0)
    found = search(WIDTHS, 0.25 / 2.0, measure)

    assert found.nearest == (WIDTHS.larger[-1],)
    assert found.tried[WIDTHS.larger[-1]] == pytest.approx(0.75 / 2)


def test_a_step_up_at_the_first_width_is_told_as_the_nearest_from_above() -> None:
    found = search(WIDTHS, 0.95, lambda sizes: dict.fromkeys(sizes, 1.2))

    assert found.nearest == (WIDTHS.larger[0],)


def test_noise_of_a_measurement_does_not_lead_far_away() -> None:
    measure, _ = slow_as(1.4, 0.4, noise=0.03)
    found = search(WIDTHS, (0.25 / 0.4) ** 1.4, measure)

    assert all(abs(size / 0.4 - 1) < 0.12 for size in found.nearest)


def test_layers_are_wider_without_weights_and_images_larger_with_them() -> None:
    without, with_weights = sizes_of(settings()), sizes_of(settings(weights="yolo26n.pt", imgsz=320))
    other = sizes_of(settings(model="yolo26n-p6", weights="x.pt", imgsz=320))

    assert (without.by, without.stock, without.larger[0], without.larger[-1]) == ("width", 0.25, 33 / 128, 0.75)
    assert (with_weights.by, with_weights.stock, with_weights.larger[:2]) == ("imgsz", 320, (352.0, 384.0))
    assert other.larger[0] == 384
    assert sizes_of(settings(weights="x.pt", imgsz=60)).larger[0] == 96  # trained at 64


def test_the_stock_network_of_a_size_differs_from_the_graft_in_nothing_else() -> None:
    given = settings(imgsz=320)
    wider, larger = stock_settings(given, "width", 0.3125), stock_settings(given, "imgsz", 352.0)

    assert (wider.grafts, wider.model.name, wider.train) == ((), "yolo26n-width0.3125", given.train)
    assert (larger.model, larger.train.imgsz, larger.train.arguments["imgsz"]) == (given.model, 352, 352)


def test_what_a_match_depends_on_is_the_network_and_neither_seed_nor_recipe() -> None:
    one = LatencyKey.of(Trial.of(settings(), DATA), "a setting", "cpu")

    assert LatencyKey.of(Trial.of(settings(epochs=3, batch=2), DATA), "a setting", "cpu") == one
    for other in (settings("acmix"), settings(imgsz=96), settings(model="yolo26s"), settings(weights="a.pt")):
        assert LatencyKey.of(Trial.of(other, DATA), "a setting", "cpu") != one


def test_where_most_widths_cannot_be_built_the_few_others_are_found() -> None:
    """As in YOLO26n, whose attention has one head for 64 channels, and channels that its heads must divide."""
    missing = [number / 128 for number in range(81, 96) if number not in (85, 90, 95)]
    measure, _ = slow_as(1.0, 86 / 128, missing=missing)
    found = search(WIDTHS, 0.25 / (86 / 128), measure)

    assert 85 / 128 in found.nearest
    assert 90 / 128 in found.nearest or found.tried[85 / 128] == pytest.approx(85 / 86)


def test_the_one_width_that_can_be_built_is_found() -> None:
    """As in YOLO12n, whose area attention takes multiples of 32 channels."""
    measure, _ = slow_as(1.0, 0.4, missing=[size for size in WIDTHS.larger if size != 0.5])
    found = search(WIDTHS, 0.25 / 0.4, measure)

    assert found.nearest == (0.5,)
