"""Overlaps of boxes, for all who ask."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from ultralytics.utils.metrics import box_iou

from ablate.evaluation.boxes import areas, overlaps


def test_overlaps_are_those_of_ultralytics_pair_by_pair_and_each_with_each() -> None:
    random = np.random.default_rng(0)
    low = random.uniform(0, 80, (2, 40, 2))
    one, other = np.concatenate([low, low + random.uniform(1, 60, (2, 40, 2))], axis=2)
    expected = box_iou(torch.tensor(one), torch.tensor(other)).numpy()
    assert overlaps(one[:, None], other[None]) == pytest.approx(expected, abs=1e-6)
    assert overlaps(one, other) == pytest.approx(expected.diagonal(), abs=1e-6)
    assert overlaps(one[3], other) == pytest.approx(expected[3], abs=1e-6)
    assert (expected > 0.1).any()


def test_boxes_without_area_overlap_nothing() -> None:
    nothing = np.array([[5.0, 5.0, 5.0, 5.0]])
    assert areas(nothing).tolist() == [0.0]
    assert overlaps(nothing, nothing).tolist() == [0.0]
