"""A trained network with a module is exported by plain Ultralytics, and the file computes what PyTorch does."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from tests.export.pairs import EXAMPLE, FORMS, LIMIT, MODULES, PAGE, PLACES, Form, largest_difference, train

pytestmark = pytest.mark.filterwarnings("ignore")  # Ultralytics' exporter and torch's


@pytest.fixture(autouse=True)
def nothing_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ultralytics installs what an export lacks, such as onnxslim."""
    from ultralytics.utils import checks

    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(checks, "AUTOINSTALL", False)


@pytest.mark.slow  # training/test_replaced_layers.py exports a network, modules/test_traced.py each module
def test_a_trained_network_with_every_module_is_exported_for_any_size_and_batch(tmp_path: Path) -> None:
    checkpoint = train(tmp_path, "hmha@neck_p4", "acmix@backbone_p4", "sta@neck_p3", "hat@neck_p5", width=1 / 16)

    assert largest_difference(checkpoint, replace(FORMS[1], shapes=(EXAMPLE, (3, 96, 64), (1, 64, 160)))) < LIMIT


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.title)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("module", MODULES)
def test_each_module_is_exported_at_each_place(tmp_path: Path, module: str, place: str, form: Form) -> None:
    assert largest_difference(train(tmp_path, f"{module}@{place}", width=0.25), form) < LIMIT


def test_the_page_has_each_module_at_each_place_within_the_limit() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    measured = {(row[0].strip(), row[1].strip()): row[2:] for row in rows if re.search(r"\de[+-]\d", row[-1])}

    assert set(measured) == {("none (YOLO26n)", "-"), *((module, place) for module in MODULES for place in PLACES)}
    for cells in measured.values():
        assert len(cells) == len(FORMS)
        assert all(float(cell) < LIMIT for cell in cells)
