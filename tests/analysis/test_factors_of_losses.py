"""Losses and heads are factors like module and insertion; what gave the baseline's results digit by digit is said."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

import pytest
from tests.factories import header, make_record

from ablate.analysis.comparison import Comparison, compare
from ablate.analysis.factor_effects import analyses_of
from ablate.analysis.table import comparison_frame
from ablate.findings.all_findings import findings
from ablate.records.loading import load_sweep
from ablate.report.text_table import text_columns
from ablate.report.write import csv_text
from ablate.storage.files import atomic_write_json
from ablate.tracking.mlflow_payload import trial_tags

STOCK = {"module": "none", "insertion": "none", "optimizer": "musgd", "model": "yolo26n", "data": "shapes"}


def record(accuracy: float, seed: int = 0, loss: float = 1.25, **factors: str) -> dict[str, Any]:
    """A trial with these levels beside the stock ones, and its training loss in each of two epochs."""
    levels = STOCK | factors
    parts = {"module": levels["insertion"], "head": "detect", "box_loss": "box", "cls_loss": "cls"}
    name = "+".join(f"{factors[factor]}@{part}" for factor, part in parts.items() if factor in factors) or "baseline"
    content = make_record(
        signature=hashlib.sha256(f"{sorted(levels.items())}{seed}".encode()).hexdigest(),
        variant=f"{name} musgd",
        variant_key=hashlib.sha256(repr(sorted(levels.items())).encode()).hexdigest()[:16],
        comparison_key="c" * 16,
        factors=levels,
        seed=seed,
        history=[
            {"epoch": epoch, "time": 1e9 + seed + accuracy, "seconds": accuracy, "train/box_loss": loss / epoch}
            for epoch in (1, 2)
        ],
    )
    content["metrics"]["map50_95"] = accuracy
    return content


def compared(folder: Path, records: list[dict[str, Any]]) -> Comparison:
    for each in records:
        atomic_write_json(folder / "trials" / each["signature"] / "result.json", each)
    head = {"name": "s", "signatures": [each["signature"] for each in records]}
    atomic_write_json(folder / "sweeps" / "s" / "sweep.json", head)
    return compare(load_sweep(folder / "sweeps" / "s"))


def test_a_loss_is_compared_with_the_stock_one(tmp_path: Path) -> None:
    comparison = compared(tmp_path, [record(0.3, box_loss="wiou[delta=2]"), record(0.2), record(0.25, head="dyhead")])

    assert [row.is_baseline for row in comparison.rows] == [True, False, False]
    assert [round(row.estimate or 0, 3) for row in comparison.rows[1:]] == [0.1, 0.05]
    table = list(csv.DictReader(io.StringIO(csv_text(comparison))))
    assert list(table[0])[-2:] == ["box_loss", "head"]
    assert [(row["box_loss"], row["head"]) for row in table] == [
        ("ciou", "detect"), ("wiou[delta=2]", "detect"), ("ciou", "dyhead"),
    ]  # fmt: skip
    assert list(comparison_frame(comparison).columns[-2:]) == ["box_loss", "head"]
    assert [column.title for column in text_columns(comparison, "details")][-2:] == ["Box loss", "Head"]


def test_tables_of_stock_losses_have_no_column_of_them(tmp_path: Path) -> None:
    comparison = compared(tmp_path, [record(0.2), record(0.3, module="hmha", insertion="c3k2")])

    assert {"box_loss", "cls_loss", "assigner", "head"}.isdisjoint(comparison_frame(comparison).columns)
    assert {"Box loss", "Head"}.isdisjoint(column.title for column in text_columns(comparison, "details"))


def test_effects_of_losses_are_estimated(tmp_path: Path) -> None:
    noise = {0: 0.0, 1: 0.003, 2: -0.001}
    records = [
        record(
            0.2
            + 0.1 * (box == "wiou")
            + 0.02 * (cls == "focal")
            + spread * (1 + (box == "wiou") + 0.1 * (cls == "focal")),
            seed,
            **levels,
        )
        for box in ("ciou", "wiou")
        for cls in ("bce", "focal")
        for seed, spread in noise.items()
        for levels in [{n: v for n, v in (("box_loss", box), ("cls_loss", cls)) if v not in ("ciou", "bce")}]
    ]
    (analysis,) = analyses_of(compared(tmp_path, records))

    assert analysis.refusal == ""
    assert analysis.levels == {"box_loss": ["ciou", "wiou"], "cls_loss": ["bce", "focal"]}
    effects = {effect.level: effect.interval.estimate for effect in analysis.effects}
    assert effects["wiou"] == pytest.approx(0.05, abs=0.001)
    assert effects["focal"] == pytest.approx(0.01, abs=0.001)


def test_a_module_of_one_place_and_no_module_are_levels_beside_losses(tmp_path: Path) -> None:
    graft = {"module": "hmha", "insertion": "c3k2"}
    records = [
        record(0.2 + 0.05 * bool(module) + 0.1 * bool(loss) + 0.001 * seed * (1 + bool(loss)), seed, **module, **loss)
        for module in ({}, graft)
        for loss in ({}, {"box_loss": "wiou"})
        for seed in (0, 1)
    ]
    (analysis,) = analyses_of(compared(tmp_path, records))

    assert analysis.levels == {"module": ["none", "hmha"], "box_loss": ["ciou", "wiou"]}
    assert not analysis.refusal


def test_a_loss_that_did_not_act_is_said_in_words(tmp_path: Path) -> None:
    records = [record(0.2), record(0.2, box_loss="wiou"), record(0.2, cls_loss="focal", loss=1.2500001)]
    comparison = compared(tmp_path, records)

    notes = {row.label: "; ".join(row.notes) for row in comparison.rows}
    assert "in every digit: what it changes did not act" in notes["wiou@box musgd"]
    assert "digit" not in notes["focal@cls musgd"] + notes["baseline musgd"]
    said = [finding.text for finding in findings(comparison) if "did not act" in finding.text]
    assert len(said) == 1
    assert said[0].startswith("wiou@box musgd gave the results of baseline musgd in every digit")


def test_an_identity_is_expected_to_equal_the_baseline(tmp_path: Path) -> None:
    identities = [{"box_loss": "identity"}, {"module": "identity", "insertion": "down"}, {"head": "identity"}]
    comparison = compared(tmp_path, [record(0.2), *(record(0.2, **levels) for levels in identities)])

    for row in comparison.rows[1:]:
        assert "as an identity should be" in "; ".join(row.notes)
    assert not any("did not act" in finding.text for finding in findings(comparison))


def test_two_variants_that_gave_the_same_are_said_to_differ_in_nothing_that_acts(tmp_path: Path) -> None:
    graft = {"module": "hmha", "insertion": "c3k2"}
    records = [record(0.2), record(0.3, loss=1.5, **graft), record(0.3, loss=1.5, box_loss="wiou", **graft)]
    records += [record(0.3, loss=1.5, cls_loss="identity", **graft)]
    said = [finding.text for finding in findings(compared(tmp_path, records)) if "did not act" in finding.text]

    assert len(said) == 1
    assert "hmha@c3k2+wiou@box musgd" in said[0]
    assert "what they differ in did not act" in said[0]


def test_records_without_a_training_history_are_not_called_identical(tmp_path: Path) -> None:
    records = [record(0.2), record(0.2, box_loss="wiou")]
    for each in records:
        each["history"] = []

    assert not any("digit" in note for row in compared(tmp_path, records).rows for note in row.notes)


def test_a_run_is_tagged_as_a_baseline_only_where_it_changes_nothing() -> None:
    assert trial_tags(header(factors=STOCK))["ablate.baseline"] == "true"
    tags = trial_tags(header(factors={**STOCK, "box_loss": "wiou"}))
    assert (tags["ablate.baseline"], tags["ablate.box_loss"]) == ("false", "wiou")
