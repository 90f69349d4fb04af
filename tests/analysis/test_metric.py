"""The metric that a command declares: planted differences that have one sign in mAP50-95 and the other in mAP50."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.fixtures.comparisons import make_record
from tests.fixtures.tested import open_by_hand

import ablate
from ablate.analysis.columns import COLUMNS, columns_of, in_files
from ablate.analysis.comparison import Comparison, compare
from ablate.analysis.data_sets import data_set_studies
from ablate.analysis.split_comparison import compare_splits
from ablate.analysis.table import comparison_frame, trial_frame
from ablate.cli.report_command import report_options
from ablate.errors import ConfigError
from ablate.findings.all_findings import findings, sentences
from ablate.findings.finding import Kind, Relation
from ablate.records.judged import cross_judged, sweep_as_chosen
from ablate.records.loading import load_object, load_sweep
from ablate.records.metrics import EpochRow
from ablate.report.figures.curves import training_curves
from ablate.report.figures.effects import factor_effects, interactions
from ablate.report.figures.forest import forest
from ablate.report.figures.tradeoff import accuracy_against_latency
from ablate.report.html import page_html
from ablate.report.split_table import columns_beside, values_beside
from ablate.report.write import as_json, csv_text, markdown
from ablate.settings.metric import MAP50_95, METRICS, check_metric
from ablate.statistics.verdict import Verdict
from ablate.storage.files import atomic_write_json

Records = list[dict[str, Any]]
Write = Callable[..., Path]
# Variant minus baseline of each metric.
PLANTED = {
    "map50_95": 0.010, "map50": -0.012, "map75": 0.020, "precision": -0.030, "recall": 0.030,
    "map50_95_small": -0.020, "map50_95_medium": 0.015, "map50_95_large": 0.015,
}  # fmt: skip
PLAIN = {"map50_95": 0.40, "map50": 0.62, "map75": 0.43, "precision": 0.7, "recall": 0.6,
         "map50_95_small": 0.2, "map50_95_medium": 0.4, "map50_95_large": 0.5}  # fmt: skip
OPPOSITE = [name for name, size in PLANTED.items() if size < 0]


def planted(records: Records) -> Records:
    for record in records:
        noise = np.random.default_rng(record["seed"] + 10 * (record["factors"]["module"] != "none"))
        changes = PLANTED if record["factors"]["module"] != "none" else dict.fromkeys(PLANTED, 0.0)
        values = {name: PLAIN[name] + changes[name] + noise.normal(0, 0.0005) for name in PLANTED}
        record["metrics"] |= values
        record["metrics_last"] = {**record["metrics"], "checkpoint": "last"}
    return records


@pytest.fixture
def sweep(records: Callable[..., Records], write: Write) -> Path:
    return write(planted(records(("none", "hmha"), ("musgd",), (0, 1, 2, 3, 4))))


def declare(sweep: Path, metric: str, **more: object) -> Path:
    manifest = load_object(sweep / "sweep.json")
    atomic_write_json(sweep / "sweep.json", {**manifest, "analysis": {"metric": metric, **more}})
    return sweep


def compared(sweep: Path, **chosen: Any) -> Comparison:
    return compare(sweep_as_chosen(load_sweep(sweep), **chosen))


@pytest.mark.parametrize("name", METRICS)
def test_table_verdict_and_findings_are_of_the_declared_metric(sweep: Path, name: str) -> None:
    comparison = compared(declare(sweep, name))
    base, row = comparison.rows
    assert base.accuracy.primary == pytest.approx(PLAIN[name], abs=0.001)
    assert row.difference is not None
    assert row.difference.estimate == pytest.approx(PLANTED[name], abs=0.001)
    assert row.difference.verdict is (Verdict.WORSE if name in OPPOSITE else Verdict.BETTER)

    relation = Relation.LOWER if name in OPPOSITE else Relation.HIGHER
    (found,) = [f for f in findings(comparison) if f.kind is Kind.ACCURACY and f.claims]
    assert found.claims[0].relation is relation
    assert METRICS[name].label in found.text
    assert ("mAP50-95" in found.text) == (name == "map50_95")

    frame = comparison_frame(comparison)
    assert frame[f"delta_{name}"][1] == pytest.approx(PLANTED[name], abs=0.001)
    assert frame["map50_95"][0] == pytest.approx(PLAIN["map50_95"], abs=0.001)
    assert set(PLANTED) <= set(frame.columns)
    trials = [PLAIN[name]] * 5 + [PLAIN[name] + PLANTED[name]] * 5
    assert trial_frame(comparison)[name].tolist() == pytest.approx(trials, abs=0.002)


def test_nothing_is_said_and_no_column_moves_where_none_is_declared(sweep: Path) -> None:
    comparison = compared(sweep)
    assert comparison.metric is MAP50_95
    assert columns_of(MAP50_95) is COLUMNS
    assert not any("metric=" in text for text in sentences(comparison))
    assert ",replicates,map50_95,map50_95_std,map50," in csv_text(comparison)


@pytest.mark.parametrize("name", [name for name in METRICS if name != "map50_95"])
def test_the_metric_leads_and_every_other_accuracy_stays_in_the_table(name: str) -> None:
    metric = METRICS[name]
    names = [column.name for column in in_files(metric)]
    usual = [column.name for column in in_files(MAP50_95)]
    assert len(set(names)) == len(usual)
    of_metric = ("{}_std", "delta_{}", "{}_last", "shared_{}", "baseline_{}")
    assert set(usual) - set(names) == {words.format("map50_95") for words in of_metric}
    assert set(names) - set(usual) == {words.format(name) for words in of_metric}
    assert names.index(name) == usual.index("map50_95")
    assert [c.name for c in columns_of(metric) if c.role] == [name, f"delta_{name}"]
    assert {c.below[0] for c in columns_of(metric) if c.below} >= {name, f"delta_{name}"}


def test_pages_and_figures_name_the_metric(sweep: Path) -> None:
    comparison = compared(declare(sweep, "map50"))
    page, text = page_html(comparison, [], "caption"), markdown(comparison)
    for shown in (page, text):
        assert "Δ mAP50" in shown
        assert "Δ mAP50-95" not in shown
    assert "<th>mAP50</th>" in page
    drawings = [forest(comparison), accuracy_against_latency(comparison), training_curves(comparison)]
    labels = [
        (axes.get_xlabel(), axes.get_ylabel())
        for drawing in drawings
        if drawing is not None
        for axes in drawing.figure.axes
    ]
    assert "difference in mAP50 to the baseline" in labels[0][0]
    assert [y for _, y in labels[1:]] == ["mAP50", "mAP50 (validation)"]
    assert [row["delta_map50"] for row in as_json(comparison)["variants"]][1] == pytest.approx(-0.012, abs=0.001)


def test_effects_are_drawn_in_the_metric(records: Callable[..., Records], write: Write) -> None:
    comparison = compared(declare(write(records()), "map50"))
    for drawing in (factor_effects(comparison), interactions(comparison)):
        assert drawing is not None
        labels = str([text for axes in drawing.figure.axes for text in (axes.get_xlabel(), axes.get_ylabel())])
        assert "mAP50" in labels
        assert "mAP50-95" not in labels + drawing.caption


def test_curves_of_a_metric_that_epochs_lack_are_of_map50_95_and_say_so(sweep: Path) -> None:
    drawing = training_curves(compared(declare(sweep, "map75")))
    assert drawing is not None
    assert "mAP75 is not recorded after each epoch" in drawing.caption
    assert drawing.figure.axes[0].get_ylabel() == "mAP50-95 (validation)"


def test_a_metric_of_a_report_is_told_as_declared_afterwards_and_has_no_margin_of_the_declared_one(sweep: Path) -> None:
    declare(sweep, "map50_95", delta=0.005)
    comparison = compared(sweep, metric="map50")
    texts = sentences(comparison)
    assert "declared afterwards: the command declared metric=map50_95" in texts[0], "before all that is of it"
    assert "exploratory" in texts[0]
    assert any("margin" in text and "is not used" in text for text in texts)
    assert comparison.rows[1].difference is not None
    assert comparison.rows[1].difference.margin is None
    with_margin = compared(sweep, metric="map50", delta=0.005)
    assert with_margin.rows[1].difference is not None
    assert with_margin.rows[1].difference.margin == 0.005
    assert not any("is not used" in text for text in sentences(with_margin))


def test_a_declared_metric_is_told_with_the_epoch_that_is_judged(sweep: Path) -> None:
    texts = sentences(compared(declare(sweep, "map50")))
    assert any("as declared with the command" in text for text in texts)
    assert any("highest mAP50-95" in text for text in texts)
    assert not any("declared afterwards" in text for text in texts)
    at_last = sentences(compared(declare(sweep, "map50", judge="last")))
    assert not any("highest mAP50-95" in text for text in at_last)


def test_precision_is_told_with_the_recall_that_it_may_cost(sweep: Path) -> None:
    assert any("lower recall" in text for text in sentences(compared(declare(sweep, "precision"))))


def test_the_declared_size_takes_no_part_in_the_family_of_sizes(sweep: Path) -> None:
    (usual,) = [f for f in findings(compared(sweep)) if f.kind is Kind.SIZES]
    (of_small,) = [f for f in findings(compared(declare(sweep, "map50_95_small"))) if f.kind is Kind.SIZES]
    assert {claim.outcome for claim in usual.claims} == {"AP small", "AP medium", "AP large"}
    assert {claim.outcome for claim in of_small.claims} == {"AP medium", "AP large"}
    assert "corrected for 2 tests" in of_small.text


def test_seeds_that_are_added_are_looked_at_in_the_metric(sweep: Path) -> None:
    plan = {"until": "decided", "max_seeds": 5, "delta": 0.002}
    better = compared(declare(sweep, "map50_95", **plan)).rows[1].difference
    worse = compared(declare(sweep, "map50", **plan)).rows[1].difference
    assert better is not None
    assert worse is not None
    assert better.verdict is Verdict.BETTER
    assert worse.verdict is Verdict.WORSE


def test_seeds_that_are_added_are_looked_at_by_the_metric_and_the_margin_of_a_report(
    records: Callable[..., Records], write: Write
) -> None:
    made = planted(records(("none", "hmha"), ("musgd",), (0, 1, 2, 3, 4)))
    for record in made:
        noise = 0.001 * (1, -1, 1, -1, 0)[record["seed"]] * (record["factors"]["module"] != "none")
        record["metrics"]["map75"] = PLAIN["map75"] + noise
    sweep = declare(write(made), "map50_95", until="decided", max_seeds=5, delta=0.002)
    alike = compared(sweep, metric="map75", delta=0.02)
    assert alike.rows[1].difference is not None
    assert alike.rows[1].difference.verdict is Verdict.EQUIVALENT
    assert any(text.startswith("Equivalent within ±2.00 points (declared after") for text in sentences(alike))
    open_yet = compared(sweep, metric="map75").rows[1].difference
    assert open_yet is not None
    assert open_yet.verdict is not Verdict.EQUIVALENT, "the declared margin is of another metric"


def test_a_trial_without_the_metric_is_told(records: Callable[..., Records], write: Write) -> None:
    comparison = compared(declare(write(records(("none", "hmha"), ("musgd",), (0, 1))), "map75"))
    assert all(row.accuracy.primary is None for row in comparison.rows)
    assert "without a number for mAP75" in comparison.rows[0].notes[0]
    assert any("No accuracy was measured" in text for text in sentences(comparison))


def test_a_network_that_learned_nothing_is_no_answer_whatever_its_precision(
    records: Callable[..., Records], write: Write
) -> None:
    made = planted(records(("none", "hmha"), ("musgd",), (0, 1, 2)))
    for record in made:
        record["metrics"] |= {"map50_95": 0.001, "map50": 0.002, "precision": 0.8 + record["seed"] / 1000}
    (_, row) = compared(declare(write(made), "precision", delta=0.05)).rows
    assert row.difference is not None
    assert row.difference.verdict is Verdict.UNDECIDED


def test_classes_are_shown_in_the_metric_or_say_in_which(sweep: Path) -> None:
    assert "AP50 of" in page_html(compared(declare(sweep, "map50")), [], "")
    assert "AP50-95 of" in page_html(compared(declare(sweep, "recall")), [], "")


@pytest.mark.parametrize(
    ("name", "judge", "valid"),
    [
        ("map5", "best", "map50_95"),
        ("map75", "mean_last_5", "map50_95, map50, precision, recall"),
        ("recall", "split", "map50_95, map50;"),
        ("map50_95_small", "split", "judge=last"),
    ],
)
def test_a_metric_that_the_judge_lacks_or_that_is_none_is_refused(name: str, judge: str, valid: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_metric(name, judge)
    message = str(caught.value)
    assert message.startswith(f"metric={name}")
    assert valid in message
    assert "\n" not in message


def test_a_report_refuses_what_a_sweep_does(sweep: Path) -> None:
    assert report_options(["metric=map50"]).metric == "map50"
    with pytest.raises(ConfigError, match="metric=mAP50: did you mean 'map50'"):
        report_options(["metric=mAP50"])
    with pytest.raises(ConfigError, match="mAP75 is not recorded after each epoch"):
        compared(sweep, metric="map75", judge="mean_last_2")
    with pytest.raises(ConfigError, match="metric=map75"):
        ablate.load_sweep(declare(sweep, "map50", judge="split"), metric="map75")


def test_python_users_get_the_metric_that_they_name(sweep: Path) -> None:
    results = ablate.load_sweep(sweep, metric="map50")
    assert results.metric.label == "mAP50"
    assert results.table["delta_map50"][1] == pytest.approx(-0.012, abs=0.001)
    assert ablate.load_sweep(sweep).metric is MAP50_95


def test_the_epoch_of_split_is_chosen_by_the_metric(sweep: Path) -> None:
    rows = [
        EpochRow({"epoch": 1, "map50_95/half1": 0.4, "map50_95/half2": 0.4, "map50/half1": 0.5, "map50/half2": 0.5}),
        EpochRow({"epoch": 2, "map50_95/half1": 0.3, "map50_95/half2": 0.3, "map50/half1": 0.7, "map50/half2": 0.7}),
    ]
    assert cross_judged(rows).map50 == pytest.approx(0.5)
    assert cross_judged(rows, METRICS["map50"]).map50 == pytest.approx(0.7)


def test_effects_of_components_are_told_in_the_metric(study: Callable[..., Any], write: Write) -> None:
    made, design = study("leave_one_out")
    usual = compared(write(made, design=design))
    comparison = compared(declare(usual.sweep.folder.path, "map50"))
    (by_map50,) = [text for text in sentences(comparison) if text.startswith("Compared with all components")]
    (by_map50_95,) = [text for text in sentences(usual) if text.startswith("Compared with all components")]
    assert "differences in mAP50:" in by_map50
    assert "mAP50-95" not in by_map50
    assert "differences in mAP50-95:" in by_map50_95


def test_several_data_sets_are_pooled_in_the_metric(write: Write) -> None:
    made = planted([r for data in ("a", "b", "c") for m in ("none", "hmha") for r in records_on(data, m)])
    comparison = compared(declare(write(made, latency=False), "map50"))
    assert "Differences to the baseline in mAP50, on each data set" in markdown(comparison)
    (study,) = data_set_studies(comparison)
    assert study.variants[0].pooled.mean == pytest.approx(PLANTED["map50"], abs=0.001)


def records_on(data: str, module: str) -> Records:
    return [make_record(module, "musgd", seed, data=data) for seed in (0, 1, 2)]


def test_the_test_split_is_beside_the_validation_images_in_the_metric(
    records: Callable[..., Records], write: Write, multirun: Path
) -> None:
    made = planted(records(("none", "hmha"), ("musgd",), (0, 1, 2)))
    sweep = declare(write(made, latency=False), "map50")
    open_by_hand(multirun, made, {record["signature"]: 0.3 + record["seed"] / 1000 for record in made})
    split = compare_splits(sweep_as_chosen(load_sweep(sweep))).on_test
    assert split is not None
    names = [column.name for column in columns_beside(split)]
    assert names == ["validation_map50", "validation_delta_map50", "validation_verdict", "fall"]
    assert split.rows[0].test.accuracy.primary == pytest.approx(0.4515, abs=1e-6), "1.5 times mAP50-95"
    assert split.rows[0].fall == pytest.approx(PLAIN["map50"] - 0.4515, abs=0.001)
    assert values_beside(split.rows[1])["validation_delta_map50"] == pytest.approx(PLANTED["map50"], abs=0.001)
