"""A study of components: one group, check marks instead of names, and what each component is worth."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from ablate.analysis.columns import in_files
from ablate.analysis.comparison import Comparison, compare
from ablate.analysis.component_effects import ComponentEffect, StudyEffects, effects_of, sums_of
from ablate.analysis.table import comparison_frame, component_columns
from ablate.findings.all_findings import sentences
from ablate.records.loading import load_sweep
from ablate.report.figures.style import BASELINE, styles
from ablate.report.terminal_table import print_table
from ablate.report.write import description, write_report
from ablate.settings.metric import MAP50_95
from ablate.statistics.paired import paired_t

Make = Callable[..., dict[str, Any]]
Study = Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]
Write = Callable[..., Path]

NAMES = ["hmha@c3k2", "acmix@head", "musgd"]


def compared(directory: Path) -> Comparison:
    return compare(load_sweep(directory))


def table_of(directory: Path) -> pd.DataFrame:
    return comparison_frame(compared(directory)).set_index("variant", drop=False)


def effects(directory: Path) -> tuple[ComponentEffect, ...]:
    """The effects of the only study."""
    (study,) = effects_of(compared(directory))
    return study.effects


def marks_of(table: pd.DataFrame) -> list[str]:
    return ["".join("+" if mark == "true" else "." for mark in row) for row in table[NAMES].to_numpy()]


def accuracy(records: list[dict[str, Any]], module: str, optimizer: str) -> np.ndarray:
    chosen = [r for r in records if (r["factors"]["module"], r["factors"]["optimizer"]) == (module, optimizer)]
    return np.array([found["metrics"]["map50_95"] for found in chosen])


def text_of(directory: Path) -> str:
    return " ".join(sentences(compared(directory)))


# -- the table -----------------------------------------------------------------------------------------------------


def test_each_component_is_a_column_behind_all_others(study: Study, write: Write) -> None:
    records, design = study("factorial")
    directory = write(records, design=design)
    table = table_of(directory)

    assert list(table.columns) == [*(column.name for column in in_files(MAP50_95)), *NAMES]
    assert set(table[NAMES].to_numpy().ravel()) == {"true", "false"}
    assert component_columns(compared(directory)) == NAMES


@pytest.mark.parametrize(
    ("design", "order"),
    [
        ("leave_one_out", ["...", ".++", "+.+", "++.", "+++"]),
        ("add_one_in", ["...", "+..", ".+.", "..+", "+++"]),
        ("factorial", ["...", "+..", ".+.", "..+", "++.", "+.+", ".++", "+++"]),
    ],
)
def test_rows_stand_in_the_order_in_which_papers_print_them(
    study: Study, write: Write, design: str, order: list[str]
) -> None:
    records, described = study(design)
    assert marks_of(table_of(write(records[::-1], design=described))) == order


def test_all_variants_are_compared_with_the_one_that_has_no_component(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    directory = write(records, design=design)
    table = table_of(directory)

    assert table["comparison_key"].nunique() == 1
    assert set(table["baseline"][1:]) == {"baseline"}
    assert set(table["comparable"]) == {"yes"}, "another optimizer is what was asked for"
    assert set(table["notes"]) == {""}
    expected = accuracy(records, "hmha+acmix", "musgd") - accuracy(records, "none", "sgd")
    assert table["delta_map50_95"].iloc[-1] == pytest.approx(expected.mean())
    assert [row.is_baseline for row in compared(directory).rows] == [True, False, False, False, False]


def test_variants_are_called_by_their_components(study: Study, write: Write) -> None:
    records, design = study("add_one_in")
    names = ["baseline", "hmha@c3k2", "acmix@head", "musgd", "hmha@c3k2 + acmix@head + musgd"]
    assert list(table_of(write(records, design=design))["variant"]) == names


@pytest.mark.parametrize(
    ("field", "found", "words"),
    [
        ("batch", 8, "batch 8 (baseline 16)"),
        ("device_name", "Other CPU", "device Other CPU (baseline AMD EPYC 7763)"),
        ("versions", {"torch": "2.14.0"}, "torch version 2.14.0 (baseline 2.15.0)"),
        ("optimizer", "AdamW", "optimizer AdamW (baseline SGD)"),
        ("epochs", 30, "epochs 30 (baseline 40)"),
    ],
)
def test_what_no_component_explains_is_flagged(
    study: Study, write: Write, field: str, found: object, words: str
) -> None:
    records, design = study("add_one_in")
    for record in records:
        if record["factors"]["optimizer"] == "musgd" and record["factors"]["module"] == "none":
            record["realised"][field] = found
    table = table_of(write(records, design=design))

    assert list(table["comparable"]) == ["yes", "yes", "yes", "no", "yes"]
    assert words in table.loc["musgd", "notes"]


@pytest.mark.parametrize(
    ("path", "key", "configured", "realised", "fair"),
    [
        (("train", "imgsz"), "imgsz", 320, 320, True),
        (("train", "batch"), "batch", 32, 32, True),
        (("train", "batch"), "batch", 32, 8, False),
        (("train", "epochs"), "epochs", 80, 80, True),
        (("train", "epochs"), "epochs", 80, 60, False),
        (("optimizer", "lr0"), "lr0", 0.02, 0.02, True),
        (("train", "amp"), "amp", True, True, True),
        (("train", "patience"), "epochs", 5, 31, True),
        (("train", "mosaic"), "epochs", 0.0, 31, False),
    ],
)
def test_a_realised_difference_is_intended_only_as_it_was_configured(
    study: Study, write: Write, path: tuple[str, str], key: str, configured: Any, realised: Any, fair: bool
) -> None:
    records, design = study("add_one_in")
    for record in records:
        record["config"]["train"]["amp"] = False
        if record["factors"]["module"] == "hmha":
            record["config"][path[0]][path[1]] = configured
            record["realised"][key] = realised
    assert table_of(write(records, design=design)).loc["hmha@c3k2", "comparable"] == ("yes" if fair else "no")


def test_without_a_design_another_optimizer_is_another_group(study: Study, write: Write) -> None:
    records, _ = study("factorial")
    directory = write(records)
    assert table_of(directory)["comparison_key"].nunique() == 2
    assert component_columns(compared(directory)) == []


def test_every_data_set_is_a_study_with_its_own_baseline(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    others, other = study("leave_one_out", data="coco8")
    design["studies"] = {**dict.fromkeys(design["marks"], 0), **dict.fromkeys(other["marks"], 1)}
    design["marks"] |= other["marks"]
    directory = write(records + others, design=design)
    table = table_of(directory)

    assert len(table) == 10
    assert table["comparison_key"].nunique() == 2
    assert table.loc["hmha@c3k2 + musgd [data=coco8]", "baseline"] == "baseline [data=coco8]"
    assert not compared(directory).is_named_by_marks
    assert "With data=coco8, compared with all components together" in text_of(directory)
    assert (
        "Variant" in write_report(load_sweep(directory), figures=(), notebook=False).files["comparison.md"].read_text()
    )


def test_a_variant_outside_of_the_design_is_compared_as_ever(study: Study, record: Make, write: Write) -> None:
    records, design = study("add_one_in")
    directory = write(records + [record("hat", "sgd", seed) for seed in (0, 1, 2)], design=design)
    table = table_of(directory)

    assert list(table.loc["hat@neck_p3 sgd", NAMES]) == ["", "", ""]
    assert table.loc["hat@neck_p3 sgd", "baseline"] == "baseline"
    assert table["variant"].iloc[-1] == "hat@neck_p3 sgd"
    assert not compared(directory).is_named_by_marks


def test_without_the_variant_that_has_none_rows_say_so(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    kept = [found for found in records if found["factors"] != records[0]["factors"]]
    directory = write(kept, design=design)
    table = table_of(directory)

    assert marks_of(table) == [".++", "+.+", "++.", "+++"]
    assert all("no baseline in this sweep" in notes for notes in table["notes"])
    assert "no baseline (none of the components)" in text_of(directory)
    assert "without hmha@c3k2 -" in text_of(directory)


def test_the_latency_ratio_refers_to_the_study_s_baseline(study: Study, write: Write) -> None:
    records, design = study("factorial")
    directory = write(records, design=design)
    latency = json.loads((directory / "latency.json").read_text())
    for number, entry in enumerate(latency["variants"]):
        entry |= {"latency_ratio": None, "samples_ms": [10.0 + number, 20.0 + 2 * number, 1000.0]}
    (directory / "latency.json").write_text(json.dumps(latency))
    keys = [entry["variant_key"] for entry in latency["variants"]]
    table = table_of(directory).set_index("variant_key")

    assert keys.index(design["reference"]) == 0
    assert [table.loc[key, "latency_ratio"] for key in keys[1:]] == pytest.approx([1 + n / 10 for n in range(1, 8)])


def test_a_latency_ratio_to_another_baseline_is_not_taken_for_the_study_s(study: Study, write: Write) -> None:
    records, design = study("factorial")
    directory = write(records, design=design)
    latency = json.loads((directory / "latency.json").read_text())
    for entry in latency["variants"]:
        entry |= {"latency_ratio": 1.0, "samples_ms": []}  # as a version wrote it that knew of no designs
    (directory / "latency.json").write_text(json.dumps(latency))
    table = table_of(directory).set_index("variant_key")

    keys = [entry["variant_key"] for entry in latency["variants"]]
    assert table.loc[keys[1:], "latency_ratio"].isna().all()


def test_a_component_that_is_called_as_a_column_gets_a_column_of_its_own(study: Study, write: Write) -> None:
    records, design = study("add_one_in")
    directory = write(records, design={**design, "components": ["notes", "seeds", "musgd"]})
    table = table_of(directory)
    assert component_columns(compared(directory)) == ["notes (component)", "seeds (component)", "musgd"]
    assert table.columns.is_unique


@pytest.mark.parametrize(
    "damage",
    [
        "text",
        [],
        {},
        {"components": NAMES},
        {"components": [*NAMES, 3], "marks": {}},
        {"components": ["a", "a"], "marks": {"k": [True, False]}},
        {"components": NAMES, "marks": {"k": [True]}},
        {"components": NAMES, "marks": "none"},
    ],
)
def test_a_damaged_design_costs_the_marks_and_not_the_table(study: Study, write: Write, damage: Any) -> None:
    records, _ = study("leave_one_out")
    directory = write(records, design=damage)
    if not isinstance(damage, dict):
        head = json.loads((directory / "sweep.json").read_text())
        (directory / "sweep.json").write_text(json.dumps({**head, "design": damage}))
    sweep = load_sweep(directory)

    assert sweep.design is None
    assert sweep.ignored == ["sweep.json: the design of components cannot be read"]
    assert len(compare(sweep).rows) == 5


def test_marks_that_cannot_be_read_leave_their_variant_out_of_the_design(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    design["marks"][records[3]["variant_key"]] = [1, 1, 1]
    sweep = load_sweep(write(records, design=design))
    assert sweep.design is not None
    assert len(sweep.design.marks) == 4
    assert list(comparison_frame(compare(sweep))[NAMES[0]]).count("") == 1


# -- what a component is worth -------------------------------------------------------------------------------------


def test_leaving_a_component_out_is_compared_with_all_together(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    directory = write(records, design=design)
    found = effects(directory)

    expected = accuracy(records, "hmha+acmix", "musgd") - accuracy(records, "acmix", "musgd")
    assert [effect.component for effect in found] == NAMES
    assert found[0].mean == pytest.approx(expected.mean())
    assert [one.seed for one in found[0].replicates] == [0, 1, 2]
    assert found[0].interval is not None
    assert found[0].interval.low < expected.mean() < found[0].interval.high
    text = text_of(directory)
    assert "all components together (3 seeds), differences in mAP50-95: without" in text
    assert f"without hmha@c3k2 -{100 * expected.mean():.2f} points (95% CI -" in text
    assert "With 3 seeds the exact sign-flip test" in text


def test_what_is_gained_by_leaving_out_is_said_so(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    for record in records:
        if record["factors"]["module"] == "hmha":
            record["metrics"]["map50_95"] += 0.05
    text = text_of(write(records, design=design))
    assert re.search(r"without acmix@head \+4\.\d\d points \(95% CI \+\d\.\d+ to \+\d\.\d+, Holm-corrected", text)


def test_a_component_that_makes_no_difference_is_said_to_change_nothing(study: Study, write: Write) -> None:
    records, design = study("leave_one_out", (0,))
    for record in records:
        record["metrics"]["map50_95"] = 0.25
    assert "without hmha@c3k2 0.00 points; without acmix@head" in text_of(write(records, design=design))


def test_a_main_effect_is_paired_and_averaged_over_the_other_components(study: Study, write: Write) -> None:
    records, design = study("factorial")
    directory = write(records, design=design)
    found = effects(directory)

    pairs = [(m, o) for m in ("none", "acmix") for o in ("sgd", "musgd")]
    having = {"none": "hmha", "acmix": "hmha+acmix"}
    expected = np.mean([accuracy(records, having[m], o) - accuracy(records, m, o) for m, o in pairs], axis=0)
    assert found[0].mean == pytest.approx(expected.mean())
    assert found[0].pairs == 4
    assert f"of the other components: hmha@c3k2 +{100 * expected.mean():.2f} points (95% CI" in text_of(directory)


@pytest.mark.parametrize("design", ["leave_one_out", "factorial"])
def test_one_seed_gives_no_interval_and_says_so(study: Study, write: Write, design: str) -> None:
    records, described = study(design, (4,))
    directory = write(records, design=described)
    found = effects(directory)

    assert all(effect.interval is None and effect.p_holm is None for effect in found)
    first = text_of(directory).partition(" Compared with baseline ")[0]
    assert "There is one seed, so there is no CI" in first
    assert "95%" not in first


def test_p_values_are_corrected_over_the_components(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    found = effects(write(records, design=design))
    raw = [
        paired_t(list(accuracy(records, "hmha+acmix", "musgd") - accuracy(records, *without)))
        for without in (("acmix", "musgd"), ("hmha", "musgd"), ("hmha+acmix", "sgd"))
    ]
    assert min(effect.p_holm or 1 for effect in found) == pytest.approx(3 * min(p or 1 for p in raw))


def test_an_effect_within_the_noise_is_called_undetected(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    noise = dict(zip((0, 1, 2), (0.05, -0.06, 0.02), strict=True))
    for record in records:
        if record["factors"]["module"] == "acmix":
            record["metrics"]["map50_95"] += noise[record["seed"]]
    assert "The effect of hmha@c3k2 is not significant after Holm correction" in text_of(write(records, design=design))


def test_what_was_trained_in_another_way_tells_nothing_of_a_component(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    for record in records:
        if record["factors"]["module"] == "acmix":
            record["realised"]["batch"] = 8
    text = text_of(write(records, design=design))
    assert "The effect of hmha@c3k2 cannot be estimated: acmix@head + musgd was trained differently (batch" in text
    assert "without hmha@c3k2" not in text
    assert "without acmix@head" in text


def test_missing_variants_leave_their_pairs_out_of_a_main_effect(study: Study, write: Write, as_failed: Make) -> None:
    records, design = study("factorial")
    made = [
        as_failed(r) if (r["factors"]["module"], r["factors"]["optimizer"]) == ("hmha", "sgd") else r for r in records
    ]
    directory = write(made, design=design)
    found = effects(directory)

    assert [effect.pairs for effect in found] == [3, 3, 3]
    assert all(effect.mean is not None for effect in found)


def test_a_full_variant_that_failed_is_named_as_the_reason(study: Study, write: Write, as_failed: Make) -> None:
    records, design = study("leave_one_out")
    made = [
        as_failed(r) if (r["factors"]["module"], r["factors"]["optimizer"]) == ("hmha+acmix", "musgd") else r
        for r in records
    ]
    text = text_of(write(made, design=design))
    assert "The effect of musgd cannot be estimated: the variant with all components has no result." in text


def test_seeds_that_only_some_variants_have_are_left_out(study: Study, write: Write) -> None:
    records, design = study("factorial")
    kept = [r for r in records if not (r["factors"]["module"] == "hmha" and r["seed"] == 1)]
    found = effects(write(kept, design=design))
    assert [one.seed for one in found[0].replicates] == [0, 2]


def test_adding_one_in_has_no_effects_of_its_own(study: Study, write: Write) -> None:
    records, design = study("add_one_in")
    directory = write(records, design=design)
    assert effects_of(compared(directory)) == []
    assert text_of(directory).startswith("Compared with baseline (mAP50-95")


def study_of(directory: Path) -> StudyEffects:
    (study,) = effects_of(compared(directory))
    return study


def test_an_interaction_is_what_two_components_give_beyond_the_sum(study: Study, write: Write) -> None:
    records, design = study("factorial")
    found = study_of(write(records, design=design))
    cells = {(m, o): accuracy(records, m, o) for m in ("none", "hmha", "acmix", "hmha+acmix") for o in ("sgd", "musgd")}
    alone = np.mean([cells["hmha", o] - cells["none", o] for o in ("sgd", "musgd")], axis=0)
    together = np.mean([cells["hmha+acmix", o] - cells["acmix", o] for o in ("sgd", "musgd")], axis=0)

    assert [one.components for one in found.interactions] == [
        ("hmha@c3k2", "acmix@head"), ("hmha@c3k2", "musgd"), ("acmix@head", "musgd"),
    ]  # fmt: skip
    first = found.interactions[0]
    assert first.value.mean == pytest.approx((together - alone).mean())
    assert first.simple[0].alone.mean == pytest.approx(alone.mean())
    assert first.simple[0].together.mean == pytest.approx(together.mean())
    raw = [paired_t(list(together - alone)), *(one.p_holm for one in found.interactions[1:])]
    assert first.p_holm is not None
    assert first.p_holm >= (raw[0] or 0)


def with_interaction(records: list[dict[str, Any]], gain: float) -> None:
    """Both modules together give more than the sum; a little noise keeps the seeds apart."""
    for record in records:
        if record["factors"]["module"] == "hmha+acmix":
            record["metrics"]["map50_95"] += gain + 0.0002 * record["seed"]


def test_a_large_interaction_comes_first_and_its_main_effects_are_told_with_and_without(
    study: Study, write: Write
) -> None:
    records, design = study("factorial", (0, 1, 2, 3))
    for record in records:
        record["metrics"]["map50_95"] = 0.3 + 0.001 * record["seed"] + 0.00001 * (int(record["signature"][:6], 16) % 7)
    with_interaction(records, 0.05)
    directory = write(records, design=design)
    found = study_of(directory)
    text = text_of(directory)

    assert [one.supported for one in found.interactions] == [True, False, False]
    assert [(each.component, each.other) for each in found.dependent] == [
        ("hmha@c3k2", "acmix@head"), ("acmix@head", "hmha@c3k2"),
    ]  # fmt: skip
    assert text.startswith("Significant interactions")
    assert re.search(
        r"For hmha@c3k2, mAP50-95 changed by \S+ points \(.*?\) without acmix@head and by \+5\.\d\d points", text
    )
    main = text[text.index("Main effects") :].partition(". ")[0]
    assert "musgd" in main
    assert "hmha@c3k2" not in main


def test_main_effects_stand_where_no_interaction_is_large(study: Study, write: Write) -> None:
    records, design = study("factorial")
    directory = write(records, design=design)
    text = text_of(directory)
    assert study_of(directory).dependent == []
    assert text.startswith("No interaction of two components is significant: the largest is ")
    assert text.index("No interaction") < text.index("Main effects")


def test_interactions_rest_on_comparable_variants_only(study: Study, write: Write) -> None:
    records, design = study("factorial")
    for record in records:
        if record["factors"]["module"] == "acmix" and record["factors"]["optimizer"] == "sgd":
            record["realised"]["batch"] = 8
    found = study_of(write(records, design=design))
    cells = {m: accuracy(records, m, "musgd") for m in ("none", "hmha", "acmix", "hmha+acmix")}
    expected = cells["hmha+acmix"] - cells["acmix"] - cells["hmha"] + cells["none"]
    assert found.interactions[0].value.mean == pytest.approx(expected.mean())


def test_single_gains_are_summed_and_compared_with_the_gain_of_all(study: Study, write: Write) -> None:
    records, design = study("add_one_in")
    directory = write(records, design=design)
    (total,) = sums_of(compared(directory))
    base = accuracy(records, "none", "sgd")
    single = [("hmha", "sgd"), ("acmix", "sgd"), ("none", "musgd")]
    summed = sum(accuracy(records, *one) - base for one in single)
    together = accuracy(records, "hmha+acmix", "musgd") - base
    assert total.summed.mean == pytest.approx(np.mean(summed))
    assert total.difference.mean == pytest.approx(np.mean(together - summed))
    assert f"all together +{100 * together.mean():.2f} points" in text_of(directory)


def test_gains_that_do_not_add_up_are_said_to_be_less_than_the_sum(study: Study, write: Write) -> None:
    records, design = study("add_one_in", (0, 1, 2, 3))
    for record in records:
        if record["factors"]["module"] == "hmha+acmix":
            record["metrics"]["map50_95"] -= 0.2
    assert "Together they give less than the sum: -" in text_of(write(records, design=design))


def test_one_seed_does_not_tell_whether_gains_add_up(study: Study, write: Write) -> None:
    records, design = study("add_one_in", (0,))
    assert "cannot be separated from seed-to-seed variance with one seed" in text_of(write(records, design=design))


# -- how it is shown -----------------------------------------------------------------------------------------------


def printed(directory: Path, width: int, encoding: str = "utf-8") -> list[str]:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    sweep = load_sweep(directory)
    console = Console(file=stream, width=width, force_terminal=False, highlight=False, _environ={})
    print_table(compare(sweep), console=console)
    return raw.getvalue().decode(encoding).splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_terminal_shows_marks_and_whole_numbers_at_any_width(study: Study, write: Write, width: int) -> None:
    records, design = study("factorial")
    lines = printed(write(records, design=design), width)

    assert max(map(len, lines)) <= width
    rows = [line for line in lines if re.match(r"\s*[✓·]", line)]
    assert [re.sub(r"\s", "", line)[:3] for line in rows] == ["···", "✓··", "·✓·", "··✓", "✓✓·", "✓·✓", "·✓✓", "✓✓✓"]
    assert all(re.search(r" 0\.3\d\d\d ", f"{line} ") for line in rows)


def test_a_narrow_terminal_names_components_by_letters(study: Study, write: Write) -> None:
    records, design = study("factorial")
    directory = write(records, design=design)

    assert [line.strip() for line in printed(directory, 60) if re.match("[A-Z] = ", line)] == [
        "A = hmha@c3k2",
        "B = acmix@head",
        "C = musgd",
    ]
    head = [line.split()[:3] for line in printed(directory, 120)[1:3]]
    assert head == [["hmha", "acmix"], ["@c3k2", "@head", "musgd"]]


def test_names_of_variants_are_shown_where_there_is_room(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    directory = write(records, design=design)
    assert not any(" Variant " in f" {line} " for line in printed(directory, 100))
    wide = printed(directory, 220)
    assert any(line.startswith("@c3k2") and " Variant " in line for line in wide)
    assert any("✓  " in line and " hmha@c3k2 + musgd " in line for line in wide)


def test_a_terminal_without_check_marks_gets_crosses(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    text = "\n".join(printed(write(records, design=design), 120, "ascii"))
    assert text.isascii()
    assert re.search(r"^ +\. +x +x +3 +0\.", text, re.MULTILINE)


def test_files_show_check_marks_in_place_of_names(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    report = write_report(load_sweep(write(records, design=design)), figures=(), notebook=False)
    text = {kind: report.files[f"comparison.{kind}"].read_text() for kind in ("csv", "md", "tex", "html")}

    assert report.problems == []
    csv = pd.read_csv(report.files["comparison.csv"], dtype=str)
    assert list(csv[NAMES].iloc[1]) == ["false", "true", "true"]
    assert "| hmha@c3k2 | acmix@head | musgd | Seeds |" in text["md"]
    assert "| :---: | :---: | :---: | ---: |" in text["md"]
    assert "\n|  | ✓ | ✓ | 3 | 0.3" in text["md"]
    assert r"\usepackage{amsmath,amssymb,booktabs}" in text["tex"]
    assert r"     & \checkmark{} & \checkmark{} & 3 & 0.3" in text["tex"]
    assert "✓" not in text["tex"]
    assert text["html"].count(">✓</td>") == 3 * 2 + 3
    for tabular in re.findall(r"\\begin\{tabular\}\{@\{\}(\w+)@\{\}\}(.*?)\\end\{tabular\}", text["tex"], re.DOTALL):
        rows = [line for line in tabular[1].splitlines() if line.rstrip().endswith(r"\\")]
        assert {len(re.split(r"(?<!\\)&", row)) for row in rows} == {len(tabular[0])}


def test_all_rows_of_a_study_share_one_recipe_and_one_panel(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    report = write_report(load_sweep(write(records, design=design)), figures=(), notebook=False)
    html = report.files["comparison.html"].read_text()
    assert "Realised recipe: yolo26n, shapes" in html
    assert "<dd>SGD | MuSGD</dd>" in html


def test_only_the_variant_without_components_is_drawn_as_the_baseline(study: Study, write: Write) -> None:
    records, design = study("factorial")
    drawn = styles(compared(write(records, design=design)))
    assert [name for name, style in drawn.items() if style.color == BASELINE] == ["baseline"]
    assert len(drawn) == 8


def test_the_description_for_mlflow_has_marks_in_place_of_names(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    sweep = load_sweep(write(records, design=design))
    text = description(compare(sweep))
    assert text.startswith("| hmha@c3k2 | acmix@head | musgd | Seeds |")


def test_hostile_names_of_components_do_no_harm(study: Study, write: Write) -> None:
    records, design = study("leave_one_out")
    hostile = ["<b>x</b>|y", "50%_$&", "train.mosaic=1.0"]
    report = write_report(
        load_sweep(write(records, design={**design, "components": hostile})), figures=(), notebook=False
    )

    assert report.problems == []
    assert "<b>x" not in report.files["comparison.html"].read_text()
    assert r"50\%\_\$\&" in report.files["comparison.tex"].read_text()
    table = [line for line in report.files["comparison.md"].read_text().splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table[:7]}) == 1
