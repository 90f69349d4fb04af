"""Figures: drawn from what is recorded, absent where nothing is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.analysis.comparison import Comparison, compare
from ablate.records.loading import load_sweep
from ablate.report.figure_list import figure_list
from ablate.report.figures.curves import training_curves
from ablate.report.figures.samples import sample_detections
from ablate.report.figures.style import encode, styles, texts_of
from ablate.report.figures.tradeoff import Point, accuracy_against_latency, pareto, point_of

Make = Callable[..., dict[str, Any]]
Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]


def read(directory: Path) -> Comparison:
    return compare(load_sweep(directory))


def points(comparison: Comparison) -> list[Point]:
    return [point for row in comparison.rows if (point := point_of(row)) is not None]


def test_every_measured_variant_is_a_labelled_point(records: Grid, write: Write) -> None:
    comparison = read(write(records()))
    drawing = accuracy_against_latency(comparison)
    assert drawing is not None
    figure = drawing.figure
    assert sorted(text.get_text() for text in figure.axes[0].texts) == sorted(row.label for row in comparison.rows)


def test_labels_of_points_do_not_cover_each_other(records: Grid, write: Write) -> None:
    comparison = read(write(records()))
    drawing = accuracy_against_latency(comparison)
    assert drawing is not None
    figure = drawing.figure
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_on_the_pareto_front_nothing_is_beaten(records: Grid, write: Write) -> None:
    comparison = read(write(records()))
    front = {point.row.label for point in pareto(points(comparison))}
    for point in points(comparison):
        better = [p for p in points(comparison) if p.latency < point.latency and p.accuracy >= point.accuracy]
        assert (point.row.label in front) == (not better)


def test_what_may_not_be_compared_is_flagged_and_no_part_of_the_front(records: Grid, write: Write) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",))
    for found in made[3:6]:
        found["realised"]["amp"] = True
        found["metrics"]["map50_95"] = 0.9
    comparison = read(write(made))
    assert {point.row.module for point in pareto(points(comparison))} == {"none", "acmix"}
    drawing = accuracy_against_latency(comparison)
    assert drawing is not None
    assert {text.get_text() for text in drawing.figure.axes[0].texts} == {
        "none sgd", "hmha@c3k2 sgd †", "acmix@head sgd"
    }  # fmt: skip
    assert "†: not comparable with its baseline; the notes say why." in drawing.caption


def test_a_variant_over_other_seeds_is_no_part_of_the_front_and_named(records: Grid, write: Write) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",))
    for found in made[3:6]:
        found["metrics"]["map50_95"] = 0.9
    comparison = read(write([*made[:5], *made[6:]]))
    assert "hmha" not in {point.row.module for point in pareto(points(comparison))}
    drawing, curves = accuracy_against_latency(comparison), training_curves(comparison)
    assert drawing is not None
    assert curves is not None
    assert "for that alone: hmha@c3k2 sgd. They are not part of the front." in drawing.caption
    assert "Over other seeds than the baseline's" in curves.caption


def test_every_figure_of_variants_flags_what_may_not_be_compared(records: Grid, write: Write) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",))
    for found in made[3:6]:
        found["realised"]["amp"] = True
    comparison = read(write(made, samples=True))
    drawn = {entry.name: drawing for entry in figure_list(comparison) if (drawing := entry.draw())}
    assert {"differences", "accuracy_latency", "training_curves", "per_class", "latency", "samples"} <= set(drawn)
    for name, drawing in drawn.items():
        words = [text.get_text().replace("\n", " ") for text in texts_of(drawing.figure)]
        assert any("†" in text and "hmha" in text for text in words), name
        assert not any("†" in text and "acmix" in text for text in words), name
        assert "†: not" in drawing.caption, name


def test_two_data_sets_have_a_panel_each(record: Make, write: Write) -> None:
    comparison = read(write([record(m, data=d) for d in ("shapes", "coco8") for m in ("none", "hmha")]))
    drawing = accuracy_against_latency(comparison)
    assert drawing is not None
    figure = drawing.figure
    assert len(figure.axes) == 2


def test_variants_differ_by_more_than_colour(records: Grid, write: Write) -> None:
    comparison = read(write(records()))
    drawn = styles(comparison)
    group = [row.label for row in comparison.rows if row.optimizer == "sgd"]
    assert len({drawn[label].marker for label in group}) == len(group)
    assert len({str(drawn[label].dashes) for label in group}) == len(group)
    assert drawn["hmha@c3k2 sgd"] == drawn["hmha@c3k2 musgd"]


def test_curves_are_means_over_seeds_with_a_band(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for found, accuracy in zip(made, (0.1, 0.3, 0.2, 0.6), strict=True):
        found["history"] = [{"epoch": epoch, "map50_95": accuracy} for epoch in (1, 2)]
    drawing = training_curves(read(write(made)))
    assert drawing is not None
    figure = drawing.figure
    axes = figure.axes[0]
    assert [line.get_ydata().tolist() for line in axes.lines] == [pytest.approx([0.2, 0.2]), pytest.approx([0.4, 0.4])]
    assert len(axes.collections) == 2


def test_a_curve_ends_where_the_first_seed_ends(records: Grid, write: Write) -> None:
    made = records(("none",), ("sgd",), (0, 1))
    made[1]["history"] = made[1]["history"][:7]
    drawing = training_curves(read(write(made)))
    assert drawing is not None
    figure = drawing.figure
    assert len(figure.axes[0].lines[0].get_xdata()) == 7


def test_the_caption_of_curves_says_what_is_so(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    drawing = training_curves(read(write(made)))
    assert drawing is not None
    assert "below the panel" in drawing.caption
    assert "The baseline is the thick black line." in drawing.caption
    for found in made:
        found["history"] = [{"epoch": epoch, "map50_95": 0.3} for epoch in (1, 2)]
    flat = training_curves(read(write(made[1:])))
    assert flat is not None
    assert "below the panel" not in flat.caption
    assert "black line" not in flat.caption


def test_one_seed_has_no_band(records: Grid, write: Write) -> None:
    drawing = training_curves(read(write(records(("none", "hmha"), ("sgd",), (0,)))))
    assert drawing is not None
    figure = drawing.figure
    assert not figure.axes[0].collections


def test_samples_show_ground_truth_baseline_and_variants(records: Grid, write: Write) -> None:
    comparison = read(write(records(("none", "hmha", "acmix"), ("sgd",), (0,)), samples=True))
    drawing = sample_detections(comparison.sweep, comparison.groups[0])
    assert drawing is not None
    figure = drawing.figure
    titles = [text.get_text() for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    assert titles == ["ground truth", *(row.label for row in comparison.rows)]
    assert len(figure.axes[0].images) == 4 * 4


def test_an_image_that_cannot_be_read_costs_only_itself(records: Grid, write: Write, multirun: Path) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    directory = write(made, samples=True)
    (multirun / "trials" / made[1]["signature"] / "samples" / "2.jpg").write_bytes(b"\xff\xd8 not a picture")
    comparison = read(directory)
    drawing = sample_detections(comparison.sweep, comparison.groups[0])
    assert drawing is not None
    figure = drawing.figure
    assert len(figure.axes[0].images) == 3 * 4 - 1
    assert "not recorded" in [text.get_text() for text in figure.axes[0].texts]


def test_an_image_with_other_truth_is_not_passed_off_as_the_same(records: Grid, write: Write, multirun: Path) -> None:
    import json

    made = records(("none", "hmha"), ("sgd",), (0,))
    directory = write(made, samples=True)
    path = multirun / "trials" / made[1]["signature"] / "result.json"
    changed = json.loads(path.read_text())
    changed["samples"][0]["truth"].pop()
    path.write_text(json.dumps(changed))
    comparison = read(directory)
    drawing = sample_detections(comparison.sweep, comparison.groups[0])
    assert drawing is not None
    figure = drawing.figure
    assert "not recorded" in [text.get_text() for text in figure.axes[0].texts]


def test_nothing_recorded_means_no_figure(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    for found in made:
        found["history"] = []
    comparison = read(write(made, latency=False))
    assert accuracy_against_latency(comparison) is None
    assert training_curves(comparison) is None
    assert sample_detections(comparison.sweep, comparison.groups[0]) is None


def test_a_figure_is_the_same_file_each_time(records: Grid, write: Write) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0,)))
    first, second = (training_curves(read(directory)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert encode(first.figure, "svg") == encode(second.figure, "svg")
    assert encode(first.figure, "png") == encode(first.figure, "png")
    assert encode(first.figure, "pdf") == encode(second.figure, "pdf")
