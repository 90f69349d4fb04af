"""Figures: drawn from what is recorded, absent where nothing is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ablate.analysis.table import comparison_table
from ablate.records.records import Sweep, load_sweep
from ablate.report.figure_list import gallery
from ablate.report.figures.curves import training_curves
from ablate.report.figures.samples import sample_detections
from ablate.report.figures.style import encode, styles, texts_of
from ablate.report.figures.tradeoff import accuracy_against_latency, pareto

Make = Callable[..., dict[str, Any]]
Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]


def read(directory: Path) -> tuple[Sweep, Any]:
    sweep = load_sweep(directory)
    return sweep, comparison_table(sweep)


def test_every_measured_variant_is_a_labelled_point(records: Grid, write: Write) -> None:
    _, table = read(write(records()))
    drawing = accuracy_against_latency(table)
    assert drawing is not None
    figure = drawing.figure
    assert sorted(text.get_text() for text in figure.axes[0].texts) == sorted(table["variant"])


def test_labels_of_points_do_not_cover_each_other(records: Grid, write: Write) -> None:
    _, table = read(write(records()))
    drawing = accuracy_against_latency(table)
    assert drawing is not None
    figure = drawing.figure
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_on_the_pareto_front_nothing_is_beaten(records: Grid, write: Write) -> None:
    _, table = read(write(records()))
    front = set(pareto(table)["variant"])
    for row in table.to_dict("records"):
        beaten = table[(table["latency_ms"] < row["latency_ms"]) & (table["map50_95"] >= row["map50_95"])]
        assert (row["variant"] in front) == beaten.empty


def test_what_may_not_be_compared_is_flagged_and_no_part_of_the_front(records: Grid, write: Write) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",))
    for found in made[3:6]:
        found["realised"]["amp"] = True
        found["metrics"]["map50_95"] = 0.9
    _, table = read(write(made))
    assert set(pareto(table)["module"]) == {"none", "acmix"}
    drawing = accuracy_against_latency(table)
    assert drawing is not None
    assert {text.get_text() for text in drawing.figure.axes[0].texts} == {
        "none sgd", "hmha@c3k2 sgd †", "acmix@head sgd"
    }  # fmt: skip
    assert "†: not comparable with its baseline; the notes say why." in drawing.caption


def test_every_figure_of_variants_flags_what_may_not_be_compared(records: Grid, write: Write) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",))
    for found in made[3:6]:
        found["realised"]["amp"] = True
    sweep, table = read(write(made, samples=True))
    drawn = {entry.name: drawing for entry in gallery(sweep, table) if (drawing := entry.draw())}
    assert {"differences", "accuracy_latency", "training_curves", "per_class", "latency", "samples"} <= set(drawn)
    for name, drawing in drawn.items():
        words = [text.get_text().replace("\n", " ") for text in texts_of(drawing.figure)]
        assert any("†" in text and "hmha" in text for text in words), name
        assert not any("†" in text and "acmix" in text for text in words), name
        assert "†: not" in drawing.caption, name


def test_two_data_sets_have_a_panel_each(record: Make, write: Write) -> None:
    _, table = read(write([record(m, data=d) for d in ("shapes", "coco8") for m in ("none", "hmha")]))
    drawing = accuracy_against_latency(table)
    assert drawing is not None
    figure = drawing.figure
    assert len(figure.axes) == 2


def test_variants_differ_by_more_than_colour(records: Grid, write: Write) -> None:
    _, table = read(write(records()))
    drawn = styles(table)
    group = table[table["optimizer"] == "sgd"]["variant"]
    assert len({drawn[label].marker for label in group}) == len(group)
    assert len({str(drawn[label].dashes) for label in group}) == len(group)
    assert drawn["hmha@c3k2 sgd"] == drawn["hmha@c3k2 musgd"]


def test_curves_are_means_over_seeds_with_a_band(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for found, accuracy in zip(made, (0.1, 0.3, 0.2, 0.6), strict=True):
        found["history"] = [{"epoch": epoch, "map50_95": accuracy} for epoch in (1, 2)]
    drawing = training_curves(*read(write(made)))
    assert drawing is not None
    figure = drawing.figure
    axes = figure.axes[0]
    assert [line.get_ydata().tolist() for line in axes.lines] == [pytest.approx([0.2, 0.2]), pytest.approx([0.4, 0.4])]
    assert len(axes.collections) == 2


def test_a_curve_ends_where_the_first_seed_ends(records: Grid, write: Write) -> None:
    made = records(("none",), ("sgd",), (0, 1))
    made[1]["history"] = made[1]["history"][:7]
    drawing = training_curves(*read(write(made)))
    assert drawing is not None
    figure = drawing.figure
    assert len(figure.axes[0].lines[0].get_xdata()) == 7


def test_the_caption_of_curves_says_what_is_so(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    drawing = training_curves(*read(write(made)))
    assert drawing is not None
    assert "The first epochs lie below the panel" in drawing.caption
    assert "The baseline is the thick black line." in drawing.caption
    for found in made:
        found["history"] = [{"epoch": epoch, "map50_95": 0.3} for epoch in (1, 2)]
    flat = training_curves(*read(write(made[1:])))
    assert flat is not None
    assert "below the panel" not in flat.caption
    assert "black line" not in flat.caption


def test_one_seed_has_no_band(records: Grid, write: Write) -> None:
    drawing = training_curves(*read(write(records(("none", "hmha"), ("sgd",), (0,)))))
    assert drawing is not None
    figure = drawing.figure
    assert not figure.axes[0].collections


def test_samples_show_ground_truth_baseline_and_variants(records: Grid, write: Write) -> None:
    sweep, table = read(write(records(("none", "hmha", "acmix"), ("sgd",), (0,)), samples=True))
    drawing = sample_detections(sweep, table)
    assert drawing is not None
    figure = drawing.figure
    titles = [text.get_text() for text in figure.axes[0].texts if text.get_fontweight() == "bold"]
    assert titles == ["ground truth", *table["variant"]]
    assert len(figure.axes[0].images) == 4 * 4


def test_an_image_that_cannot_be_read_costs_only_itself(records: Grid, write: Write, multirun: Path) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    directory = write(made, samples=True)
    (multirun / "trials" / made[1]["signature"] / "samples" / "2.jpg").write_bytes(b"\xff\xd8 not a picture")
    drawing = sample_detections(*read(directory))
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
    drawing = sample_detections(*read(directory))
    assert drawing is not None
    figure = drawing.figure
    assert "not recorded" in [text.get_text() for text in figure.axes[0].texts]


def test_nothing_recorded_means_no_figure(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    for found in made:
        found["history"] = []
    sweep, table = read(write(made, latency=False))
    assert accuracy_against_latency(table) is None
    assert training_curves(sweep, table) is None
    assert sample_detections(sweep, table) is None


def test_a_figure_is_the_same_file_each_time(records: Grid, write: Write) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0,)))
    first, second = (training_curves(*read(directory)) for _ in range(2))
    assert first is not None
    assert second is not None
    assert encode(first.figure, "svg") == encode(second.figure, "svg")
    assert encode(first.figure, "png") == encode(first.figure, "png")
    assert encode(first.figure, "pdf") == encode(second.figure, "pdf")
