"""Intervals over images: from evidence, kept beside the sweep, and a reason in words where there is none."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import ablate
from ablate.analysis.comparison import compare
from ablate.analysis.image_intervals import compute_intervals
from ablate.analysis.table import comparison_frame
from ablate.errors import ConfigError
from ablate.evaluation.average_precision import ultralytics_ap
from ablate.evaluation.image_bootstrap import paired_bootstrap, resampled_accuracy
from ablate.findings.all_findings import sentences
from ablate.records.judged import sweep_as_chosen
from ablate.records.loading import load_sweep
from ablate.records.predictions import Predictions, load_predictions, save_predictions
from ablate.report.captions import accuracy_caption
from ablate.report.figure_list import figure_list
from ablate.report.html import page_html
from ablate.report.write import markdown
from ablate.settings.metric import METRICS
from ablate.statistics.sequential import sequential_interval
from ablate.storage.layout import SweepFolder

Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
BOUNDS = ["images_ci_low", "images_ci_high"]


def detections(skill: float, seed: int, images: int = 30) -> Predictions:
    """Of a detector that finds this share of three true objects an image, and as many that are not there."""
    true_image = np.repeat(np.arange(images), 3)
    random = np.random.default_rng([int(1000 * skill), seed])
    found = np.flatnonzero(random.random(len(true_image)) < skill)
    image = np.sort(np.concatenate([true_image[found], random.integers(0, images, images)]))
    count = len(image)
    is_true = np.isin(np.arange(count), random.permutation(count)[: len(found)])
    reach = random.integers(1, 11, count)
    return Predictions(
        names=np.array([f"{index:03d}.jpg" for index in range(images)]),
        sizes=np.full((images, 2), 160, dtype=np.int32),
        thresholds=np.linspace(0.5, 0.95, 10),
        image=image.astype(np.int32),
        cls=np.zeros(count, dtype=np.int32),
        conf=random.permutation(count) / count + 0.5 / count,
        box=np.zeros((count, 4), dtype=np.uint16),
        hit=is_true[:, None] & (np.arange(10)[None, :] < reach[:, None]),
        true_image=true_image.astype(np.int32),
        true_cls=np.zeros(len(true_image), dtype=np.int32),
        true_box=np.zeros((len(true_image), 4), dtype=np.uint16),
    )


@pytest.fixture
def with_evidence(records: Grid, write: Write, multirun: Path) -> Callable[..., tuple[Path, list[Path]]]:
    """How to write a sweep of some variants whose records follow from their evidence."""

    def make(seeds: tuple[int, ...] = (0, 1), modules: tuple[str, ...] = ("none", "hmha")) -> tuple[Path, list[Path]]:
        made = records(modules, ("sgd",), seeds)
        files = []
        for record in made:
            evidence = detections(0.5 if record["factors"]["module"] == "none" else 0.7, record["seed"])
            record["metrics"]["map50_95"] = ultralytics_ap(evidence).map50_95
            record["artifacts"]["evidence"] = {"best": "evidence/best.npz"}
            files.append(multirun / "trials" / record["signature"] / "evidence" / "best.npz")
            save_predictions(files[-1], evidence)
        return write(made), files

    return make


def row_of(directory: Path, resamples: int = 60) -> pd.Series:
    sweep = load_sweep(directory)
    compute_intervals(sweep, resamples=resamples)
    return comparison_frame(compare(sweep)).set_index("module").loc["hmha"]


def test_the_interval_is_that_of_the_paired_bootstrap(with_evidence: Callable[..., Any]) -> None:
    directory, files = with_evidence()
    evidence = [load_predictions(path) for path in files]
    row = row_of(directory)
    expected = paired_bootstrap([(evidence[2], evidence[0]), (evidence[3], evidence[1])], resamples=60)
    assert row[BOUNDS].tolist() == pytest.approx([expected.interval.low, expected.interval.high])
    assert row["delta_map50_95"] == pytest.approx(expected.interval.estimate)
    assert row["images_ci_low"] < row["delta_map50_95"] < row["images_ci_high"]


@pytest.mark.parametrize("name", ["map50", "map75", "precision", "recall"])
def test_the_interval_is_of_the_metric_of_the_sweep(with_evidence: Callable[..., Any], name: str) -> None:
    directory, files = with_evidence()
    evidence = [load_predictions(path) for path in files]
    metric = METRICS[name]
    for path, one in zip(files, evidence, strict=True):
        result = path.parents[1] / "result.json"
        record = json.loads(result.read_text())
        record["metrics"][name] = resampled_accuracy(one, metric=metric, resamples=0)[0]
        result.write_text(json.dumps(record))
    usual = row_of(directory)
    sweep = sweep_as_chosen(load_sweep(directory), metric=name)
    assert compute_intervals(sweep, resamples=60) == 1
    row = comparison_frame(compare(sweep)).set_index("module").loc["hmha"]
    pairs = [(evidence[2], evidence[0]), (evidence[3], evidence[1])]
    expected = paired_bootstrap(pairs, resamples=60, metric=metric).interval
    assert row[BOUNDS].tolist() == pytest.approx([expected.low, expected.high])
    assert row[f"delta_{name}"] == pytest.approx(expected.estimate)
    assert row[BOUNDS].tolist() != usual[BOUNDS].tolist()
    assert row["both_ci_low"] < row[f"delta_{name}"] < row["both_ci_high"]
    variant = ablate.load_sweep(directory, metric=name)["hmha@c3k2"].resample_images(60)
    assert variant is not None
    assert variant.interval == expected
    assert row_of(directory)[BOUNDS].tolist() == usual[BOUNDS].tolist()
    assert compute_intervals(load_sweep(directory), resamples=60) == 0, "a report by another metric took none away"
    os.utime(files[0], ns=(1, 1))
    assert compute_intervals(load_sweep(directory), resamples=60) == 1
    kept = json.loads((directory / "image_intervals.json").read_text())["intervals"].values()
    choices = sorted(interval["choice"] for interval in kept)
    assert choices == sorted([f"metric={name} judge=best groups=auto", "metric=map50_95 judge=best groups=auto"])


def test_predictions_that_do_not_give_the_recorded_metric_are_told(
    with_evidence: Callable[..., Any],
) -> None:
    directory, _ = with_evidence()
    sweep = sweep_as_chosen(load_sweep(directory), metric="map50")  # recorded as 1.55 times mAP50-95
    compute_intervals(sweep, resamples=60)
    assert any("gives mAP50 " in note for note in compare(sweep).rows[1].notes)


def test_one_seed_has_an_interval_over_images_and_the_words_say_what_it_covers(
    with_evidence: Callable[..., Any],
) -> None:
    directory, _ = with_evidence((0,))
    row = row_of(directory)
    assert row[BOUNDS].notna().all()
    assert row[["delta_ci_low", "p_value"]].isna().all()
    sweep = load_sweep(directory)
    text = " ".join(sentences(compare(sweep)))
    assert "They cover the sampling of images, not seed-to-seed variance" in text


def test_where_seeds_were_added_images_are_those_of_the_looks_and_the_interval_over_both_holds_at_all_of_them(
    with_evidence: Callable[..., Any],
) -> None:
    directory, files = with_evidence((0, 1, 2, 3, 4))
    evidence = [load_predictions(path) for path in files]
    manifest = json.loads((directory / "sweep.json").read_text(encoding="utf-8"))
    manifest["analysis"] = {"until": "decided", "max_seeds": 12, "delta": 0.3}
    (directory / "sweep.json").write_text(json.dumps(manifest), encoding="utf-8")
    row = row_of(directory)
    comparison = compare(load_sweep(directory))
    (difference,) = [row.difference for row in comparison.rows if row.difference]
    assert difference.looks is not None
    seeds = len(difference.looks.differences)
    assert seeds < 5  # others ran beyond the decision
    expected = paired_bootstrap([(evidence[5 + seed], evidence[seed]) for seed in range(seeds)], resamples=60)
    assert row[BOUNDS].tolist() == pytest.approx([expected.interval.low, expected.interval.high])
    assert difference.over_both is not None
    both, alone = difference.over_both.interval, sequential_interval(difference.looks.differences, 12)
    assert alone is not None
    assert both.low < alone.low < alone.high < both.high
    text = " ".join(sentences(comparison))
    assert "although the results decided how many seeds there are" in text
    assert "twice the seeds would narrow" not in text


def test_a_second_report_computes_nothing_again(with_evidence: Callable[..., Any]) -> None:
    directory, files = with_evidence()
    sweep = load_sweep(directory)
    told: list[float] = []
    assert compute_intervals(sweep, resamples=60, on_progress=lambda _, share: told.append(share)) == 1
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)
    before = comparison_frame(compare(sweep))
    assert compute_intervals(load_sweep(directory), resamples=60) == 0
    assert compute_intervals(load_sweep(directory), resamples=40) == 0, "fewer resamples are no better"
    assert comparison_frame(compare(load_sweep(directory))).equals(before)
    assert compute_intervals(load_sweep(directory), resamples=80) == 1
    os.utime(files[0], ns=(1, 1))
    assert comparison_frame(compare(load_sweep(directory)))["images_ci_low"].isna().all(), (
        "of other evidence than it was"
    )
    assert compute_intervals(load_sweep(directory), resamples=80) == 1


def test_groups_of_images_are_drawn_whole_where_they_are_known(
    with_evidence: Callable[..., Any], tmp_path: Path
) -> None:
    directory, files = with_evidence()
    of_images = row_of(directory)
    table = tmp_path / "clips.csv"
    names = load_predictions(files[0]).names
    rows = [f"{name},clip {index // 3}" for index, name in enumerate(names)]
    table.write_text("\n".join(["image,group", *rows]), encoding="utf-8")
    sweep = replace(load_sweep(directory), groups=str(table))
    assert compute_intervals(sweep, resamples=60) == 1, "what was computed of single images is not taken for it"
    row = next(row for row in compare(sweep).rows if row.difference)
    assert row.difference is not None
    assert row.difference.image_groups == 10
    assert row.difference.over_images is not None
    assert row.difference.over_images.low != of_images["images_ci_low"]
    assert "groups of validation images" in " ".join(sentences(compare(sweep)))
    assert compute_intervals(load_sweep(directory), resamples=60) == 0, "those of single images are still there"


def test_an_interval_over_few_groups_is_refused_with_the_number_that_it_needs(
    with_evidence: Callable[..., Any], tmp_path: Path
) -> None:
    directory, files = with_evidence()
    table = tmp_path / "clips.csv"
    rows = [f"{name},clip {index // 10}" for index, name in enumerate(load_predictions(files[0]).names)]
    table.write_text("\n".join(["image,group", *rows]), encoding="utf-8")
    sweep = replace(load_sweep(directory), groups=str(table))
    compute_intervals(sweep, resamples=60)
    (notes,) = [row.notes for row in compare(sweep).rows if row.difference]
    assert "no interval over images: 3 groups of images are too few; at least 5" in notes


def test_no_resamples_compute_nothing(with_evidence: Callable[..., Any]) -> None:
    directory, _ = with_evidence()
    assert compute_intervals(load_sweep(directory), resamples=0) == 0
    assert not SweepFolder(directory).image_intervals.exists()


def damage_file(kind: str, path: Path) -> None:
    """Damage one evidence file as it may happen."""
    content = path.read_bytes()
    if kind == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not an archive")
    elif kind == "missing":
        path.unlink()
    elif kind == "foreign schema":
        with np.load(path) as file:
            fields = {name: file[name] for name in file.files}
        np.savez_compressed(path, **{**fields, "schema": np.array(7)})
    elif kind == "other images":
        evidence = load_predictions(path)
        save_predictions(path, replace(evidence, names=np.array([f"x{name}" for name in evidence.names])))
    elif kind == "other trial":
        save_predictions(path, load_predictions(path), "c" * 64)
    elif kind == "other accuracy":
        evidence = load_predictions(path)
        save_predictions(path, replace(evidence, hit=np.zeros_like(evidence.hit)))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("truncated", "is not complete"),
        ("empty", "is not complete"),
        ("text", "is not complete"),
        ("missing", "is not there"),
        ("foreign schema", "has schema 7; this version knows 1"),
        ("other images", "was evaluated on other images than the rest"),
        ("other trial", "is of trial cccccccccccc"),
        ("other accuracy", "gives mAP50-95 0.0000, its record 0."),
    ],
)
def test_evidence_that_cannot_be_used_is_an_empty_interval_with_its_reason(
    with_evidence: Callable[..., Any], kind: str, words: str
) -> None:
    directory, files = with_evidence()
    damage_file(kind, files[3])
    row = row_of(directory)
    assert row[BOUNDS].isna().all()
    assert "no interval over images: " in row["notes"]
    assert words in row["notes"]
    assert "\n" not in row["notes"]
    assert row[["delta_map50_95", "delta_ci_low"]].notna().all(), "what does not need it stays"
    assert row["comparable"] == "yes"


@pytest.mark.parametrize("kind", ["other images", "other accuracy", "truncated"])
def test_a_foreign_first_variant_costs_only_itself(with_evidence: Callable[..., Any], kind: str) -> None:
    directory, files = with_evidence((0, 1), ("none", "hmha", "acmix"))
    damage_file(kind, files[2])
    sweep = load_sweep(directory)
    compute_intervals(sweep, resamples=60)
    table = comparison_frame(compare(sweep)).set_index("module")
    assert "no interval over images: " in table.loc["hmha", "notes"]
    assert table.loc["acmix", BOUNDS].notna().all(), table.loc["acmix", "notes"]


def test_a_foreign_baseline_is_the_one_that_is_named(with_evidence: Callable[..., Any]) -> None:
    directory, files = with_evidence()
    damage_file("other accuracy", files[0])
    sweep = load_sweep(directory)
    baseline = next(t.signature for t in sweep.trials if t.factors["module"] == "none" and t.seed == 0)
    assert f"predictions of trial {baseline[:12]} gives mAP50-95 0.0000" in row_of(directory)["notes"]


def test_evidence_that_was_mended_is_used_again(with_evidence: Callable[..., Any]) -> None:
    directory, files = with_evidence()
    whole = files[3].read_bytes()
    damage_file("truncated", files[3])
    assert row_of(directory)[BOUNDS].isna().all()
    files[3].write_bytes(whole)
    assert row_of(directory)[BOUNDS].notna().all()


def test_trials_without_evidence_are_not_spoken_of(records: Grid, write: Write) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0, 1)))
    row = row_of(directory)
    assert row[BOUNDS].isna().all()
    assert row["notes"] == ""
    assert not SweepFolder(directory).image_intervals.exists()


def test_some_trials_without_evidence_are_named(
    with_evidence: Callable[..., Any], multirun: Path, records: Grid
) -> None:
    directory, files = with_evidence()
    path = files[3].parent.parent / "result.json"
    record = json.loads(path.read_text())
    del record["artifacts"]["evidence"]
    path.write_text(json.dumps(record))
    assert f"trial {record['signature'][:12]} kept no predictions of single images" in row_of(directory)["notes"]


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"schema": 9}', '{"schema": 1, "intervals": {"x": null, "y": {"reason": 3}}}']
)
def test_a_cache_that_cannot_be_read_is_computed_again(with_evidence: Callable[..., Any], content: str) -> None:
    directory, _ = with_evidence()
    SweepFolder(directory).image_intervals.write_text(content)
    assert row_of(directory)[BOUNDS].notna().all()


def test_two_detectors_that_say_the_same_have_no_spread_to_judge_by(with_evidence: Callable[..., Any]) -> None:
    directory, files = with_evidence((0,))
    files[1].write_bytes(files[0].read_bytes())
    for path in files:
        result = path.parent.parent / "result.json"
        record = json.loads(result.read_text())
        record["metrics"]["map50_95"] = ultralytics_ap(load_predictions(path)).map50_95
        result.write_text(json.dumps(record))
    row = row_of(directory)
    assert row[BOUNDS].isna().all()
    assert "no interval over images: no choice of images changes the difference" in row["notes"]


def test_python_users_draw_the_groups_that_the_report_draws(with_evidence: Callable[..., Any], tmp_path: Path) -> None:
    directory, files = with_evidence()
    table = tmp_path / "clips.csv"
    names = load_predictions(files[0]).names
    table.write_text("image,group\n" + "".join(f"{name},{index // 3}\n" for index, name in enumerate(names)))
    compute_intervals(replace(load_sweep(directory), groups=str(table)), resamples=60)
    plain = next(variant for variant in ablate.load_sweep(directory) if variant.baseline)
    assert plain.difference is not None
    assert plain.difference.over_images is None, "of single images it was not computed"
    (variant,) = [one for one in ablate.load_sweep(directory, groups=table) if one.baseline]
    assert variant.difference is not None
    assert variant.difference.over_images is not None
    assert "groups of validation images" in variant.difference.covers["over_images"]
    again = variant.resample_images(resamples=60)
    assert again is not None
    assert again.groups == 10
    assert again.interval == pytest.approx(variant.difference.over_images)
    of_groups, of_images = (plain.resample_images(60, groups=groups) for groups in (table, "none"))
    assert of_groups == again
    assert of_images is not None
    assert of_images.groups is None
    with pytest.raises(ConfigError, match=r"groups=.*no\.csv"):
        ablate.load_sweep(directory, groups=tmp_path / "no.csv")
    table.write_text("image,group\nx,1\n")
    with pytest.raises(ValueError, match="names none of the 30 images"):
        variant.resample_images(60)


def test_captions_say_what_was_drawn(with_evidence: Callable[..., Any], tmp_path: Path) -> None:
    directory, files = with_evidence()
    table = tmp_path / "clips.csv"
    names = load_predictions(files[0]).names
    table.write_text("image,group\n" + "".join(f"{name},{index // 3}\n" for index, name in enumerate(names)))
    sweep = replace(load_sweep(directory), groups=str(table))
    compute_intervals(sweep, resamples=60)
    comparison = compare(sweep)
    assert "sampling of groups of validation images" in accuracy_caption(comparison)
    assert "twice the groups of images" in " ".join(sentences(comparison))
    assert "| 95 % CI of Δ over groups of images |" in markdown(comparison)
    assert "95 % CI of Δ over seeds and groups of images" in markdown(comparison)
    captions = [entry.draw() for entry in figure_list(comparison) if entry.name == "differences"]
    assert any(one is not None and "groups of validation images" in one.caption for one in captions)
    compute_intervals(load_sweep(directory), resamples=60)
    of_images = compare(load_sweep(directory))
    assert "sampling of validation images" in accuracy_caption(of_images)
    assert "twice the images" in " ".join(sentences(of_images))
    assert "| 95 % CI of Δ over images |" in markdown(of_images)
    assert "<images>" not in page_html(of_images, [], "")
