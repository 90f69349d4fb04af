"""The comparison table: what is known, what is empty, and why."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ablate.analysis.columns import in_files
from ablate.analysis.comparability import differences
from ablate.analysis.comparison import compare
from ablate.analysis.table import comparison_frame, trial_frame
from ablate.records.loading import load_sweep
from ablate.records.trial_record import decode_record
from ablate.settings.metric import MAP50_95

Make = Callable[..., dict[str, Any]]
Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]

DESIGN = (
    "variant, module, insertion, optimizer, model, data, replicates, map50_95, map50_95_std, map50, precision, recall, "
    "delta_map50_95, delta_ci_low, delta_ci_high, p_value, p_holm, params_m, gflops, latency_ms, latency_p95_ms, "
    "latency_ratio, train_minutes, peak_memory_gb, comparable, notes, signatures"
)


NAMES = [column.name for column in in_files(MAP50_95)]


def table_of(directory: Path) -> pd.DataFrame:
    return comparison_frame(compare(load_sweep(directory))).set_index("variant", drop=False)


def test_the_columns_are_those_of_the_design_in_its_order(records: Grid, write: Write) -> None:
    assert ", ".join(NAMES[:27]) == DESIGN
    assert list(table_of(write(records())).columns) == NAMES


def test_there_is_one_row_per_variant_with_the_baseline_first_and_then_falling_differences(
    records: Grid, write: Write
) -> None:
    table = table_of(write(records()))
    assert len(table) == 10
    for _, group in table.groupby("comparison_key", sort=False):
        assert group["module"].iloc[0] == "none"
        assert group["delta_map50_95"].iloc[1:].is_monotonic_decreasing


def test_the_numbers_are_those_of_the_records(records: Grid, write: Write) -> None:
    made = records()
    table = table_of(write(made))
    mine = [r["metrics"]["map50_95"] for r in made if r["variant"] == "hmha@c3k2 sgd"]
    base = [r["metrics"]["map50_95"] for r in made if r["variant"] == "none sgd"]
    row = table.loc["hmha@c3k2 sgd"]
    assert row["map50_95"] == pytest.approx(np.mean(mine))
    assert row["map50_95_std"] == pytest.approx(np.std(mine, ddof=1))
    assert row["delta_map50_95"] == pytest.approx(np.mean(np.subtract(mine, base)))
    assert row["delta_ci_low"] < row["delta_map50_95"] < row["delta_ci_high"]
    assert row["p_value"] < row["p_holm"] < 1
    assert row["params_m"] == pytest.approx(2.55)
    assert row["latency_ratio"] == pytest.approx(1.31)
    assert row["train_minutes"] == pytest.approx(
        np.mean([r["cost"]["train_minutes"] for r in made if r["variant"] == "hmha@c3k2 sgd"])
    )
    assert row["peak_memory_gb"] == pytest.approx(1.4 * 1.31)
    assert (row["replicates"], row["comparable"], row["notes"]) == (3, "yes", "")
    assert [len(signature) for signature in row["signatures"].split()] == [12, 12, 12]
    assert len(row["mlflow_runs"].split()) == 3


def test_the_baseline_has_no_difference_to_itself(records: Grid, write: Write) -> None:
    row = table_of(write(records())).loc["none sgd"]
    assert row[["delta_map50_95", "delta_ci_low", "p_value", "p_holm", "latency_ratio"]].isna().all()
    assert row["comparable"] == "yes"


def test_one_seed_gives_a_difference_but_no_interval(records: Grid, write: Write) -> None:
    row = table_of(write(records(("none", "hmha"), ("sgd",), (0,)))).loc["hmha@c3k2 sgd"]
    assert math.isfinite(row["delta_map50_95"])
    empty = ["map50_95_std", "delta_ci_low", "delta_ci_high", "p_value", "p_holm"]
    assert row[empty].isna().all()
    assert row["notes"] == "one seed: no interval"


def test_differences_use_shared_seeds_only_and_say_which(record: Make, write: Write) -> None:
    made = [record("none", seed=s) for s in (0, 1, 2)] + [record("hmha", seed=s) for s in (1, 2, 3)]
    row = table_of(write(made)).loc["hmha@c3k2 musgd"]
    pairs = [made[4 - 1]["metrics"]["map50_95"] - made[1]["metrics"]["map50_95"]]
    pairs += [made[4]["metrics"]["map50_95"] - made[2]["metrics"]["map50_95"]]
    assert row["delta_map50_95"] == pytest.approx(np.mean(pairs))
    assert row["shared_seeds"] == "1 2"
    assert "difference over shared seeds 1, 2 only" in row["notes"]
    assert "(this variant lacks seed 0 and the baseline lacks seed 3)" in row["notes"]
    assert row["shared_map50_95"] == pytest.approx(np.mean([m["metrics"]["map50_95"] for m in made[3:5]]))
    assert row["baseline_map50_95"] == pytest.approx(np.mean([m["metrics"]["map50_95"] for m in made[1:3]]))


def test_no_shared_seed_means_no_difference(record: Make, write: Write) -> None:
    row = table_of(write([record("none", seed=0), record("hmha", seed=1)])).loc["hmha@c3k2 musgd"]
    assert math.isnan(row["delta_map50_95"])
    assert row["comparable"] == "no"
    assert "no seed in common with the baseline (seeds 1 against 0)" in row["notes"]


def test_failed_trials_are_counted_by_reason(records: Grid, as_failed: Make, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",))
    made[3] = as_failed(made[3])
    row = table_of(write(made)).loc["hmha@c3k2 sgd"]
    assert (row["replicates"], row["trials"]) == (2, 3)
    assert "1 of 3 trials failed: out_of_memory" in row["notes"]
    assert row["comparable"] == "yes"


def test_a_sweep_of_failures_is_a_table_of_reasons(records: Grid, as_failed: Make, write: Write) -> None:
    made = [as_failed(found, "diverged") for found in records(("none", "hmha"), ("sgd",), (0, 1))]
    table = table_of(write(made))
    assert table["map50_95"].isna().all()
    assert set(table["notes"]) == {"2 of 2 trials failed: diverged"}
    assert set(table["comparable"]) == {"no"}


def test_without_a_baseline_rows_say_so(records: Grid, write: Write) -> None:
    table = table_of(write(records(("hmha", "acmix"), ("sgd",), (0, 1))))
    assert table["map50_95"].notna().all()
    assert table["delta_map50_95"].isna().all()
    assert set(table["comparable"]) == {"no"}
    assert all("no baseline in this sweep" in notes for notes in table["notes"])


def test_a_failed_baseline_leaves_no_difference(records: Grid, as_failed: Make, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    row = table_of(write([as_failed(made[0]), made[1]])).loc["hmha@c3k2 sgd"]
    assert "the baseline has no finished trial" in row["notes"]
    assert math.isnan(row["delta_map50_95"])


@pytest.mark.parametrize(
    ("field", "found", "words"),
    [
        ("batch", 8, "batch 8 (baseline 16)"),
        ("amp", True, "AMP on (baseline off)"),
        ("epochs", 30, "epochs 30 (baseline 40)"),
        ("early_stop", True, "early stop on (baseline off)"),
        ("oom_retries", 1, "out-of-memory retries 1 (baseline 0)"),
        ("imgsz", 192, "image size 192 (baseline 160)"),
        ("device_name", "Other CPU", "device Other CPU (baseline AMD EPYC 7763)"),
        ("data_fingerprint", "f" * 64, "data fingerprint ffffffffffff (baseline "),
        ("versions", {"torch": "2.14.0"}, "torch version 2.14.0 (baseline 2.15.0)"),
        (
            "weights",
            {"source": "a.pt", "expected": 10, "transferred": 9},
            "starting weights a.pt, 90 % (baseline none)",
        ),
        ("batch", None, "batch not recorded (baseline 16)"),
    ],
)
def test_another_realised_recipe_is_flagged_with_its_reason(
    records: Grid, write: Write, field: str, found: object, words: str
) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for record in made[2:]:
        record["realised"][field] = found
    row = table_of(write(made)).loc["hmha@c3k2 sgd"]
    assert row["comparable"] == "no"
    assert words in row["notes"]
    assert math.isfinite(row["delta_map50_95"])


@pytest.mark.parametrize(
    ("arithmetics", "notes"),
    [
        ((None, None), ""),
        (("fp32", "fp32"), ""),
        (("fp32", "bf16"), "orthogonalisation bf16 (baseline fp32)"),
        (("bf16", None), "orthogonalisation not recorded (baseline bf16)"),
    ],
)
def test_another_arithmetic_of_the_orthogonalisation_is_flagged(
    records: Grid, write: Write, arithmetics: tuple[str | None, str | None], notes: str
) -> None:
    made = records(("none", "hmha"), ("musgd",), (0, 1))
    for index, record in enumerate(made):
        if arithmetics[index // 2] is not None:  # older records have no such field
            record["realised"]["orthogonalise"] = arithmetics[index // 2]
    row = table_of(write(made)).loc["hmha@c3k2 musgd"]
    assert (row["comparable"], notes in row["notes"]) == ("no" if notes else "yes", True)


@pytest.mark.parametrize(
    ("configured", "found", "expected"),
    [
        ({"name": "SGD"}, None, []),
        ({"orthogonalise": "bf16"}, "bf16", []),
        ({"lr0": 0.02}, "bf16", ["orthogonalisation bf16 (baseline fp32)"]),
        ({}, "bf16", ["orthogonalisation bf16 (baseline fp32)"]),
    ],
    ids=["another optimizer", "another arithmetic", "another rate", "nothing else"],
)
def test_an_arithmetic_may_differ_where_it_was_configured_to(
    records: Grid, configured: dict[str, object], found: str | None, expected: list[str]
) -> None:
    baseline, variant = records(("none", "hmha"), ("musgd",), (0,))
    baseline["config"]["optimizer"] |= {"name": "MuSGD", "orthogonalise": "auto"}
    variant["config"]["optimizer"] |= {"name": "MuSGD", **configured}  # an older record has no such key: it means auto
    baseline["realised"]["orthogonalise"] = "fp32"
    variant["realised"]["orthogonalise"] = found
    other = [
        reason
        for reason in differences([decode_record(variant)], [decode_record(baseline)], by_design=True)
        if "orthogonalisation" in reason
    ]
    assert other == expected


def test_a_variant_without_a_realised_recipe_is_not_called_comparable(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    made[1].pop("realised")
    row = table_of(write(made)).loc["hmha@c3k2 sgd"]
    assert (row["comparable"], "realised recipe not recorded" in row["notes"]) == ("no", True)


def test_a_baseline_whose_replicates_differ_is_flagged(records: Grid, write: Write) -> None:
    made = records(("none",), ("sgd",), (0, 1))
    made[1]["realised"]["batch"] = 8
    row = table_of(write(made)).loc["none sgd"]
    assert row["comparable"] == "no"
    assert row["notes"] == "replicates differ: batch 16, 8"


def test_metrics_that_are_not_numbers_do_not_enter_means(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    made[2]["metrics"]["map50_95"] = math.nan
    row = table_of(write(made)).loc["hmha@c3k2 sgd"]
    assert row["replicates"] == 1
    assert row["map50_95"] == pytest.approx(made[3]["metrics"]["map50_95"])
    assert "1 of 2 trials finished without a number for mAP50-95" in row["notes"]


def test_a_truncated_result_is_a_trial_without_number_of_its_variant(
    records: Grid, write: Write, multirun: Path
) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    directory = write(made)
    path = multirun / "trials" / made[3]["signature"] / "result.json"
    path.write_text(path.read_text()[:2500])
    row = table_of(directory).loc["hmha@c3k2 sgd"]
    assert (row["replicates"], row["trials"]) == (1, 2)
    assert "1 of 2 trials unreadable: result.json is not complete JSON (2500 bytes)" in row["notes"]


def test_an_empty_result_is_a_row_of_its_own(records: Grid, write: Write, multirun: Path) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    directory = write(made)
    (multirun / "trials" / made[1]["signature"] / "result.json").write_text("")
    row = table_of(directory).loc[f"unreadable {made[1]['signature'][:12]}"]
    assert row["comparable"] == "no"
    assert "is empty" in row["notes"]


def test_two_data_sets_have_a_baseline_each(record: Make, write: Write) -> None:
    made = [record(m, seed=s, data=d) for d in ("shapes", "coco8") for m in ("none", "hmha") for s in (0, 1)]
    table = table_of(write(made))
    assert len(table) == 4
    assert table.loc["hmha@c3k2 musgd [data=coco8]", "baseline"] == "none musgd [data=coco8]"
    assert all("compare within data" in notes for notes in table["notes"])


def test_without_a_latency_file_latency_is_empty(records: Grid, write: Write) -> None:
    table = table_of(write(records(), latency=False))
    assert table[["latency_ms", "latency_p95_ms", "latency_ratio"]].isna().all(axis=None)


def test_equal_differences_on_every_seed_claim_nothing(record: Make, write: Write) -> None:
    made = [record("none", seed=s) for s in (0, 1)] + [record("hmha", seed=s) for s in (0, 1)]
    for base, other in zip(made[:2], made[2:], strict=True):
        other["metrics"]["map50_95"] = base["metrics"]["map50_95"]
    row = table_of(write(made)).loc["hmha@c3k2 musgd"]
    assert row["delta_map50_95"] == 0
    assert row[["p_value", "delta_ci_low"]].isna().all()
    assert "the same difference on every seed" in row["notes"]


@pytest.mark.parametrize("kept", [("signature",), ("signature", "status"), ("signature", "variant", "metrics")])
def test_records_that_lack_nearly_everything_are_rows_all_the_same(
    record: Make, write: Write, kept: tuple[str, ...]
) -> None:
    full = record("hmha")
    directory = write([full], latency=False)
    path = directory.parent.parent / "trials" / full["signature"] / "result.json"
    path.write_text(str({key: full[key] for key in kept}).replace("'", '"'))
    table = comparison_frame(compare(load_sweep(directory)))
    assert len(table) == 1
    assert table["comparable"].tolist() == ["no"]


def test_an_empty_sweep_is_an_empty_table(write: Write) -> None:
    table = comparison_frame(compare(load_sweep(write([]))))
    assert list(table.columns) == NAMES
    assert table.empty
    assert trial_frame(compare(load_sweep(write([])))).empty


def test_every_trial_leads_to_its_run(records: Grid, as_failed: Make, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    made[1] = as_failed(made[1])
    trials = trial_frame(compare(load_sweep(write(made))))
    assert trials["signature"].tolist() == [found["signature"] for found in made]
    assert trials["mlflow_run"].str.len().tolist() == [32] * 4
    assert [str(seed) for seed in trials["seed"]] == ["0", "1", "0", "1"]
    assert trials["status"][1] == "failed: out_of_memory (CUDA out of memory)"


def test_the_table_needs_neither_torch_nor_matplotlib_nor_mlflow() -> None:
    code = (
        "import sys; import ablate.analysis.table; "
        "print([m for m in ('torch', 'ultralytics', 'mlflow', 'matplotlib') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
