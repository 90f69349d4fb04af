"""The files that tell how far a training is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ablate.records.metrics import EpochRow
from ablate.training.history import Journal, seconds_per_epoch


def test_settling_leaves_the_rows_that_are_given_and_no_progress(tmp_path: Path) -> None:
    (tmp_path / "history.jsonl").write_text('{"epoch": 1}\n{"epoch": 2}\n{"epo', encoding="utf-8")
    (tmp_path / "progress.json").write_text("{}", encoding="utf-8")
    journal = Journal(tmp_path)

    journal.settle([EpochRow({"epoch": 1})])
    journal.rows.append(EpochRow({"epoch": 2}))
    journal.write_last()

    lines = (tmp_path / "history.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"epoch": 1}, {"epoch": 2}]
    assert [path.name for path in tmp_path.iterdir()] == ["history.jsonl"]


def test_progress_is_written_at_most_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path)
    told = []

    for now in (0.0, 0.5, 0.99, 1.2, 2.1, 2.3):
        monkeypatch.setattr("time.monotonic", lambda now=now: now)
        journal.tell(batch=int(now * 100))
        told.append(json.loads((tmp_path / "progress.json").read_text(encoding="utf-8"))["batch"])

    assert told == [0, 0, 0, 120, 120, 229]
    assert [path.name for path in tmp_path.iterdir()] == ["progress.json"]


def test_a_disk_that_refuses_progress_does_no_harm(tmp_path: Path) -> None:
    Journal(tmp_path / "missing").tell(batch=1)
    assert not (tmp_path / "missing").exists()


def test_an_epoch_s_time_is_the_median_without_the_first() -> None:
    def of(*seconds: float) -> float:
        return seconds_per_epoch([EpochRow({"epoch": 1 + i, "seconds": each}) for i, each in enumerate(seconds)])

    assert of(90.0, 10.0, 14.0, 11.0) == 11.0
    assert of(90.0, 10.0) == 10.0
    assert of(90.0) == 90.0
