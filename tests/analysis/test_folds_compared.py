"""What a report says of a cross-validation: trials of two variants are paired by seed and fold, tested over folds."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.console import Console
from tests.factories import make_record

import ablate
from ablate.analysis.all_pairs_compared import best_of_many, groups_of_pairs
from ablate.analysis.columns import BY_NAME
from ablate.analysis.comparability import differences, disagreements
from ablate.analysis.comparison import Comparison, compare
from ablate.analysis.component_effects import effects_of
from ablate.analysis.data_sets import data_set_studies
from ablate.analysis.factor_effects import analyses_of
from ablate.analysis.table import comparison_frame, trial_frame, trial_rows
from ablate.analysis.variant_row import Row
from ablate.findings.all_findings import findings, sentences
from ablate.findings.finding import Kind
from ablate.records.loading import load_sweep
from ablate.records.trial_record import TrialRecord, decode_record
from ablate.report.captions import accuracy_caption, cost_caption
from ablate.report.figure_list import figure_list
from ablate.report.html import table_html
from ablate.report.latex import latex
from ablate.report.terminal_table import print_table
from ablate.report.text_table import best_rows
from ablate.report.write import description, markdown
from ablate.statistics.equivalence import equivalence_p
from ablate.statistics.paired import paired_t, smallest_detectable, t_interval, upper_std
from ablate.statistics.sequential import spent_p

Make = Callable[..., dict[str, Any]]
Write = Callable[..., Path]
Trials = list[dict[str, Any]]
GAINS = (0.011, 0.004, 0.013, 0.007, 0.009)
SHARE = 0.25  # n_test / n_train of five folds


def over_folds(trial: dict[str, Any], seed: int, fold: int, accuracy: float) -> dict[str, Any]:
    """The trial as one of this seed and fold."""
    trial["metrics"]["map50_95"] = accuracy
    config = {**trial["config"], "fold": {"folds": 5, "index": fold, "by_groups": False, "assignment": "a"}}
    return trial | {"seed": seed, "fold": fold, "config": config}


def variants(record: Make, gains: dict[str, Sequence[float]], *, seeds: int = 2, **options: Any) -> Trials:
    """Trials of some modules that gain so much on each fold; folds differ in difficulty, and by seed."""
    return [
        over_folds(
            record(module, seed=10 * seed + fold, **options),
            seed,
            fold,
            0.3 + 0.05 * fold + (0 if module == "none" else gain + 0.002 * seed),
        )
        for module, of_folds in gains.items()
        for seed in range(seeds)
        for fold, gain in enumerate(of_folds)
    ]


def row_of(comparison: Comparison, module: str = "hmha") -> Row:
    return next(row for row in comparison.rows if row.module == module)


@pytest.fixture
def trials(record: Make) -> Trials:
    return variants(record, {"none": [0.0] * 5, "hmha": GAINS})


@pytest.fixture
def comparison(trials: Trials, write: Write) -> Comparison:
    return compare(load_sweep(write(trials)))


def test_the_test_is_the_corrected_one_over_folds(comparison: Comparison) -> None:
    row = row_of(comparison)
    assert row.is_comparable, row.notes
    difference = row.difference
    assert difference is not None
    means = [gain + 0.001 for gain in GAINS]
    assert difference.samples.values == pytest.approx(means)
    assert difference.p_value == pytest.approx(paired_t(means, SHARE))
    assert difference.over_seeds == pytest.approx(t_interval(means, share=SHARE))
    assert len(difference.replicates) == 10
    assert difference.p_holm == difference.p_value


def test_power_is_that_of_the_corrected_test(comparison: Comparison) -> None:
    difference = row_of(comparison).difference
    assert difference is not None
    spread = (upper_std([gain + 0.001 for gain in GAINS]) or 0.0) * np.sqrt(1 + 5 * SHARE)
    assert difference.smallest_detectable == pytest.approx(smallest_detectable(spread, 5))


def test_what_needs_independent_replicates_is_left_out(comparison: Comparison) -> None:
    difference = row_of(comparison).difference
    assert difference is not None
    assert difference.p_sign_flip is None
    assert difference.effect_size is None
    assert difference.seeds_needed is None
    assert difference.over_images is None
    assert difference.over_both is None


def test_the_reader_is_told_how_many_seeds_and_folds_there_are(comparison: Comparison) -> None:
    row = row_of(comparison)
    assert BY_NAME["replicates"].text(row) == "2 x 5 folds"
    text = " ".join(sentences(comparison))
    assert "2 seeds x 5 folds" in text
    assert "over 5 folds" in text
    assert "seed-to-seed" not in text
    assert any("5 of 5 folds" in note for note in row.notes)
    frame = comparison_frame(comparison).set_index("module").loc["hmha"]
    assert (frame["replicates"], frame["folds"], frame["seeds"]) == (10, 5, "0 1")


def test_captions_say_folds_where_folds_are_meant(comparison: Comparison) -> None:
    caption = accuracy_caption(comparison) + cost_caption(comparison)
    assert "corrected resampled t-test" in caption
    assert "over seeds and folds" in caption
    assert "Student" not in caption
    drawings = {entry.name: entry.draw() for entry in figure_list(comparison)}
    texts = {name: drawing.caption for name, drawing in drawings.items() if drawing is not None}
    assert "95% CI over folds (corrected resampled t)" in texts["differences"]
    assert any("CI of the mean over folds" in text for text in texts.values())
    assert not [name for name, text in texts.items() if "over seeds." in text or "CI over seeds" in text]
    text = markdown(comparison)
    assert "| 2 x 5 folds |" in text
    assert "| 1 f4 |" in text
    assert "| Seed, fold |" in text


def test_the_spread_of_a_variant_is_that_of_its_folds(comparison: Comparison) -> None:
    accuracy = row_of(comparison, "none").accuracy
    assert accuracy.std == pytest.approx(np.std([0.3 + 0.05 * fold for fold in range(5)], ddof=1))


def test_equivalence_is_tested_over_folds(trials: Trials, write: Write) -> None:
    comparison = compare(load_sweep(write(trials)).with_margin(0.03))
    difference = row_of(comparison).difference
    assert difference is not None
    assert difference.p_equivalence == pytest.approx(equivalence_p([g + 0.001 for g in GAINS], 0.03, SHARE))
    (finding,) = [one for one in findings(comparison) if one.kind is Kind.EQUIVALENCE]
    assert "over folds (" in finding.text


def test_a_fold_without_a_result_is_left_out_of_both_sides(trials: Trials, write: Write, as_failed: Make) -> None:
    trials[5 + 3] = as_failed(trials[5 + 3], "diverged") | {"fold": 3}  # the baseline's seed 1
    comparison = compare(load_sweep(write(trials)))
    row = row_of(comparison)
    difference = row.difference
    assert difference is not None
    means = [gain + (0.0 if fold == 3 else 0.001) for fold, gain in enumerate(GAINS)]
    assert difference.samples.values == pytest.approx(means)
    assert any("9 shared trials" in note and "the baseline lacks seed 1 fold 3" in note for note in row.notes)
    (lost,) = [one for one in findings(comparison) if one.kind is Kind.FAILURES] or [None]
    assert lost is None, "the variant lost none"


def test_accuracies_over_other_folds_than_the_baselines_are_marked_in_every_table(
    record: Make, write: Write, as_failed: Make
) -> None:
    trials = variants(record, {"none": [0.0] * 5, "hmha": GAINS, "acmix": GAINS[::-1]}, seeds=1)
    trials[5 + 4] = as_failed(trials[5 + 4], "diverged") | {"fold": 4}  # of hmha, whose last fold is the easiest
    comparison = compare(load_sweep(write(trials)))
    row, whole = row_of(comparison), row_of(comparison, "acmix")
    means = [0.3 + 0.05 * fold + gain for fold, gain in enumerate(GAINS[:4])]
    frame = comparison_frame(comparison).set_index("module").loc["hmha"]
    assert frame["shared_map50_95"] == pytest.approx(np.mean(means))
    assert frame["baseline_map50_95"] == pytest.approx(0.375)
    assert frame["shared_map50_95"] - frame["baseline_map50_95"] == pytest.approx(frame["delta_map50_95"])
    number = f"{np.mean(means):.4f}‡"
    assert BY_NAME["map50_95"].text(row) == number
    assert "‡" not in BY_NAME["map50_95"].text(whole)
    assert any("baseline 0.3750 (this variant lacks seed 0 fold 4)" in note for note in row.notes)
    assert "‡: Δ is over fewer seeds and folds" in accuracy_caption(comparison)
    assert "on the same data and over the same seeds and folds, controls apart" in accuracy_caption(comparison)
    assert number in markdown(comparison)
    assert "‡: Δ is over fewer seeds and folds" in description(comparison)
    assert number in table_html(comparison)
    assert number.replace("‡", r"$^{\ddagger}$") in latex(comparison, accuracy_caption(comparison), "")
    for encoding, mark in {"utf-8": "‡", "ascii": "*"}.items():
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, write_through=True)
        print_table(comparison, console=Console(file=out, width=200))
        printed = out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
        assert number.replace("‡", mark) in printed
        assert f"{mark}   {'Δ' if encoding == 'utf-8' else 'delta'} is over fewer seeds and folds" in printed


def test_the_best_accuracy_is_among_rows_over_the_same_folds(record: Make, write: Write, as_failed: Make) -> None:
    trials = variants(record, {"none": [0.0] * 5, "hmha": GAINS, "acmix": [0.02] * 5}, seeds=1)
    trials[10] = as_failed(trials[10], "diverged") | {"fold": 0}  # without the hardest fold acmix looks best of all
    comparison = compare(load_sweep(write(trials)))
    best = best_rows(comparison)["map50_95"]
    assert [comparison.rows[position].module for position in best] == ["hmha"]


def test_a_mean_over_folds_is_that_of_the_means_of_folds(trials: Trials, write: Write, as_failed: Make) -> None:
    trials[5 + 4] = as_failed(trials[5 + 4], "diverged") | {"fold": 4}  # the baseline's seed 1; its seed 0 is there
    comparison = compare(load_sweep(write(trials)))
    assert row_of(comparison, "none").accuracy.primary == pytest.approx(0.4)


def test_trials_without_a_result_are_named_by_variant_seed_and_fold(
    trials: Trials, write: Write, as_failed: Make
) -> None:
    trials[10 + 7] = as_failed(trials[10 + 7], "diverged") | {"fold": 2}
    directory = write(trials)
    manifest = json.loads((directory / "sweep.json").read_text())
    manifest["signatures"] += [letter * 64 for letter in "cdef"]
    manifest["names"] = {"c" * 64: "sta@head s1 f4", "d" * 64: "sta@head s1 f3", "e" * 64: "none s2"}
    (directory / "sweep.json").write_text(json.dumps(manifest))
    comparison = compare(load_sweep(directory))
    assert (
        "4 trials of 24 have no result yet: sta@head (seed 1 fold 3, seed 1 fold 4); none (seed 2); ffff"
        in " ".join(sentences(comparison))
    )
    assert "1 of 10 trials failed: diverged (seed 1 fold 2)" in row_of(comparison).notes


def test_one_fold_has_no_interval_and_no_note_of_one(trials: Trials, write: Write) -> None:
    row = row_of(compare(load_sweep(write([one for one in trials if (one["seed"], one["fold"]) == (0, 2)]))))
    assert row.difference is not None
    assert row.difference.over_seeds is None
    assert "over 1 of 5 folds" in row.notes


def test_lost_trainings_are_counted_by_seed_and_fold_and_not_tested(
    trials: Trials, write: Write, as_failed: Make
) -> None:
    for place, (seed, fold) in {10 + 2: (0, 2), 15 + 2: (1, 2)}.items():
        trials[place] = as_failed(trials[place], "diverged") | {"seed": seed, "fold": fold}
    trials[10 + 4]["metrics"]["map50_95"] = 0.001
    comparison = compare(load_sweep(write(trials)))
    (lost,) = [one for one in findings(comparison) if one.kind is Kind.FAILURES]
    assert "3 of 10 trainings" in lost.text
    assert "seed 0 fold 2, seed 1 fold 2 failed" in lost.text
    assert "seed 0 fold 4 collapsed" in lost.text
    assert "not tested" in lost.text
    assert "95% CI" not in lost.text
    assert not lost.claims
    assert "4 of 5 folds" in " ".join(row_of(comparison).notes)


def test_folds_are_of_their_own_where_a_sweep_looks_more_than_once(trials: Trials, write: Write) -> None:
    directory = write(trials)
    manifest = json.loads((directory / "sweep.json").read_text()) | {"looks": [1]}
    (directory / "sweep.json").write_text(json.dumps(manifest))
    difference = row_of(compare(load_sweep(directory))).difference
    assert difference is not None
    assert difference.p_value is not None
    assert difference.p_sequential == pytest.approx(spent_p(difference.p_value, 2))
    assert difference.p_sequential == pytest.approx(6 * difference.p_value)


def test_pairs_and_the_best_of_many_are_of_the_means_of_folds(record: Make, write: Write) -> None:
    gains: dict[str, Sequence[float]] = {
        "none": [0.0] * 5,
        "hmha": [0.05 + gain for gain in GAINS],
        "acmix": GAINS[::-1],
        "sta": [-gain for gain in GAINS],
    }
    comparison = compare(load_sweep(write(variants(record, gains))))
    (group,) = groups_of_pairs(comparison)
    pair = next(one for one in group.pairs if {one.first.module, one.second.module} == {"hmha", "acmix"})
    expected = t_interval([0.05 + a - b for a, b in zip(GAINS, GAINS[::-1], strict=True)], share=SHARE)
    assert expected is not None
    assert abs(pair.interval.estimate) == pytest.approx(expected.estimate)
    assert pair.interval.high - pair.interval.low == pytest.approx(expected.high - expected.low)
    best = best_of_many(comparison.groups[0])
    assert best is not None
    assert best.row.module == "hmha"
    assert len(best.replicates) == 10
    assert 0 < best.shrunken < best.measured


def test_the_best_of_many_says_where_it_is_over_fewer_trials_than_its_row(
    record: Make, write: Write, as_failed: Make
) -> None:
    made = variants(record, {"none": [0.0] * 5, "hmha": GAINS, "acmix": GAINS[::-1], "sta": [0.0, -0.01] * 2}, seeds=1)
    text = " ".join(sentences(compare(load_sweep(write(made)))))
    assert "over the 4 trials that all of them have" in text


def test_effects_of_factors_are_computed_fold_by_fold(record: Make, write: Write, as_failed: Make) -> None:
    made = []
    for optimizer in ("sgd", "musgd"):
        for module, of_folds in {"hmha": GAINS, "acmix": GAINS[::-1]}.items():
            for seed in (0, 1):
                for fold, gain in enumerate(of_folds):
                    trial = record(module, optimizer, 10 * seed + fold)
                    extra = 0.01 * (optimizer == "musgd" and module == "hmha") * (1 + 0.1 * fold)
                    made.append(over_folds(trial, seed, fold, 0.3 + 0.05 * fold + gain + extra + 0.001 * seed))
    for optimizer in ("sgd", "musgd"):
        made += variants(record, {"none": [0.0] * 5}, optimizer=optimizer)
    comparison = compare(load_sweep(write(made)))
    (analysis,) = analyses_of(comparison)
    assert not analysis.refusal, analysis.refusal
    assert (analysis.unit, analysis.freedom, analysis.share) == ("fold", 4, SHARE)
    effect = next(one for one in analysis.effects if one.level == "hmha")
    halves = [
        (a - b) / 2 + 0.0025 * (1 + 0.1 * fold) for fold, (a, b) in enumerate(zip(GAINS, GAINS[::-1], strict=True))
    ]
    assert effect.interval == pytest.approx(t_interval(halves, share=SHARE))
    assert "(5 folds, relative to" in " ".join(sentences(comparison))
    made[3] = as_failed(made[3], "diverged") | {"fold": 3}
    (analysis,) = analyses_of(compare(load_sweep(write(made))))
    assert "has folds 0, 1, 2, 4" in analysis.refusal


def test_effects_of_components_are_computed_fold_by_fold(
    study: Callable[..., tuple[Trials, dict[str, Any]]], write: Write
) -> None:
    records, design = study("factorial", seeds=range(5))
    made = [
        over_folds(one, 0, one["seed"], 0.3 + 0.01 * sum(design["marks"][one["variant_key"]]) + 0.001 * (index % 7))
        for index, one in enumerate(records)
    ]
    comparison = compare(load_sweep(write(made, design=design)))
    (found,) = effects_of(comparison)
    effect = found.effects[0]
    assert len(effect.replicates) == 5
    assert effect.interval is not None
    assert effect.interval.low < (effect.mean or 0.0) < effect.interval.high
    assert "seed-to-seed" not in " ".join(sentences(comparison))


def test_several_data_sets_with_lost_folds_are_pooled(record: Make, write: Write, as_failed: Make) -> None:
    made: Trials = []
    for number, data in enumerate(("shapes", "coco8", "bccd")):
        made += variants(record, {"none": [0.0] * 5, "hmha": [g + 0.002 * number for g in GAINS]}, seeds=1, data=data)
    made[2] = as_failed(made[2], "diverged") | {"fold": 2}  # the baseline's on the first
    made[5 + 4] = as_failed(made[5 + 4], "diverged") | {"fold": 4}
    comparison = compare(load_sweep(write(made)))
    (found,) = data_set_studies(comparison)
    (across,) = found.variants
    kept = [GAINS[fold] for fold in (0, 1, 3)]
    assert across.on[0].estimate == pytest.approx(np.mean(kept))
    assert across.on[0].error == pytest.approx(np.std(kept, ddof=1) * np.sqrt(1 / 3 + SHARE))
    assert across.higher == 3
    assert "as many seeds and folds" in " ".join(sentences(comparison))


def test_python_users_get_predictions_by_seed_and_fold_and_no_interval_over_images(
    trials: Trials, write: Write
) -> None:
    sweep = ablate.load_sweep(write(trials))
    variant = (
        sweep["hmha@c3k2 sgd"]
        if "hmha@c3k2 sgd" in [one.label for one in sweep]
        else next(one for one in sweep if one.baseline)
    )
    assert variant.fold_share == SHARE
    assert variant.predictions == {}
    assert set(sweep.trials["fold"]) == set(range(5))
    assert set(variant.history["fold"]) == set(range(5))
    with pytest.raises(ValueError, match="other images"):
        variant.resample_images(10)


def test_trials_are_listed_by_seed_and_fold(comparison: Comparison) -> None:
    rows = trial_rows(comparison)
    assert [row.replicate for row in rows[:6]] == ["0 f0", "0 f1", "0 f2", "0 f3", "0 f4", "1 f0"]
    frame = trial_frame(comparison)
    assert list(frame["fold"][:6]) == [0, 1, 2, 3, 4, 0]
    assert list(frame["seed"][:6]) == [0, 0, 0, 0, 0, 1]


def test_without_folds_no_list_of_trials_has_a_column_of_them(record: Make, write: Write) -> None:
    comparison = compare(load_sweep(write([record("none"), record("hmha")])))
    assert [row.replicate for row in trial_rows(comparison)] == ["0", "0"]
    assert "fold" not in trial_frame(comparison)


def used(fold: int, seed: int, images: int) -> TrialRecord:
    """A trial of a fold, trained on so many images."""
    found = decode_record(make_record(signature=f"{fold}{seed}" * 32, seed=seed, fold=fold))
    realised = msgspec.structs.replace(found.realised, images={"train": images, "val": 5}, instances={})
    return msgspec.structs.replace(found, realised=realised)


def test_folds_have_other_images_and_seeds_of_one_fold_the_same() -> None:
    folds = [used(fold, seed, 20 + fold) for fold in range(2) for seed in range(2)]

    assert disagreements(folds) == []
    assert differences(folds, folds[:2]) == []  # a side may lack a fold
    assert "fold 1: train 99 images" in disagreements([*folds, used(1, 2, 99)])[0]
    assert "fold 0: train 99 images" in differences(folds, [used(0, 0, 99)])[0]
