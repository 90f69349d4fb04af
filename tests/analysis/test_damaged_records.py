"""Whatever is wrong with what was recorded: a table with the reason in words, no made-up number, no stack trace."""

from __future__ import annotations

import copy
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

from ablate.analysis.comparison import compare
from ablate.analysis.table import comparison_frame, trial_frame
from ablate.cli.verbs import report
from ablate.records.loading import load_sweep
from ablate.report.latex import latex
from ablate.report.terminal_table import print_table
from ablate.report.write import as_json, description, markdown, write_report

Make = Callable[..., dict[str, Any]]
Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
DIFFERENCES = ["delta_map50_95", "delta_ci_low", "delta_ci_high", "p_value", "p_holm", "effect_size", "seeds_needed"]
ODD = [None, "", "x", -1, 0, 1e308, "NaN", [], [None], {}, {"a": [1]}, True, "é\n|<b>", [[1, "x"]], float("nan")]


def said(directory: Path) -> tuple[pd.DataFrame, str]:
    """The table, and all that is said of a sweep in every form that needs no figure."""
    sweep = load_sweep(directory)
    comparison = compare(sweep)
    console = Console(file=io.StringIO(), width=80, highlight=False)
    print_table(comparison, console=console)
    trial_frame(comparison)
    texts = [
        console.file.getvalue(),  # type: ignore[attr-defined]
        markdown(comparison),
        description(comparison),
        latex(comparison, "a", "b"),
        json.dumps(as_json(comparison), allow_nan=False),
    ]
    assert all(row.is_comparable for row in compare(sweep, strict=True).rows)
    return comparison_frame(comparison).set_index("variant", drop=False), "\n".join(texts)


def test_a_byte_order_mark_costs_nothing(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    directory = write(made)
    path = directory.parents[1] / "trials" / made[1]["signature"] / "result.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    table, _ = said(directory)
    assert table.loc["hmha@c3k2 sgd", "map50_95"] == pytest.approx(made[1]["metrics"]["map50_95"])


@pytest.mark.parametrize("schema", [0, 2])
def test_a_record_of_another_version_gives_no_number(records: Grid, write: Write, schema: object) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    made[3]["schema"] = schema
    table, text = said(write(made))
    row = table.loc["hmha@c3k2 sgd"]
    assert row["replicates"] == 1
    assert row["map50_95"] == pytest.approx(made[2]["metrics"]["map50_95"])
    assert f"1 of 2 trials recorded by another version: schema {schema}, this one reads 1" in row["notes"]
    assert f"{made[3]['signature'][:12]} has schema {schema}; this version knows 1" in text.replace("\n", " ")


@pytest.mark.parametrize(
    ("field", "damage", "reason"),
    [
        ("schema", "x", "schema: expected a whole number, not a text"),
        ("schema", None, "schema: expected a whole number, not null"),
        ("metrics", "0.4", "metrics: expected an object, not a text"),
        ("metrics", {"map50_95": "0.4"}, "metrics.map50_95: expected a number or null, not a text"),
        ("history", [{"epoch": 1, "map50_95": "high"}], "history[0]: its map50_95 is no number"),
        ("seed", True, "seed: expected a whole number, not true or false"),
    ],
)
def test_a_field_of_another_type_costs_its_record_only(
    records: Grid, write: Write, field: str, damage: object, reason: str
) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    made[3][field] = damage
    table, text = said(write(made))
    row = table.loc["hmha@c3k2 sgd"]
    assert row["replicates"] == 1
    assert row["map50_95"] == pytest.approx(made[2]["metrics"]["map50_95"])
    assert f"1 of 2 trials unreadable: result.json is no record: {reason}" in row["notes"]
    assert f"{made[3]['signature'][:12]}/result.json is no record" in text.replace("\n", " ")


def test_records_of_an_older_program_leave_new_columns_empty(records: Grid, write: Write) -> None:
    table, _ = said(write(records(("none", "hmha"), ("sgd",))))
    new = ["map75", "map50_95_small", "map50_95_last", "delta_last", "images_ci_low", "params_added_m", "energy_kwh"]
    assert table[new].isna().all(axis=None)
    assert set(table["notes"]) == {""}


def test_one_seed_gives_neither_interval_nor_what_follows_from_one(records: Grid, write: Write) -> None:
    table, text = said(write(records(("none", "hmha"), ("sgd",), (0,))))
    row = table.loc["hmha@c3k2 sgd"]
    assert row[DIFFERENCES[1:]].isna().all()
    assert pd.isna(row["smallest_detectable"])
    assert "There is one seed" in text.replace("\n  ", " ")


def test_two_seeds_give_no_effect_size(records: Grid, write: Write) -> None:
    row = said(write(records(("none", "hmha"), ("sgd",), (0, 1))))[0].loc["hmha@c3k2 sgd"]
    assert row[["delta_ci_low", "p_value"]].notna().all()
    assert row[["smallest_detectable", "seeds_needed"]].isna().all()
    assert pd.isna(row["effect_size"])


def test_a_sweep_without_a_baseline_says_so(records: Grid, write: Write) -> None:
    table, text = said(write(records(("hmha", "acmix"), ("sgd",))))
    assert table[DIFFERENCES].isna().all(axis=None)
    assert "no baseline (module=none) for hmha@c3k2 sgd, acmix@head sgd" in text


def test_metrics_that_are_not_numbers_are_no_numbers(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for record, wrong in zip(made, [float("nan"), 1.7, None, -0.1], strict=True):
        record["metrics"]["map50_95"] = wrong
    table, text = said(write(made))
    assert table[["map50_95", *DIFFERENCES]].isna().all(axis=None)
    assert "2 of 2 trials finished without a number for mAP50-95" in table["notes"].iloc[0]
    assert "1.7" not in text


@pytest.mark.parametrize(
    "latency",
    [
        {"schema": 9, "rows": [1]},
        {"variants": {"a": {"latency_ms": 3}}, "protocol": [1]},
        {"variants": [{"variant_key": ["x"], "latency_ms": "fast"}, 3, None], "flags": "busy"},
        {"protocol": {"batch": {"a": 1}}, "variants": [], "settings": 7, "flags": [None]},
    ],
)
def test_a_latency_file_of_another_version_gives_no_latency(records: Grid, write: Write, latency: object) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0, 1)))
    (directory / "latency.json").write_text(json.dumps(latency))
    table, text = said(directory)
    assert table[["latency_ms", "latency_ratio", "latency_ci_low"]].isna().all(axis=None)
    assert "latency.json is no measurement of latency" in text.replace("\n  ", " ")
    assert "Latency was not measured" in text.replace("\n  ", " ")


def test_a_sweep_of_controls_only_has_no_baseline(records: Grid, write: Write) -> None:
    made = records(("hmha",), ("sgd",), (0, 1))
    directory = write(made)
    head = json.loads((directory / "sweep.json").read_text())
    control = {"kind": "params", "comparison_key": made[0]["comparison_key"], "of": "acmix@head"}
    (directory / "sweep.json").write_text(json.dumps({**head, "controls": {made[0]["variant_key"]: control}}))
    table, _ = said(directory)
    assert table["control"].tolist() == ["params"]
    assert table[DIFFERENCES].isna().all(axis=None)
    assert "no baseline in this sweep" in table["notes"].iloc[0]


def test_controls_that_cannot_be_read_are_variants(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    directory = write(made)
    head = json.loads((directory / "sweep.json").read_text())
    (directory / "sweep.json").write_text(json.dumps({**head, "controls": {made[2]["variant_key"]: {"kind": "magic"}}}))
    table, text = said(directory)
    assert set(table["control"]) == {""}
    assert "1 of its controls cannot be read" in text.replace("\n  ", " ")


@pytest.mark.parametrize("kind", ["empty", "failed", "no seed in common", "two data sets"])
def test_the_whole_report_is_written_all_the_same(record: Make, as_failed: Make, write: Write, kind: str) -> None:
    made = {
        "empty": [],
        "failed": [as_failed(record(m, seed=s)) for m in ("none", "hmha") for s in (0, 1)],
        "no seed in common": [record("none", seed=0), record("hmha", seed=1)],
        "two data sets": [record(m, data=d) for m in ("none", "hmha") for d in ("shapes", "coco8")],
    }[kind]
    done = write_report(load_sweep(write(made)), notebook=False)
    assert done.problems == []
    assert done.findings
    assert {"comparison.csv", "comparison.md", "comparison.tex", "comparison.html"} <= done.files.keys()


def places(found: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in nested dictionaries and lists (of a list, the first two)."""
    pairs = found.items() if isinstance(found, dict) else enumerate(found[:2]) if isinstance(found, list) else ()
    for key, inner in pairs:
        yield (*path, key)
        yield from places(inner, (*path, key))


def hurt(found: Any, chance: random.Random) -> None:
    """Remove one value somewhere in a record, or put an odd one in its place."""
    path = chance.choice([path for path in places(found) if path != ("signature",)])
    for key in path[:-1]:
        found = found[key]
    if chance.random() < 0.4 and isinstance(found, dict):
        del found[path[-1]]
    else:
        found[path[-1]] = copy.deepcopy(chance.choice(ODD))


@pytest.mark.parametrize("seed", range(24))
def test_no_damage_to_any_field_stops_a_report(records: Grid, write: Write, multirun: Path, seed: int) -> None:
    chance = random.Random(seed)
    made = records(("none", "hmha", "acmix"), ("sgd",), (0, 1))
    for record in made:
        record["metrics_last"] = dict(record["metrics"])
        record["artifacts"]["evidence"] = {"best": "evidence/best.npz"}
        record["metrics"] |= {"map75": 0.3, "map50_95_small": 0.2}
    directory, control = write(made), made[4]["variant_key"]
    for record in made:
        for _ in range(chance.randint(0, 6)):
            hurt(record, chance)
        path = multirun / "trials" / record["signature"] / "result.json"
        path.write_text(json.dumps(record)[: None if chance.random() < 0.9 else chance.randint(0, 3000)])
    for name in ("sweep.json", "latency.json"):
        content = json.loads((directory / name).read_text())
        if name == "sweep.json":
            content["controls"] = {control: {"kind": "identity", "comparison_key": "x", "of": ""}}
        for _ in range(chance.randint(0, 3)):
            hurt(content, chance)
        (directory / name).write_text(json.dumps(content))
    said(directory)  # raises where anything stops it
    if seed < 2:
        assert write_report(load_sweep(directory), notebook=False).files


def test_the_command_says_in_one_line_what_is_not_understood(
    records: Grid, write: Write, multirun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(records(("none",), ("sgd",), (0,)))
    for words, expected in {
        ("strict=maybe",): "strict=maybe: strict is true or false",
        ("resamples=-3",): "resamples=-3: resamples is a whole number from 0 (none) to 1000000",
        ("strct=true",): "did you mean 'strict'?",
        ("shapes-attention", "other"): "other: a report is of one sweep",
        ("nothing",): "sweep 'nothing' does not exist",
    }.items():
        assert report([*words, f"root={multirun}"]) == 2
        error = capsys.readouterr().err
        assert expected in error
        assert error.count("\n") == 1
    assert report(["root=/nowhere/at/all"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_json_is_all_that_is_printed(
    records: Grid, write: Write, multirun: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    made[3]["realised"]["batch"] = 4
    directory = write(made)
    assert report([directory.name, f"root={multirun}", "notebook=false", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in told["variants"]] == ["none sgd", "hmha@c3k2 sgd"]
    assert told["variants"][0]["delta_map50_95"] is None
    assert told["left_out"] == {}
    assert report([f"root={multirun}", "notebook=false", "strict=true", "resamples=0", "--json"]) == 0
    strict = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in strict["variants"]] == ["none sgd"]
    assert "batch 16, 4 (baseline 16)" in strict["left_out"]["hmha@c3k2 sgd"]
    assert any("strict=true leaves out 1 variant: hmha@c3k2 sgd" in text for text in strict["findings"])
    assert not list(directory.glob("*.png"))
    assert not list(directory.glob("comparison.*"))
