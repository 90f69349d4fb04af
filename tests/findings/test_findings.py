"""What is said of controls, epochs, sizes and flagged rows: no more than the numbers hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ablate.analysis.comparison import compare
from ablate.analysis.table import comparison_frame
from ablate.findings.all_findings import findings
from ablate.findings.control_findings import ALARM
from ablate.records import code_version
from ablate.records.loading import load_sweep
from ablate.report.text_table import best_rows
from ablate.statistics.paired import seeds_needed, smallest_detectable, upper_std

Make = Callable[..., dict[str, Any]]
Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
BASE = {0: 0.350, 1: 0.356, 2: 0.347}


def trials(record: Make, module: str, accuracies: dict[int, float], **changes: Any) -> list[dict[str, Any]]:
    """Trials of one variant with these accuracies; changes are of the record, as a control has them."""
    made = []
    for seed, accuracy in accuracies.items():
        found = record(module, seed=seed)
        found["metrics"]["map50_95"] = accuracy
        found |= changes
        made.append(found)
    return made


def gained(by: float, spread: float = 0.0) -> dict[int, float]:
    """Accuracies that differ from the baseline's by about so much."""
    return {seed: base + by + spread * (seed - 1) for seed, base in BASE.items()}


def with_controls(write: Write, made: list[dict[str, Any]], controls: dict[str, tuple[str, str]]) -> Path:
    """Write a sweep whose variants of these modules are controls: module -> kind and the graft it is matched with."""
    directory = write(made)
    head = json.loads((directory / "sweep.json").read_text())
    entries = {
        found["variant_key"]: {"kind": kind, "comparison_key": made[0]["comparison_key"], "of": of}
        for found in made
        for module, (kind, of) in controls.items()
        if found["factors"]["module"] == module
    }
    (directory / "sweep.json").write_text(json.dumps({**head, "controls": entries}))
    return directory


def told(directory: Path, **options: Any) -> tuple[pd.DataFrame, list[str]]:
    comparison = compare(load_sweep(directory), **options)
    return comparison_frame(comparison), [finding.text for finding in findings(comparison)]


def test_an_identity_that_differs_from_the_baseline_comes_before_all_else(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "acmix", gained(0.02, 0.001))]
    made += trials(record, "sta", gained(0.0, 0.0012))
    _, said = told(with_controls(write, made, {"sta": ("identity", "")}))
    assert said[0].startswith(ALARM)
    assert "differs by up to 0.12 points" in said[0]


def test_an_identity_that_reproduces_the_baseline_says_that_surgery_changes_nothing(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "sta", BASE)]
    table, said = told(with_controls(write, made, {"sta": ("identity", "")}))
    assert not any(ALARM in text for text in said)
    assert any("reproduced the baseline exactly, with 3 seeds" in text for text in said)
    assert table["control"].tolist() == ["", "identity"]


@pytest.mark.parametrize(
    ("control", "baseline"),
    [
        ({"threads": 1}, {"threads": 2}),
        ({"threads": 2, "threads_by_epoch": [[1, 2], [2, 1]]}, {"threads": 2, "threads_by_epoch": [[1, 2], [3, 1]]}),
    ],
)
def test_an_identity_with_other_threads_than_its_baseline_is_no_alarm_but_cannot_judge(
    record: Make, write: Write, control: dict[str, Any], baseline: dict[str, Any]
) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "sta", gained(1e-5))]
    for found in made:
        threads = control if found["factors"]["module"] == "sta" else baseline
        found["realised"] |= {"device": "cpu", **threads}
    _, said = told(with_controls(write, made, {"sta": ("identity", "")}))

    assert not said[0].startswith(ALARM)
    assert "OMP_NUM_THREADS" in said[0]


def test_an_identity_that_differs_with_the_same_threads_is_an_alarm(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "sta", gained(1e-5))]
    for found in made:
        found["realised"] |= {"device": "cpu", "threads": 2, "threads_by_epoch": [[1, 2]]}
    _, said = told(with_controls(write, made, {"sta": ("identity", "")}))

    assert said[0].startswith(ALARM)


def test_an_identity_on_another_device_cannot_judge(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "sta", gained(0.01))]
    for found in made[3:]:
        found["realised"]["device_name"] = "another"
    _, said = told(with_controls(write, made, {"sta": ("identity", "")}))
    assert "cannot verify the comparison" in said[0]


@pytest.mark.parametrize(
    ("module", "plain", "words"),
    [
        (gained(0.008, 0.002), gained(0.007, -0.002), "cannot be distinguished from the block"),
        (gained(0.030, 0.001), gained(0.007, 0.0), "outperforms the block"),
        (gained(0.005, 0.001), gained(0.020, 0.0), "underperforms the block"),
        (gained(0.001, 0.001), gained(0.020, 0.0), "not tested, because hmha@c3k2 musgd does not differ"),
    ],
)
def test_a_gain_is_held_against_a_plain_block_of_its_size(
    record: Make, write: Write, module: dict[int, float], plain: dict[int, float], words: str
) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "hmha", module), *trials(record, "acmix", plain)]
    _, said = told(with_controls(write, made, {"acmix": ("params", "hmha@c3k2")}))
    (text,) = [text for text in said if "a plain block of the same size" in text]
    assert text.startswith("hmha@c3k2 musgd measured +")
    assert words in text


def test_one_seed_measures_a_control_and_calls_it_no_gain(record: Make, write: Write) -> None:
    made = [*trials(record, "none", {0: 0.350}), *trials(record, "hmha", {0: 0.353})]
    made += [*trials(record, "acmix", {0: 0.352}), *trials(record, "sta", {0: 0.38})]
    _, said = told(with_controls(write, made, {"acmix": ("params", "hmha@c3k2"), "sta": ("scale", "")}))
    (size,) = [text for text in said if "a plain block of the same size" in text]
    assert size.startswith("hmha@c3k2 musgd measured +0.30 points (no CI) ")
    assert "+0.20 points (no CI)" in size
    assert "+0.10 points, cannot be tested" in size
    (scale,) = [text for text in said if text.startswith("The next larger stock network")]
    assert "+3.00 points (no CI)" in scale
    assert "performs" not in size + scale


def test_controls_take_no_part_in_holms_family_nor_in_what_is_best(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "hmha", gained(0.01, 0.001))]
    made += trials(record, "acmix", gained(0.05, 0.001))
    directory = with_controls(write, made, {"acmix": ("params", "hmha@c3k2")})
    table, comparison = told(directory)[0], compare(load_sweep(directory))
    assert table["module"].tolist() == ["none", "hmha", "acmix"], "controls stand last"
    assert table["p_holm"].notna().tolist() == [False, True, False]
    assert table["p_value"].notna().tolist() == [False, True, True]
    assert table["p_holm"][1] == pytest.approx(table["p_value"][1])
    assert best_rows(comparison)["map50_95"] == {1}
    assert [row.is_baseline for row in comparison.rows] == [True, False, False]
    assert [row.supported for row in comparison.rows] == [False, True, False]
    assert comparison.tests == 1


def test_a_bigger_network_is_not_flagged_for_being_one(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "hmha", gained(0.01, 0.001))]
    bigger = trials(record, "none", gained(0.04, 0.002), variant_key="bigger", comparison_key="its own")
    for found in bigger:
        found["signature"] = found["signature"][::-1]
        found["factors"] = {**found["factors"], "model": "yolo26s"}
        found["config"]["model"] = {"name": "yolo26s"}
        found["realised"]["weights"] = {"source": "yolo26s.pt", "expected": 9, "transferred": 9}
    directory = write([*made, *bigger], latency=False)
    head = json.loads((directory / "sweep.json").read_text())
    control = {"bigger": {"kind": "scale", "comparison_key": made[0]["comparison_key"], "of": ""}}
    (directory / "sweep.json").write_text(json.dumps({**head, "controls": control}))
    for found in made:
        path = directory.parent.parent / "trials" / found["signature"] / "result.json"
        path.write_text(json.dumps({**found, "config": {**found["config"], "model": {"name": "yolo26n"}}}))
    table, said = told(directory)
    row = table[table["control"] == "scale"].iloc[0]
    assert (row["comparable"], row["notes"]) == ("yes", "")
    bounds = f"{100 * row['delta_ci_low']:+.2f} to {100 * row['delta_ci_high']:+.2f}"
    lead = f"The next larger stock network, yolo26s, measured +4.00 points (95% CI {bounds})"
    assert any(lead in text for text in said)


def with_larger_images(record: Make, write: Write, imgsz: int, by: float) -> Path:
    """Write a sweep with a graft at 224 px and the stock network at 256 px that was trained at `imgsz`."""
    made = [*trials(record, "none", BASE), *trials(record, "hmha", gained(0.01, 0.001))]
    larger = trials(record, "none", gained(by, -0.001), variant_key="larger", comparison_key="its own")
    for found in larger:
        found["signature"] = found["signature"][::-1]
    for found in [*made, *larger]:
        found["config"] = {**found["config"], "train": {**found["config"].get("train", {}), "imgsz": 224}}
        found["realised"]["imgsz"] = 224
    for found in larger:
        found["config"]["train"]["imgsz"] = 256
        found["realised"]["imgsz"] = imgsz
    directory = write([*made, *larger], latency=False)
    head = json.loads((directory / "sweep.json").read_text())
    ratios = {made[3]["variant_key"]: 1.0249}
    control = {"kind": "resolution", "comparison_key": made[0]["comparison_key"], "gflops_ratios": ratios}
    (directory / "sweep.json").write_text(json.dumps({**head, "controls": {"larger": control}}))
    return directory


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (0.040, "underperforms the larger input"),
        (0.002, "outperforms the larger input"),
        (0.010, "cannot be distinguished from the larger input"),
    ],
)
def test_a_graft_is_held_against_the_stock_network_on_images_of_its_cost(
    record: Make, write: Write, by: float, words: str
) -> None:
    table, said = told(with_larger_images(record, write, 256, by))
    row = table[table["control"] == "resolution"].iloc[0]

    assert row["variant"] == "control: resolution 256 px musgd"
    assert (row["comparable"], row["notes"]) == ("yes", "GFLOPs 1.02 times those of hmha@c3k2 musgd")
    (text,) = [text for text in said if "the stock network at 256 px (1.02 times the graft's GFLOPs)" in text]
    assert text.startswith("hmha@c3k2 musgd measured +1.00 points")
    assert words in text


@pytest.mark.parametrize(
    ("by", "words"),
    [
        (0.040, "underperforms the equally slow stock network"),
        (0.002, "outperforms the equally slow stock network"),
        (0.010, "cannot be distinguished from the equally slow stock network"),
    ],
)
def test_a_graft_is_held_against_the_wider_network_of_its_latency(
    record: Make, write: Write, by: float, words: str
) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "hmha", gained(0.01, 0.001))]
    wider = trials(record, "none", gained(by, -0.001), variant_key="wider", comparison_key="its own")
    for found in wider:
        found["signature"] = found["signature"][::-1]
        found["factors"] = {**found["factors"], "model": "yolo26n-width0.3125"}
    directory = write([*made, *wider], latency=False)
    head = json.loads((directory / "sweep.json").read_text())
    ratios = {made[3]["variant_key"]: {"ratio": 0.98, "low": 0.95, "high": 1.01}}
    control = {"kind": "latency", "comparison_key": made[0]["comparison_key"], "latency_ratios": ratios}
    (directory / "sweep.json").write_text(json.dumps({**head, "controls": {"wider": control}}))
    table, said = told(directory)
    row = table[table["control"] == "latency"].iloc[0]

    assert row["variant"] == "control: latency yolo26n-width0.3125 musgd"
    assert row["comparable"] == "yes"
    assert row["notes"] == "latency before the sweep 0.98 (95% CI 0.95 to 1.01) times that of hmha@c3k2 musgd"
    (text,) = [text for text in said if "0.98 times the graft's before the sweep, 95% CI 0.95 to 1.01)" in text]
    assert text.startswith("hmha@c3k2 musgd measured +1.00 points")
    assert words in text


def test_seeds_that_were_added_have_one_interval_also_beside_a_control(record: Make, write: Write) -> None:
    directory = with_larger_images(record, write, 256, 0.04)
    head = json.loads((directory / "sweep.json").read_text()) | {"analysis": {"until": "decided", "max_seeds": 5}}
    (directory / "sweep.json").write_text(json.dumps(head))
    (text,) = [text for text in told(directory)[1] if "the stock network at" in text]
    assert text.partition(". The ")[0].count("95% CI") == 0
    assert "+1.00 points relative to the baseline" in text


def test_larger_images_that_were_not_trained_as_configured_are_flagged(record: Make, write: Write) -> None:
    table, said = told(with_larger_images(record, write, 288, 0.04))
    row = table[table["control"] == "resolution"].iloc[0]

    assert row["comparable"] == "no"
    assert "image size 288 (baseline 224)" in row["notes"]
    assert not any("the stock network at" in text for text in said)


def test_best_and_last_epoch_that_disagree_are_said(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "hmha", gained(0.01, 0.001))]
    for found in made:
        worse = 0.019 + 0.001 * found["seed"] if found["factors"]["module"] == "hmha" else 0.0
        found["metrics_last"] = {"map50_95": found["metrics"]["map50_95"] - worse}
    table, said = told(write(made))
    assert table["delta_last"][1] == pytest.approx(-0.01)
    (text,) = [text for text in said if text.startswith("The difference depends on the epoch")]
    assert "hmha@c3k2 musgd +1.00 points" in text


@pytest.mark.parametrize(
    ("best", "last", "disagree"),
    [
        ((0.010, 0.011, 0.012), (0.002, 0.010, 0.020), False),  # one interval excludes zero, the other does not
        ((0.006, 0.003, -0.003), (-0.003, -0.006, 0.003), False),  # opposite signs that noise alone makes
        ((0.010, 0.011, 0.012), (-0.010, -0.012, -0.011), True),
        ((0.030, 0.031, 0.032), (0.010, 0.012, 0.011), True),  # of one sign, but surely apart
        ((0.0100, 0.0110, 0.0120), (0.0090, 0.0101, 0.0111), False),  # surely apart, but by next to nothing
    ],
)
def test_best_and_last_epoch_disagree_where_their_paired_difference_says_so(
    record: Make, write: Write, best: tuple[float, ...], last: tuple[float, ...], disagree: bool
) -> None:
    mine, theirs = ({seed: BASE[seed] + by for seed, by in enumerate(found)} for found in (best, last))
    made = [*trials(record, "none", BASE), *trials(record, "hmha", mine)]
    for found in made:
        accuracy = BASE if found["factors"]["module"] == "none" else theirs
        found["metrics_last"] = {"map50_95": accuracy[found["seed"]]}
    _, said = told(write(made))
    assert any(text.startswith("The difference depends on the epoch") for text in said) == disagree


@pytest.mark.parametrize("spread", [0.001, 0.03])
def test_a_large_difference_on_small_objects_is_said_of_a_variant_that_differs(
    record: Make, write: Write, spread: float
) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "hmha", gained(0.01, spread))]
    for found in made:
        more = 0.04 + 0.001 * found["seed"] if found["factors"]["module"] == "hmha" else 0.0
        found["metrics"] |= {"map50_95_small": 0.1 + more, "map50_95_large": 0.5}
    _, said = told(write(made))
    texts = [text for text in said if text.startswith("By object size")]
    assert ["hmha@c3k2 musgd on small objects +4.10 points" in text for text in texts] == [True] * (spread < 0.01)
    assert not any("large objects" in text for text in texts)


def test_what_could_not_have_been_seen_is_said(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "hmha", gained(0.001, 0.004))]
    table, said = told(write(made))
    row = table.iloc[1]
    assert f"With 3 seeds, the detectable difference is {100 * row['smallest_detectable']:.2f} points" in said[0]
    assert "by an 80% upper bound of the seed-to-seed variance" in said[0]
    assert f"detecting 0.5 points takes {row['seeds_needed']:.0f} seeds." in said[0]


def test_what_could_not_have_been_seen_is_told_by_the_corrected_test(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "hmha", gained(0.001, 0.004))]
    made += [found for module in ("acmix", "sta", "hat") for found in trials(record, module, gained(0.03, 0.0001))]
    table, said = told(write(made))
    row = table[table["module"] == "hmha"].iloc[0]
    strictest = {"std": upper_std([-0.003, 0.001, 0.005]), "level": 1 - 0.05 / 4}
    least = smallest_detectable(n=3, **strictest)
    assert least is not None
    assert least > 1.5 * row["smallest_detectable"]
    (text,) = [text for text in said if "no significant difference was detected" in text]
    assert f"the detectable difference is {100 * least:.2f} points" in text
    assert "(80% power, Holm-corrected for 4 tests, " in text
    assert f"detecting 0.5 points takes {seeds_needed(difference=0.005, **strictest)} seeds." in text


def test_strict_leaves_out_what_is_flagged_and_corrects_over_the_rest(records: Grid, write: Write) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",))
    for found in made[6:]:
        found["realised"]["amp"] = True
    directory = write(made)
    loose, _ = told(directory)
    strict, said = told(directory, strict=True)
    assert loose["comparable"].tolist() == ["yes", "yes", "no"]
    assert strict["module"].tolist() == ["none", "hmha"]
    assert strict["p_holm"][1] == pytest.approx(strict["p_value"][1])
    assert loose["p_holm"].notna().tolist() == [False, True, False], "a flagged row is no test of the family"
    assert loose["p_holm"][1] == pytest.approx(loose["p_value"][1])
    assert any("1 variant: acmix@head sgd (AMP on (baseline off))" in text for text in said)


@pytest.mark.parametrize(
    ("mine", "theirs", "words"),
    [
        ({"code": "a" * 64}, {"code": "b" * 64}, "code aaaaaaaaaaaa (baseline bbbbbbbbbbbb)"),
        (
            {"git": {"commit": "c" * 40, "dirty": False}},
            {"git": {"commit": "d" * 40, "dirty": False}},
            "code commit cccccccccccc (baseline commit dddddddddddd)",
        ),
        (
            {"git": {"commit": "c" * 40, "dirty": True}},
            {"git": {"commit": "c" * 40, "dirty": False}},
            "code commit cccccccccccc with changes (baseline commit cccccccccccc)",
        ),
        ({"code": "a" * 64, "git": {"commit": "c" * 40}}, {"code": "a" * 64, "git": {"commit": "d" * 40}}, ""),
    ],
)
def test_other_code_is_flagged_by_its_content_before_its_commit(
    records: Grid, write: Write, mine: dict[str, Any], theirs: dict[str, Any], words: str
) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for found in made:
        found["realised"] |= theirs if found["factors"]["module"] == "none" else mine
    table, _ = told(write(made))
    assert table["comparable"][1] == ("no" if words else "yes")
    assert table["notes"][1] == words


@pytest.mark.parametrize(("baseline", "comparable"), [("b", "yes"), ("c", "no")])
def test_code_that_is_known_to_give_the_same_results_is_no_other_code(
    records: Grid, write: Write, monkeypatch: pytest.MonkeyPatch, baseline: str, comparable: str
) -> None:
    monkeypatch.setattr(code_version, "SAME_RESULTS", {"a" * 64: "b" * 64})
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for record in made:
        record["realised"] |= {"code": 64 * (baseline if record["factors"]["module"] == "none" else "a")}
    table, _ = told(write(made))
    assert table["comparable"][1] == comparable


def test_times_of_an_epoch_are_compared_within_one_data_set(record: Make, write: Write) -> None:
    made = []
    for data, seconds in {"shapes": 2.0, "bccd": 40.0}.items():
        for module, more in {"none": 0.0, "hmha": 1.0}.items():
            trial = record(module, data=data)
            trial["cost"]["seconds_per_epoch"] = seconds + more
            made.append(trial)
    _, texts = told(write(made))
    first, second = [text for text in texts if text.startswith("An epoch of training")]
    assert "on shapes took 2.00 s for none" in first
    assert "3.00 s for hmha" in first
    assert "on bccd took 40.00 s for none" in second


def test_a_control_that_lacks_a_seed_is_held_against_its_graft_over_what_both_have(record: Make, write: Write) -> None:
    made = [*trials(record, "none", BASE), *trials(record, "hmha", gained(0.03, 0.001))]
    block = trials(record, "acmix", gained(0.01, 0.002))[:2]
    _, texts = told(with_controls(write, [*made, *block], {"acmix": ("params", "hmha@c3k2")}))
    (text,) = [text for text in texts if "a plain block of the same size" in text]
    assert "hmha@c3k2 musgd measured +2.95 points" in text
    assert "relative to the baseline over the 2 seeds that all three have, a plain block" in text
