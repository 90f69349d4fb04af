"""What is known of a difference: better, worse, equivalent within a declared margin, or undecided."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.analysis.comparison import Comparison, compare
from ablate.analysis.table import comparison_frame
from ablate.analysis.variant_row import Row
from ablate.cli.report_command import report_options
from ablate.errors import ConfigError
from ablate.findings.all_findings import findings
from ablate.findings.finding import Kind, Relation
from ablate.records.loading import load_sweep
from ablate.statistics.verdict import Verdict

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
BASE = [0.350, 0.356, 0.347, 0.361, 0.340]
WIGGLE = [0.0004, -0.0003, 0.0, 0.0002, -0.0003]


def written(
    record: Make, write: Write, gains: dict[str, float], wiggle: float = 1.0, level: float = 0.0, **analysis: Any
) -> Path:
    """Write a sweep of five seeds whose variants gain so much over `level` + BASE, with a declared plan of analysis."""
    made = []
    for number, (module, gain) in enumerate({"none": 0.0, **gains}.items()):
        for seed, base in enumerate(BASE):
            made.append(trial := record(module, seed=seed))
            noise = wiggle * WIGGLE[(seed + number) % 5] if module != "none" else 0.0
            trial["metrics"]["map50_95"] = max(max(base + level, 0.0) + gain + noise, 0.0)
    directory = write(made)
    head = json.loads((directory / "sweep.json").read_text())
    (directory / "sweep.json").write_text(json.dumps({**head, "analysis": analysis}))
    return directory


def row(comparison: Comparison, module: str) -> Row:
    return next(row for row in comparison.rows if row.module == module)


def verdict(comparison: Comparison, module: str) -> Verdict | None:
    difference = row(comparison, module).difference
    assert difference is not None
    return difference.verdict


def test_each_difference_has_the_verdict_that_its_seeds_support(record: Make, write: Write) -> None:
    gains = {"hmha": 0.02, "acmix": 0.0001, "sta": -0.02}
    comparison = compare(load_sweep(written(record, write, gains, delta=0.005)))
    assert verdict(comparison, "hmha") is Verdict.BETTER
    assert verdict(comparison, "acmix") is Verdict.EQUIVALENT
    assert verdict(comparison, "sta") is Verdict.WORSE
    table = comparison_frame(comparison).set_index("module")
    assert table.loc["acmix", "verdict"] == "equivalent"
    assert table.loc["acmix", "p_equivalence"] < 0.05 < table.loc["hmha", "p_equivalence"]
    assert table.loc["hmha", "margin"] == 0.005


def test_without_a_margin_nothing_is_equivalent(record: Make, write: Write) -> None:
    comparison = compare(load_sweep(written(record, write, {"hmha": 0.02, "acmix": 0.0})))
    assert verdict(comparison, "hmha") is Verdict.BETTER
    assert verdict(comparison, "acmix") is Verdict.UNDECIDED
    assert not any(finding.kind is Kind.EQUIVALENCE for finding in findings(comparison))


def test_a_large_spread_leaves_a_difference_undecided(record: Make, write: Write) -> None:
    comparison = compare(load_sweep(written(record, write, {"acmix": 0.0}, wiggle=30, delta=0.005)))
    assert verdict(comparison, "acmix") is Verdict.UNDECIDED


def test_better_by_less_than_the_margin_is_told_as_both(record: Make, write: Write) -> None:
    comparison = compare(load_sweep(written(record, write, {"hmha": 0.002}, delta=0.005)))
    difference = row(comparison, "hmha").difference
    assert difference is not None
    assert difference.verdict is Verdict.BETTER
    assert difference.is_within_margin
    (finding,) = [finding for finding in findings(comparison) if finding.kind is Kind.EQUIVALENCE]
    assert "better, but by less than 0.50 points" in finding.text
    assert [claim.relation for claim in finding.claims] == [Relation.EQUIVALENT]


def test_a_margin_declared_after_the_results_is_marked(record: Make, write: Write) -> None:
    sweep = load_sweep(written(record, write, {"acmix": 0.0}, delta=0.005))
    for delta, is_late in ((None, False), (0.005, False), (0.01, True)):
        comparison = compare(sweep.with_margin(delta))
        assert verdict(comparison, "acmix") is Verdict.EQUIVALENT
        assert any("declared after the results" in finding.text for finding in findings(comparison)) == is_late


def test_an_identity_control_is_equivalent_also_where_it_agrees_exactly(record: Make, write: Write) -> None:
    directory = written(record, write, {"sta": 0.0, "hmha": 0.02}, wiggle=0, delta=0.005)
    head = json.loads((directory / "sweep.json").read_text())
    trials = load_sweep(directory).trials
    key, group = next((t.variant_key, t.comparison_key) for t in trials if t.factors["module"] == "sta")
    controls = {key: {"kind": "identity", "comparison_key": group}}
    (directory / "sweep.json").write_text(json.dumps({**head, "controls": controls}))
    assert verdict(compare(load_sweep(directory)), "sta") is Verdict.EQUIVALENT


def test_report_takes_a_margin_and_refuses_what_is_none() -> None:
    assert report_options(["delta=0.005"]).delta == 0.005
    for word in ("delta=0", "delta=-1", "delta=x", "delta=nan", "delta=2"):
        with pytest.raises(ConfigError, match="above 0"):
            report_options([word])


@pytest.mark.parametrize("until", [None, "decided"])
def test_networks_that_have_learned_nothing_are_neither_equivalent_nor_different(
    until: str | None, record: Make, write: Write
) -> None:
    """Baselines of zero with a variant 0.4 points above, by nearly the same on every seed, and one that is as bad."""
    plan: dict[str, Any] = {"delta": 0.005} | ({} if until is None else {"until": until, "max_seeds": 5, "tests": 2})
    comparison = compare(load_sweep(written(record, write, {"hmha": 0.004, "acmix": 0.0}, 0.1, -1.0, **plan)))
    for module in ("hmha", "acmix"):
        assert verdict(comparison, module) is Verdict.UNDECIDED
        assert not row(comparison, module).supported
        assert any("nothing learned" in note for note in row(comparison, module).notes)
    texts = [finding.text for finding in findings(comparison)]
    assert not [text for text in texts if "quivalent" in text and "acmix" in text and "Neither" not in text]


@pytest.mark.parametrize("until", [None, "decided"])
def test_a_variant_that_has_learned_nothing_is_worse_than_one_that_has(
    until: str | None, record: Make, write: Write
) -> None:
    plan: dict[str, Any] = {"delta": 0.005} | ({} if until is None else {"until": until, "max_seeds": 5, "tests": 1})
    comparison = compare(load_sweep(written(record, write, {"hmha": -0.02}, 0.1, -0.32, **plan)))
    assert verdict(comparison, "hmha") is Verdict.WORSE
