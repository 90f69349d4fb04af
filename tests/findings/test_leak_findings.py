"""What an audit found in the data of a sweep is said in its report, with the command that shows it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.analysis.comparison import compare
from ablate.findings.all_findings import findings
from ablate.findings.finding import Kind
from ablate.findings.leak_findings import leak_findings
from ablate.records.audit_record import SCHEMA, AuditRecord, ImagePair
from ablate.records.json_struct import to_json
from ablate.records.loading import load_sweep
from ablate.records.predictions import Predictions, save_predictions
from ablate.storage.files import atomic_write_json
from ablate.storage.layout import OutputFolder

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
FINGERPRINT = "ab" * 32
PAIRS = (
    ImagePair("images/train/a.jpg", "images/val/1.jpg", "copy"),
    ImagePair("images/train/b.jpg", "images/val/1.jpg", "overlap"),
    ImagePair("images/train/b.jpg", "images/val/2.jpg", "same file"),
    ImagePair("images/test/5.jpg", "images/val/3.jpg", "copy"),
    ImagePair("images/train/a.jpg", "images/train/b.jpg", "copy"),
)


def audited(root: Path, pairs: tuple[ImagePair, ...] = PAIRS) -> Path:
    """Write an audit to an output folder; return its file."""
    record = AuditRecord(
        schema=SCHEMA,
        data="bccd",
        source="bccd.yaml",
        fingerprint=FINGERPRINT,
        created="2026-03-01T10:00:00+00:00",
        images={"train": 205, "val": 87, "test": 72},
        pairs=pairs,
    )
    path = OutputFolder(root).audit(FINGERPRINT).record
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_json(path, to_json(record))
    return path


@pytest.fixture
def trials(record: Make) -> list[dict[str, Any]]:
    made = [record(module, data="bccd") for module in ("none", "hmha")]
    for one in made:
        one["data"]["fingerprint"] = FINGERPRINT
        one["config"]["data"] = {"name": "bccd", "path": None}
    return made


def told(directory: Path) -> list[str]:
    return [finding.text for finding in leak_findings(compare(load_sweep(directory)))]


def test_leaks_into_the_judged_split_are_counted_with_the_command_that_lists_them(
    trials: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    directory = write(trials)
    assert not told(directory), "a data set that was never audited needs no sentence"
    audited(multirun)
    (text,) = told(directory)
    assert text.startswith("2 of 87 val images of bccd show what a train image shows (3 pairs)")
    assert "python -m ablate data audit data=bccd" in text
    comparison = compare(load_sweep(directory))
    assert [one.text for one in findings(comparison) if one.kind is Kind.CHECK] == [text]


def test_no_leaks_and_leaks_elsewhere_need_no_sentence(
    trials: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    audited(multirun, PAIRS[3:])
    assert not told(write(trials))


def test_the_test_split_is_held_against_training_images_too(
    trials: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    for one in trials:
        one["metrics"]["split"] = "test"
    audited(multirun, (*PAIRS, ImagePair("images/test/5.jpg", "images/train/b.jpg", "copy")))
    (text,) = told(write(trials))
    assert text.startswith("1 of 72 test images of bccd shows what a train image shows (1 pair)")


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 7}', '{"schema": 1}', ""])
def test_a_damaged_audit_is_said_and_stops_no_report(
    trials: list[dict[str, Any]], write: Write, multirun: Path, content: str
) -> None:
    audited(multirun).write_text(content, encoding="utf-8")
    (text,) = told(write(trials))
    assert text.startswith("The audit of bccd says nothing (audit.json:")
    assert "\n" not in text
    assert "python -m ablate data audit data=bccd" in text


def test_an_audit_whose_images_have_no_split_is_said(
    trials: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    audited(multirun, (*PAIRS, ImagePair("a.jpg", "images/val/1.jpg", "copy")))
    (text,) = told(write(trials))
    assert "says nothing (audit.json: it names 'a.jpg'" in text


def test_a_data_file_of_the_users_own_is_named(trials: list[dict[str, Any]], write: Write, multirun: Path) -> None:
    for one in trials:
        one["config"]["data"] = {"name": "custom", "path": "my data.yaml"}
    audited(multirun)
    assert "python -m ablate data audit 'my data.yaml'" in told(write(trials))[0]


@pytest.mark.security("Trial or sweep folder", "A command that a report suggests has each of its words quoted.")
def test_a_strangers_command_is_quoted(trials: list[dict[str, Any]], write: Write, multirun: Path) -> None:
    directory = write(trials)
    manifest = json.loads((directory / "sweep.json").read_text())
    for command, words in {
        "python -m ablate data.x=$(true) 'root=a b' module=eca -m": "'data.x=$(true)' 'root=a b'",
        "python 'without an end": "",
    }.items():
        (directory / "sweep.json").write_text(json.dumps(manifest | {"command": command}))
        audited(multirun)
        assert f"python -m ablate data audit data=bccd {words}".rstrip() + " lists" in told(directory)[0]


def predictions(names: list[str]) -> Predictions:
    """Of a detector that found nothing on these images, which have one object each."""
    one = np.zeros(len(names), dtype=np.int32)
    return Predictions(
        names=np.array(names),
        sizes=np.full((len(names), 2), 160, dtype=np.int32),
        thresholds=np.linspace(0.5, 0.95, 10),
        image=one[:0],
        cls=one[:0],
        conf=np.zeros(0),
        box=np.zeros((0, 4), dtype=np.uint16),
        hit=np.zeros((0, 10), dtype=bool),
        true_image=np.arange(len(names), dtype=np.int32),
        true_cls=one,
        true_box=np.zeros((len(names), 4), dtype=np.uint16),
    )


@pytest.mark.parametrize("together", [True, False])
def test_folds_that_part_images_that_show_the_same_are_told(
    record: Make, write: Write, multirun: Path, together: bool
) -> None:
    parts = [["train/a.jpg", "train/b.jpg", "val/1.jpg"], ["train/c.jpg", "val/2.jpg"]]
    pairs = PAIRS[:1] + PAIRS[4:] if together else PAIRS
    made = []
    for module in ("none", "hmha"):
        for fold, images in enumerate(parts):
            one = record(module, seed=fold, data="bccd") | {"seed": 0, "fold": fold}
            one["data"]["fingerprint"] = FINGERPRINT
            one["config"] |= {"data": {"name": "bccd"}, "fold": {"folds": 2, "index": fold}}
            one["artifacts"]["evidence"] = {"best": "evidence/best.npz"}
            made.append(one)
            path = multirun / "trials" / one["signature"] / "evidence" / "best.npz"
            save_predictions(path, predictions([f"images/val/{image}" for image in images]))
    audited(multirun, pairs)
    texts = told(write(made))
    if together:
        assert not texts
        return
    (text,) = texts
    assert text.startswith("2 of 5 images of bccd show what an image of another fold shows (1 pair)")
    assert "split=groups" in text
