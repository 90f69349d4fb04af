"""Reports of sweeps that version 0.1.0 really trained say what they said then; README.md tells of the records.

Facts are the numbers, and everything of the table but its notes: they never change. Wording may, on purpose: then
`python tests/golden_sweeps/regenerate.py` writes the expected texts anew.
"""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from tests.golden_sweeps.regenerate import DRAWN, EXPECTED, SWEEPS, copy_root, numbers, report, report_with_figures

from ablate.report.figures.style import encode

SAID = ("findings", "left_out")  # of report.json: sentences, not values
PROSE = ("notes",)  # of a row


def expected(sweep: str, name: str) -> str:
    return (EXPECTED / sweep / name).read_text(encoding="utf-8")


def same_value(one: Any, other: Any) -> bool:
    """Equal; of numbers that are not rounded the last digits are those of one processor's sums."""
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, rel=1e-12, abs=1e-15)
    return type(one) is type(other) and one == other


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The texts of each sweep's report, by the name of the file that keeps what is expected."""
    root = copy_root(tmp_path_factory.mktemp("golden"))
    return {sweep: report(root, sweep) for sweep in SWEEPS}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, str]]:
    """The same of reports with figures, and with the notebook."""

    def on_the_page(figure: Figure, kind: str, *, dpi: int = 160) -> bytes:
        # PNG and PDF take most of the time: tests/report looks at them.
        return b" " * 2000 if kind in ("png", "pdf") else encode(figure, kind, dpi=dpi)

    root = copy_root(tmp_path_factory.mktemp("golden"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ablate.report.figure_list.encode", on_the_page)
        return {sweep: report_with_figures(root, sweep) for sweep in DRAWN}


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_unrounded_table_stays(reports: dict[str, dict[str, str]], sweep: str) -> None:
    found, was = json.loads(reports[sweep]["report.json"]), json.loads(expected(sweep, "report.json"))

    assert list(found) == list(was)
    assert found["sweep"] == was["sweep"]
    assert len(found["variants"]) == len(was["variants"])
    for row, row_was in zip(found["variants"], was["variants"], strict=True):
        assert list(row) == list(row_was)
        changed = {
            name: (row[name], row_was[name])
            for name in row
            if name not in PROSE and not same_value(row[name], row_was[name])
        }
        assert changed == {}, row["variant"]
    for name in SAID:
        assert numbers(json.dumps(found[name])) == numbers(json.dumps(was[name]))


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_rounded_table_stays(reports: dict[str, dict[str, str]], sweep: str) -> None:
    found, was = (
        list(csv.DictReader(io.StringIO(text)))
        for text in (reports[sweep]["comparison.csv"], expected(sweep, "comparison.csv"))
    )

    assert len(found) == len(was)
    for row, row_was in zip(found, was, strict=True):
        assert list(row) == list(row_was)
        assert [row[name] for name in row if name not in PROSE] == [row_was[name] for name in row if name not in PROSE]
        assert [numbers(row[name]) for name in PROSE] == [numbers(row_was[name]) for name in PROSE]


@pytest.mark.parametrize("name", ["comparison.md", "comparison.tex", "page.txt", "terminal.txt"])
@pytest.mark.parametrize("sweep", SWEEPS)
def test_every_number_of_every_form_stays(reports: dict[str, dict[str, str]], sweep: str, name: str) -> None:
    assert numbers(reports[sweep][name]) == numbers(expected(sweep, name))


@pytest.mark.parametrize("sweep", SWEEPS)
def test_the_wording_is_the_expected_one(reports: dict[str, dict[str, str]], sweep: str) -> None:
    """Was it changed on purpose? Then run regenerate.py and read the difference in git."""
    for name, text in reports[sweep].items():
        if name != "report.json":  # its last digits may be another processor's
            assert text == expected(sweep, name)


@pytest.mark.parametrize("sweep", DRAWN)
def test_the_figures_are_drawn(drawn: dict[str, dict[str, str]], sweep: str) -> None:
    assert drawn[sweep]["figures.txt"] == expected(sweep, "figures.txt")


@pytest.mark.parametrize("sweep", DRAWN)
def test_every_number_of_captions_and_notebook_stays(drawn: dict[str, dict[str, str]], sweep: str) -> None:
    for name, text in drawn[sweep].items():
        assert numbers(text) == numbers(expected(sweep, name)), name


@pytest.mark.parametrize("sweep", DRAWN)
def test_the_wording_of_captions_and_notebook_is_the_expected_one(drawn: dict[str, dict[str, str]], sweep: str) -> None:
    for name, text in drawn[sweep].items():
        assert text == expected(sweep, name), name


def test_no_record_tells_of_a_machine() -> None:
    """Paths in the records are neutral ones, below /data."""
    for path in (Path(__file__).parent / "root").rglob("*.json"):
        text = path.read_text(encoding="utf-8")
        for word in ("/tmp/", "/root/", "/home/", "/usr/"):
            assert word not in text, path
