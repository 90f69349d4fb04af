"""The page on security says what the security tests show."""

from __future__ import annotations

import runpy
from collections import Counter
from pathlib import Path

MADE = runpy.run_path(str(Path(__file__).parent / "security_page.py"))


def test_the_page_is_what_the_tests_say() -> None:
    assert MADE["PAGE"].read_text(encoding="utf-8") == MADE["page"]()


def test_every_kind_of_file_has_its_rows() -> None:
    counts = Counter(row.kind for row in MADE["rows"]())

    least = {"Checkpoint": 6, "Data file": 5, "Working folder": 4, "Trial or sweep folder": 8, "Record": 6, "Text": 6}
    assert {kind: counts[kind] for kind, rows in least.items() if counts[kind] < rows} == {}
    assert counts.total() >= 45
