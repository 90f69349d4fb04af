"""What a report of a thousand records may cost: each file read once, each figure drawn once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from simulated import recorded

from ablate.cli.verbs import report

SEEDS, TRIALS = 200, 1000
FIGURES = 6  # for which these records hold what is drawn


def test_a_report_of_a_thousand_reads_each_record_once(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    watched: Callable[[], Any],
) -> None:
    monkeypatch.setattr(recorded, "OPTIMIZERS", ("sgd",))
    monkeypatch.setattr(recorded, "MODULES", {"hmha": 0.01, "acmix": 0.004, "sta": 0.0})
    monkeypatch.setattr(recorded, "PLACES", ("c3k2",))
    monkeypatch.setattr(recorded, "IMAGES", 1)
    recorded.write_recorded(tmp_path, seeds=SEEDS, epochs=3, classes=3)
    drawn: list[tuple[Figure, str]] = []  # the figures themselves, so that no other one gets the id of one

    def saved(self: Figure, file: Any, *arguments: Any, format: str | None = None, **options: Any) -> None:
        drawn.append((self, str(format)))
        file.write(b"<svg/>")

    monkeypatch.setattr(Figure, "savefig", saved)
    with watched() as disk:
        assert report([f"root={tmp_path}", "notebook=false"]) == 0

    records = Counter(disk.opens(under=tmp_path / "trials", names=("*.json",)))
    assert len([path for path in records if path.name == "result.json"]) == TRIALS
    assert max(records.values()) == 1
    assert Counter(disk.opens(under=tmp_path / "sweeps", names=("sweep.json", "latency.json"))).total() <= 3
    assert len({id(figure) for figure, _ in drawn}) == FIGURES
    assert set(Counter((id(figure), kind) for figure, kind in drawn).values()) == {1}


def test_a_report_as_json_draws_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MODULES", {"hmha": 0.01})
    monkeypatch.setattr(recorded, "PLACES", ("c3k2",))
    recorded.write_recorded(tmp_path, seeds=1, epochs=2, classes=2)
    monkeypatch.setattr(Figure, "__init__", lambda *_, **__: pytest.fail("a figure was made"))

    assert report([f"root={tmp_path}", "--json"]) == 0
    assert not list((tmp_path / "sweeps").rglob("comparison.*"))
