"""The table of docs/insertion-points.md holds what resolves where."""

from __future__ import annotations

import pytest
from tests.grafting.points_page import COLUMNS, PAGE, recorded, row

from ablate.settings.points import POINTS
from ablate.settings.schema import options

ROWS = recorded(PAGE.read_text(encoding="utf-8"))
QUICK = ("yolo26n-p6", "yolo12n", "yolov10n")


def test_the_page_has_every_network_and_every_point() -> None:
    assert list(ROWS) == options("model")
    assert all(line.count("|") == len(COLUMNS) + 2 for line in ROWS.values())
    page = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in page or f"`_{name.rpartition('_')[2]}`" in page for name in POINTS)


@pytest.mark.parametrize("model", [pytest.param(m, marks=[] if m in QUICK else pytest.mark.slow) for m in ROWS])
def test_each_point_has_as_many_places_as_the_page_says(model: str) -> None:
    assert row(model) == ROWS[model]
