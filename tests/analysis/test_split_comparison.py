"""The test split in a report: beside the validation images, once opened, and not a word before that."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.fixtures.tested import line, open_by_hand

from ablate.analysis.comparison import Comparison
from ablate.analysis.image_intervals import compute_intervals
from ablate.analysis.split_comparison import compare_splits, on_test_split
from ablate.findings.all_findings import findings
from ablate.findings.finding import Kind, Relation
from ablate.records.judged import judged_sweep
from ablate.records.loading import load_sweep
from ablate.records.predictions import predictions_path
from ablate.records.test_split import OPENED, append_line
from ablate.report.html import page_html
from ablate.report.latex import latex
from ablate.report.split_table import split_caption
from ablate.report.terminal_table import print_table
from ablate.report.write import as_json, csv_text, markdown, write_report
from ablate.statistics.verdict import Verdict
from ablate.storage.layout import OutputFolder

Records = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
FALL = {"none": 0.02, "hmha": 0.03, "acmix": 0.02, "hat": 0.02}


@pytest.fixture
def made(records: Records) -> list[dict[str, Any]]:
    return records(tuple(FALL), ("musgd",))


def accuracies(made: list[dict[str, Any]], fall: Mapping[str, float] = FALL) -> dict[str, float]:
    """On the test split: as on the validation images, less what each module falls by, with a little noise."""
    noise = np.random.default_rng(0).normal(0, 0.0003, len(made))
    return {
        record["signature"]: record["metrics"]["map50_95"] - fall[record["factors"]["module"]] + float(extra)
        for record, extra in zip(made, noise, strict=True)
    }


@pytest.fixture
def opened(made: list[dict[str, Any]], write: Write, multirun: Path) -> Path:
    sweep = write(made, latency=False)
    open_by_hand(multirun, made, accuracies(made))
    return sweep


def compared(sweep: Path, judge: str | None = None) -> Comparison:
    return compare_splits(judged_sweep(load_sweep(sweep), judge))


def test_a_sweep_whose_test_split_was_never_opened_says_nothing_of_it(
    made: list[dict[str, Any]], write: Write, tmp_path: Path
) -> None:
    comparison = compared(write(made))
    assert comparison.on_test is None
    assert not [finding for finding in findings(comparison) if finding.kind is Kind.TEST_SPLIT]
    texts = [markdown(comparison), latex(comparison, "", ""), page_html(comparison, [], ""), str(as_json(comparison))]
    assert not [text for text in texts if "test split" in text.lower() or "test_split" in text]
    write_report(comparison.sweep, tmp_path, figures=(), notebook=False, comparison=comparison)
    assert not list(tmp_path.glob("*test*"))


def test_the_fall_is_that_of_the_same_checkpoints(opened: Path) -> None:
    split = compared(opened).on_test
    assert split is not None
    falls = {one.test.module: one.fall for one in split.rows}
    assert falls == {module: pytest.approx(fall, abs=0.0006) for module, fall in FALL.items()}
    assert [one.test.label for one in split.rows] == [row.label for row in compared(opened).rows]


def test_the_differences_are_tested_on_the_test_images_alone(opened: Path) -> None:
    comparison = compared(opened)
    split = comparison.on_test
    assert split is not None
    assert {one.test.accuracy.evaluated for one in split.rows} == {"test, best"}
    assert split.comparison.tests == comparison.tests == 3
    hat = next(one.test.difference for one in split.rows if one.test.module == "hat")
    assert hat is not None
    assert hat.verdict is Verdict.WORSE
    assert hat.p_holm is not None
    assert hat.p_value is not None
    assert hat.p_holm > hat.p_value
    assert hat.last_epoch is None


def test_what_the_test_split_does_not_show_is_said_and_not_claimed(
    made: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    sweep = write(made, latency=False)
    on_test = accuracies(made, {**FALL, "hmha": 0.038})  # what it gained on the validation images is gone
    open_by_hand(multirun, made, on_test)
    first, second = [one for one in findings(compared(sweep)) if one.kind is Kind.TEST_SPLIT]
    assert "significant on the validation images and not on the test split: hmha@c3k2 musgd" in first.text
    assert "opened once, on 2026-03-02" in first.text
    assert {(c.subject, c.relation, c.outcome) for c in first.claims} == {
        ("hat@neck_p3 musgd", Relation.LOWER, "accuracy on the test split"),
        ("acmix@head musgd", Relation.HIGHER, "accuracy on the test split"),
    }
    assert "highest on the validation images" in second.text
    assert not second.claims


def test_all_forms_of_a_report_have_it(opened: Path, tmp_path: Path) -> None:
    comparison = compared(opened)
    write_report(comparison.sweep, tmp_path, figures=("png",), notebook=False, comparison=comparison)
    assert (tmp_path / "validation_test.png").is_file()
    with (tmp_path / "comparison_test.csv").open(encoding="utf-8") as stream:
        rows = {row["module"]: row for row in csv.DictReader(stream)}
    assert float(rows["hmha"]["fall"]) == pytest.approx(0.03, abs=0.001)
    assert rows["hmha"]["evaluated"] == "test, best"
    assert rows["hmha"]["validation_verdict"] == "better"
    assert float(rows["hmha"]["validation_map50_95"]) > float(rows["hmha"]["map50_95"])
    plain = as_json(comparison)["test_split"]
    assert [row["module"] for row in plain["variants"]] == list(rows)
    assert plain["openings"] == [
        "shapes: test split of 60 images, opened once: 2026-03-02 09:30 by python -m ablate test shapes-attention "
        "(ablate 0.1.0)."
    ]
    for name in ("comparison.md", "comparison.html", "comparison.tex"):
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "opened once" in text, name
        assert rows["hmha"]["map50_95"] in text, name


def test_a_second_opening_is_said_in_every_row(made: list[dict[str, Any]], opened: Path, multirun: Path) -> None:
    open_by_hand(multirun, made, accuracies(made))
    split = compared(opened).on_test
    assert split is not None
    assert all("the test split has been opened 2 times" in one.test.notes for one in split.rows)
    assert "opened 2 times" in next(f.text for f in findings(compared(opened)) if f.kind is Kind.TEST_SPLIT)


def test_a_ledger_that_was_edited_or_taken_away_is_said(opened: Path, multirun: Path) -> None:
    ledger = multirun / "test_ledger.jsonl"
    whole = ledger.read_text(encoding="utf-8")
    ledger.write_text(whole.replace("0.1.0", "0.2.0", 1), encoding="utf-8")
    split = compared(opened).on_test
    assert split is not None
    assert split.damage == "line 1 was changed"
    ledger.unlink()
    split = compared(opened).on_test
    assert split is not None
    assert split.damage == "it lacks the line of a measurement"
    assert all(any("tampered" in note for note in one.test.notes) for one in split.rows)
    assert "no opening in the ledger" in markdown(compared(opened))


def test_a_trial_that_was_trained_anew_since_is_left_out(
    made: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    for record in made[:2]:
        record["finished"] = "2026-03-04T10:00:00+00:00"
    sweep = write(made, latency=False)
    open_by_hand(multirun, made, accuracies(made))
    split = compared(sweep).on_test
    assert split is not None
    assert split.untested == 2
    assert split.rows[0].test.replicates == 1
    assert "2 trials" in markdown(compared(sweep))


def test_accuracies_over_other_seeds_are_marked_on_the_test_split_too(
    made: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    kept = [r for r in made if (r["factors"]["module"], r["seed"]) != ("hmha", 1)]
    sweep = write(kept, latency=False)
    open_by_hand(multirun, kept, accuracies(kept))
    console = Console(file=io.StringIO(), width=200)
    print_table(compared(sweep), console=console)
    table = console.file.getvalue().partition("Test split, ")[2]  # type: ignore[attr-defined]
    assert re.search(r"hmha@c3k2 musgd +2 +0\.\d{4}‡ +0\.\d{4}‡", table)
    assert "‡   Δ is over fewer seeds" in table


def test_an_opening_that_was_interrupted_is_said(opened: Path, made: list[dict[str, Any]], multirun: Path) -> None:
    ledger = multirun / "test_ledger.jsonl"
    ledger.write_text(ledger.read_text(encoding="utf-8").splitlines()[0] + "\n", encoding="utf-8")
    (multirun / "trials" / made[0]["signature"] / "test.json").unlink()
    split = compared(opened).on_test
    assert split is not None
    assert (split.unfinished, split.untested) == (1, 0)
    assert "1 checkpoint of the sweep is not measured yet" in markdown(compared(opened))


def test_an_opening_without_any_result_is_said(
    made: list[dict[str, Any]], write: Write, multirun: Path, tmp_path: Path
) -> None:
    sweep = write(made, latency=False)
    checkpoints = {record["signature"]: "a hash" for record in made}
    data = made[0]["realised"]["data_fingerprint"]
    append_line(OutputFolder(multirun).test_ledger, line(OPENED, checkpoints, data))
    comparison = compared(sweep)
    (finding,) = [finding for finding in findings(comparison) if finding.kind is Kind.TEST_SPLIT]
    assert "The test split of shapes was opened once, on 2026-03-02" in finding.text
    assert "no result of it stands" in finding.text
    assert not finding.claims
    for text in (markdown(comparison), page_html(comparison, [], ""), str(as_json(comparison))):
        assert "no result of it stands" in text
    console = Console(file=io.StringIO(), width=200)
    print_table(comparison, console=console)
    assert "no result of it stands" in console.file.getvalue()  # type: ignore[attr-defined]
    write_report(comparison.sweep, tmp_path, figures=(), notebook=False)


def test_an_opening_whose_networks_were_all_trained_anew_is_said(
    made: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    for record in made:
        record["finished"] = "2026-03-04T10:00:00+00:00"
    sweep = write(made, latency=False)
    open_by_hand(multirun, made, accuracies(made))
    (finding,) = [finding for finding in findings(compared(sweep)) if finding.kind is Kind.TEST_SPLIT]
    assert "opened once, on 2026-03-02" in finding.text
    assert "trained anew since" in finding.text


def test_the_opening_of_another_sweeps_networks_is_not_of_this_one(
    made: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    sweep = write(made, latency=False)
    data = made[0]["realised"]["data_fingerprint"]
    append_line(OutputFolder(multirun).test_ledger, line(OPENED, {"e" * 64: "a hash"}, data))
    assert load_sweep(sweep).on_test is None


def test_the_page_has_the_verdict_where_nothing_could_be_tested(
    made: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    for record in made:  # nothing learned, and the same difference on every seed: no variance to test against
        record["metrics"]["map50_95"] = 0.004
    sweep = write(made, latency=False)
    open_by_hand(multirun, made, {record["signature"]: 0.003 for record in made})
    section = page_html(compared(sweep), [], "").partition('<section id="test-split"')[2].partition("</section>")[0]
    assert "p (Holm)" not in section.partition("<p")[0]
    assert section.count("<small>undecided</small>") == 2 * (len(FALL) - 1)  # of both splits


@pytest.mark.parametrize("judge", ["last", "mean_last_5"])
def test_the_validation_numbers_are_of_the_tested_checkpoint_whatever_the_judge(opened: Path, judge: str) -> None:
    best, other = compared(opened).on_test, compared(opened, judge).on_test
    assert best is not None
    assert other is not None
    assert [one.falls for one in other.rows if one.falls] == [one.falls for one in best.rows]


def test_damaged_results_are_those_of_no_trial(opened: Path, made: list[dict[str, Any]], multirun: Path) -> None:
    for record, content in zip(made, ["", "{", "[]", '{"signature": "other"}', "\0"], strict=False):
        (multirun / "trials" / record["signature"] / "test.json").write_text(content, encoding="utf-8")
    split = compared(opened).on_test
    assert split is not None
    assert split.untested == 5
    assert csv_text(split.comparison)


@pytest.mark.security("Text", "Texts of the ledger of the test split are shown, and are no markup or escape codes.")
def test_texts_of_strangers_are_shown_and_never_obeyed(
    made: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    sweep = write(made, latency=False)
    open_by_hand(multirun, made, accuracies(made), command="<script>alert(1)</script> | `x` \x1b[31m $y$ \u202e")
    comparison = compared(sweep)
    page, text, source = page_html(comparison, [], ""), markdown(comparison), latex(comparison, "", "")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert "<script>" not in text
    assert "\x1b" not in page + text + source
    assert "\u202e" not in page
    assert r"\$y\$" in source


@pytest.mark.security("Report", "What a `test.json` says of a file outside of its trial's folder is not read.")
def test_predictions_outside_of_the_trial_are_not_read(
    opened: Path, made: list[dict[str, Any]], multirun: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "secret.npz"
    outside.write_bytes(b"secret")
    for record in made:
        path = multirun / "trials" / record["signature"] / "test.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps({**content, "predictions": "../../../secret.npz"}), encoding="utf-8")
    view = on_test_split(load_sweep(opened))
    assert view is not None
    compute_intervals(view, resamples=10)
    stored = json.loads(view.intervals_file.read_text(encoding="utf-8")) if view.intervals_file.exists() else {}
    assert "secret" not in json.dumps(stored)
    assert all(predictions_path(record, multirun / "trials" / record.signature) is None for record in view.trials)


@pytest.mark.parametrize("accuracy", ["7", "-1", "1e400", "null", "NaN"])
def test_numbers_that_are_no_accuracy_are_no_measurement(
    opened: Path, made: list[dict[str, Any]], multirun: Path, accuracy: str
) -> None:
    path = multirun / "trials" / made[0]["signature"] / "test.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["metrics"]["map50_95"] = "NUMBER"
    path.write_text(json.dumps(content).replace('"NUMBER"', accuracy), encoding="utf-8")
    comparison = compared(opened)
    assert comparison.on_test is not None
    assert comparison.on_test.rows[0].test.replicates == 2
    assert markdown(comparison)


def test_the_caption_says_by_what_the_tests_of_added_seeds_are_corrected(opened: Path) -> None:
    fixed = compared(opened).on_test
    manifest = json.loads((opened / "sweep.json").read_text())
    plan = {"until": "decided", "max_seeds": 5, "tests": 3}
    (opened / "sweep.json").write_text(json.dumps(manifest | {"analysis": plan}))
    added = compared(opened).on_test
    assert fixed is not None
    assert added is not None
    assert "Holm-corrected" in split_caption(fixed)
    assert "valid at all looks" in split_caption(added)
