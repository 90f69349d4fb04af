"""The gallery: every figure from records that have something to draw, and none from those that have not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from PIL import Image

from ablate.analysis.class_accuracy import class_accuracy, class_differences
from ablate.analysis.comparison import Comparison, Group, compare
from ablate.analysis.component_effects import effects_of
from ablate.analysis.table import comparison_frame
from ablate.evaluation.image_bootstrap import BOX_TOLERANCE
from ablate.records.loading import Sweep, load_sweep
from ablate.records.predictions import Predictions, quantised, save_predictions
from ablate.report.figure_list import figure_list, write_figures
from ablate.report.figures.classes import SLANT, class_heat_map
from ablate.report.figures.curves import training_curves
from ablate.report.figures.detections import found_and_missed
from ablate.report.figures.distribution import latency_distribution, measured_times
from ablate.report.figures.effects import factor_effects, interactions
from ablate.report.figures.forest import forest
from ablate.report.figures.missed import GroupDetections, compare_detections, found_objects
from ablate.report.figures.style import DIVERGING, SMALLEST, TWO_COLUMNS, encode, ink, texts_of
from ablate.report.write import write_report
from ablate.statistics.interval import Interval

Make = Callable[..., dict[str, Any]]
Grid = Callable[..., list[dict[str, Any]]]
Write = Callable[..., Path]
SIZE = 200  # pixels of an image's side
IMAGES = 3


def evidence_of(found: list[list[bool]]) -> Predictions:
    """Three images with four objects each, of which some were found: one detection each, of confidence 0.9."""
    places = np.array([[10, 10, 50, 50], [120, 10, 180, 60], [20, 110, 70, 180], [110, 120, 190, 190]], dtype=float)
    boxes = [quantised(places, SIZE, SIZE) for _ in range(IMAGES)]
    kept = [np.flatnonzero(row) for row in found]
    image = np.concatenate([np.full(len(k), i) for i, k in enumerate(kept)]).astype(np.int32)
    count = len(image)
    return Predictions(
        names=np.array([f"images/val/{i}.png" for i in range(IMAGES)]),
        sizes=np.full((IMAGES, 2), SIZE, dtype=np.int32),
        thresholds=np.linspace(0.5, 0.95, 10),
        image=image,
        cls=np.concatenate([k % 2 for k in kept]).astype(np.int32),
        conf=np.full(count, 0.9, dtype=np.float32),
        box=np.concatenate([b[k] for b, k in zip(boxes, kept, strict=True)]),
        hit=np.ones((count, 10), dtype=bool),
        true_image=np.repeat(np.arange(IMAGES), 4).astype(np.int32),
        true_cls=np.tile([0, 1, 0, 1], IMAGES).astype(np.int32),
        true_box=np.concatenate(boxes),
    )


BASELINE = [[True, True, False, False], [True, False, False, False], [True, True, True, True]]
VARIANT = [[True, True, True, True], [True, False, False, True], [True, True, False, True]]


def with_evidence(made: list[dict[str, Any]], multirun: Path, root: Path | None) -> None:
    """Give each record the evidence of a baseline or a variant, and tell where the images are."""
    for record in made:
        found = BASELINE if record["factors"]["module"] == "none" else VARIANT
        record["artifacts"]["evidence"] = {"best": "evidence/best.npz"}
        if root is not None:
            record["data"]["root"] = str(root)
        save_predictions(multirun / "trials" / record["signature"] / "evidence" / "best.npz", evidence_of(found))


def with_interval_over_images(comparison: Comparison, interval: Interval) -> Comparison:
    """The comparison, had an interval over images been computed for its second row."""
    (group,) = comparison.groups
    row = group.rows[1]
    assert row.difference is not None
    changed = replace(row, difference=replace(row.difference, over_images=interval))
    return replace(comparison, groups=(replace(group, rows=(group.rows[0], changed)),))


def draw_images(root: Path) -> None:
    (root / "images" / "val").mkdir(parents=True)
    for index in range(IMAGES):
        pixels = np.random.default_rng(index).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / "images" / "val" / f"{index}.png")


def read(directory: Path) -> Comparison:
    return compare(load_sweep(directory))


def first(directory: Path) -> tuple[Sweep, Group]:
    """A sweep and its first comparison group."""
    comparison = read(directory)
    return comparison.sweep, comparison.groups[0]


def counts(detections: GroupDetections) -> list[tuple[str, ...]]:
    return list(detections.counts().rows)


@pytest.fixture(autouse=True)
def images_in_a_view(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let views of data sets, whose images alone are shown, be in the folder of the test."""
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path))


@pytest.fixture
def full(records: Grid, write: Write, multirun: Path, tmp_path: Path) -> Comparison:
    """A sweep with everything that a figure can show: two optimizers, a control, evidence, images, many latencies."""
    made = records(("none", "hmha", "acmix"), ("sgd", "musgd"), (0, 1, 2))
    draw_images(tmp_path / "views" / "data")
    with_evidence(made, multirun, tmp_path / "views" / "data")
    directory = write(made, samples=True)
    head = json.loads((directory / "sweep.json").read_text())
    head["controls"] = {made[6]["variant_key"]: {"kind": "params", "comparison_key": made[0]["comparison_key"]}}
    (directory / "sweep.json").write_text(json.dumps(head))
    latency = json.loads((directory / "latency.json").read_text())
    for row in latency["variants"]:
        row["samples_ms"] = np.random.default_rng(0).gamma(40, row["latency_ms"] / 40, 60).tolist()
    (directory / "latency.json").write_text(json.dumps(latency))
    return read(directory)


def test_every_figure_is_drawn_and_no_text_is_too_small_for_a_paper(full: Comparison) -> None:
    drawn = {}
    for entry in figure_list(full):
        drawing = entry.draw()
        if drawing is None:
            continue
        drawn[entry.name] = drawing
        assert drawing.figure.get_size_inches()[0] == TWO_COLUMNS, entry.name
        assert min(text.get_fontsize() for text in texts_of(drawing.figure)) >= SMALLEST, entry.name
        assert drawing.caption.endswith("."), entry.name
        assert set(drawing.rows) <= {row.key for row in full.rows}, entry.name
        assert drawing.rows, entry.name
    assert set(drawn) == {
        "differences", "accuracy_latency", "training_curves", "per_class_1", "per_class_2", "latency",
        "found_missed_1", "found_missed_2", "samples_1", "samples_2",
    }  # fmt: skip


@pytest.mark.parametrize("options", ["", "[fidelity=authors,heads=8]"])
@pytest.mark.parametrize("modules", [("none", "hmha"), ("none", "hmha", "acmix", "sta", "hat")])
def test_no_text_covers_another_or_is_cut_off(
    records: Grid, write: Write, modules: tuple[str, ...], options: str
) -> None:
    made = records(modules, ("musgd",), (0, 1, 2))
    for record in made[3:]:
        module, place = record["factors"]["module"], "backbone_p5+neck_p4" if options else "c3k2"
        record["variant"] = f"{module}{options}@{place}[residual] musgd"
        record["config"]["insertion"] = {"name": place, "wiring": "residual"}
    directory = write(made, samples=True)
    checked = 0
    for entry in figure_list(read(directory)):
        drawing = entry.draw()
        if drawing is None or entry.name == "accuracy_latency":  # names beside points: test_figures.py
            continue
        FigureCanvasAgg(drawing.figure).draw()
        page = drawing.figure.bbox.padded(1)
        boxes = [
            (text.get_text(), text.get_window_extent())
            for text in texts_of(drawing.figure)
            if re.search(r"[^\W\d]", text.get_text())  # ticks beyond the axis are among the numbers
            and not (entry.name == "samples" and text.get_bbox_patch())  # classes stand at their boxes
        ]
        for index, (text, box) in enumerate(boxes):
            inside = page.contains(box.x0, box.y0) and page.contains(box.x1, box.y1)
            assert inside, (entry.name, text)
            if not any(one.get_rotation() == SLANT for one in texts_of(drawing.figure)):
                covered = [other for other, place in boxes[:index] if box.shrunk(0.95, 0.95).overlaps(place)]
                assert not covered, (entry.name, text, covered)
        checked += len(boxes)
    assert checked > 30


def test_epochs_are_whole_numbers(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    for record in made:
        record["history"] = record["history"][:3]
    drawing = training_curves(read(write(made)))
    assert drawing is not None
    assert all(tick == int(tick) for tick in drawing.figure.axes[0].get_xticks())


def test_lines_of_a_panel_can_be_told_apart_in_grey(full: Comparison) -> None:
    compared = 0
    for entry in figure_list(full):
        drawing = entry.draw()
        if drawing is None or entry.name not in ("training_curves", "interactions"):
            continue
        for axes in drawing.figure.axes:
            looks = [(str(line.get_linestyle()), line._unscaled_dash_pattern, line.get_marker()) for line in axes.lines]
            assert len({str(look) for look in looks}) == len(looks), entry.name
            compared += len(looks)
    assert compared > 4


def test_numbers_of_a_heat_map_can_be_read_on_every_colour() -> None:
    def grey(color: Any) -> float:
        red, green, blue = to_rgb(color)
        return float(0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2)

    for strength in np.linspace(0, 1, 41):
        color = DIVERGING(strength)[:3]
        ground, text = grey(color), grey(ink(color))
        assert (max(ground, text) + 0.05) / (min(ground, text) + 0.05) >= 4.5, strength


def test_the_forest_shows_the_table_in_its_order_with_controls_last(full: Comparison) -> None:
    table = comparison_frame(full)
    drawing = forest(full)
    assert drawing is not None
    first = table[table["comparison_key"] == table["comparison_key"].iloc[0]]
    shown = [table.set_index("variant_key").loc[key, "variant"] for key in drawing.rows]
    plain = first[(first["module"] != "none") & (first["control"] == "")]["variant"].tolist()
    control = first[first["control"] != ""]["variant"].tolist()
    assert control
    assert shown[: len(plain) + 1] == [*plain, *control]
    texts = {text.get_text() for text in texts_of(drawing.figure)}
    assert all(f"{row:+.4f}".replace("-", "\N{MINUS SIGN}") in texts for row in table["delta_map50_95"].dropna())


def test_an_interval_over_images_is_drawn_beneath_the_one_over_seeds(records: Grid, write: Write) -> None:
    comparison = read(write(records(("none", "hmha"), ("sgd",))))
    drawing = forest(with_interval_over_images(comparison, Interval(0.02, 0.001, 0.05)))
    assert drawing is not None
    boxes = [patch.get_bbox().extents[[0, 2]].tolist() for patch in drawing.figure.axes[0].patches]
    assert [0.001, 0.05] in [pytest.approx(box) for box in boxes]
    assert "over validation images" in drawing.caption
    assert "over validation images" not in forest(comparison).caption  # type: ignore[union-attr]


def test_differences_of_classes_are_paired_by_seed(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for record, accuracy in zip(made, (0.2, 0.4, 0.3, 0.6), strict=True):
        record["per_class"] = [{"name": "circle", "map50_95": accuracy, "instances": 9}]
    made[3]["per_class"].append({"name": "square", "map50_95": 0.5})
    (group,) = read(write(made)).groups
    differences = class_differences(class_accuracy(group.rows), group.rows)
    assert {name.label: gain for name, gain in differences["hmha@c3k2 sgd"].items()} == {"circle": pytest.approx(0.15)}
    drawing = class_heat_map(group)
    assert drawing is not None
    assert {"30.0", "+15.0", "circle (9)"} <= {text.get_text() for text in texts_of(drawing.figure)}


def test_of_many_classes_those_that_differ_most_are_shown(records: Grid, write: Write) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    for record, factor in zip(made, (0.0, 1.0), strict=True):
        record["per_class"] = [{"name": f"kind {i}", "map50_95": 0.1 + factor * i / 100} for i in range(80)]
    drawing = class_heat_map(first(write(made))[1])
    assert drawing is not None
    assert "The 25 of 80 classes that differ most are shown." in drawing.caption
    texts = {text.get_text() for text in texts_of(drawing.figure)}
    assert "kind 79" in texts
    assert "kind 54" not in texts


def test_an_object_is_found_once_by_the_most_confident_detection_of_its_class() -> None:
    one = evidence_of([[True] * 4, [False] * 4, [False] * 4])
    assert found_objects(one).tolist() == [True] * 4 + [False] * 8
    wrong = Predictions(**{**vars(one), "cls": 1 - one.cls})
    assert not found_objects(wrong).any()
    doubtful = Predictions(**{**vars(one), "conf": np.full(4, 0.2, dtype=np.float32)})
    assert not found_objects(doubtful).any()


def test_objects_are_counted_by_who_found_them(records: Grid, write: Write, multirun: Path, tmp_path: Path) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    draw_images(tmp_path / "views" / "data")
    with_evidence(made, multirun, tmp_path / "views" / "data")
    drawing = found_and_missed(*first(write(made)))
    assert drawing is not None
    assert drawing.counts is not None
    assert list(drawing.counts.rows) == [("hmha@c3k2 sgd", "3", "1", "6", "2")]
    assert sum(len(axes.images) for axes in drawing.figure.axes) == 3


def test_pictures_show_trials_of_the_same_fold(records: Grid, write: Write, multirun: Path) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    for record in made:
        record |= {"fold": record["seed"], "seed": 0}
        record["config"] = {**record["config"], "fold": {"folds": 2, "index": record["fold"], "by_groups": False}}
    with_evidence(made, multirun, None)
    lacking = [record for record in made if (record["factors"]["module"], record["fold"]) != ("hmha", 0)]

    comparison = compare_detections(*first(write(lacking)))

    assert comparison is not None
    assert comparison.replicate.in_words == "seed 0, fold 1"
    assert comparison.trial.fold == 1


def test_evidence_in_another_order_is_of_the_same_objects(records: Grid, write: Write, multirun: Path) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    with_evidence(made, multirun, None)
    path = multirun / "trials" / made[1]["signature"] / "evidence" / "best.npz"
    one = evidence_of(VARIANT)
    order = np.random.default_rng(0).permutation(len(one.true_image))
    turned = {name: getattr(one, name)[order] for name in ("true_image", "true_cls", "true_box")}
    save_predictions(path, Predictions(**{**vars(one), **turned}))
    comparison = compare_detections(*first(write(made)))
    assert comparison is not None
    assert counts(comparison) == [("hmha@c3k2 sgd", "3", "1", "6", "2")]


def test_objects_match_by_the_rule_of_the_intervals_over_images(records: Grid, write: Write, multirun: Path) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    with_evidence(made, multirun, None)
    path = multirun / "trials" / made[1]["signature"] / "evidence" / "best.npz"
    one = evidence_of(VARIANT)
    for moved, matches in ((BOX_TOLERANCE, True), (BOX_TOLERANCE + 1, False)):
        save_predictions(
            path, Predictions(**{**vars(one), "true_box": (one.true_box + moved).astype(one.true_box.dtype)})
        )
        comparison = compare_detections(*first(write(made)))
        assert (comparison is not None) == matches
        if comparison is not None:
            assert counts(comparison) == [("hmha@c3k2 sgd", "3", "1", "6", "2")]


def test_epochs_that_nobody_evaluated_are_no_points_of_a_curve(records: Grid, write: Write) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",), (0, 1))
    for record in made:
        rows = record["history"]
        unevaluated = [{"epoch": row["epoch"], "seconds": row["seconds"], "fitness": None} for row in rows]
        if record["factors"]["module"] == "hmha":  # val=false: only the last epoch has figures
            record["history"] = [*unevaluated[:-1], rows[-1]]
        elif record["factors"]["module"] == "acmix":  # and no seed's last epoch is the other's
            last = 30 + record["seed"]
            record["history"] = [*unevaluated[: last - 1], rows[last - 1]]

    drawing = training_curves(read(write(made)))

    assert drawing is not None
    points = {line.get_label(): len(line.get_xdata()) for line in drawing.figure.axes[0].lines}
    assert sorted(points.values()) == [1, 40]
    assert len(drawing.rows) == 2


@pytest.mark.parametrize("who", ["the variant", "all", "nothing is there"])
def test_a_detector_that_sees_nothing_is_reported_like_any_other(
    records: Grid, write: Write, multirun: Path, tmp_path: Path, who: str
) -> None:
    made = records(("none", "hmha"), ("sgd",), (0, 1))
    draw_images(tmp_path / "views" / "data")
    with_evidence(made, multirun, tmp_path / "views" / "data")
    for record in made:
        if who != "all" and record["factors"]["module"] == "none":
            continue
        one = evidence_of([[False] * 4] * IMAGES)
        if who == "nothing is there":
            one = Predictions(
                **{**vars(one), **{n: getattr(one, n)[:0] for n in ("true_image", "true_cls", "true_box")}}
            )
        save_predictions(multirun / "trials" / record["signature"] / "evidence" / "best.npz", one)
        record["metrics"] |= dict.fromkeys(("map50_95", "map50", "precision", "recall"), 0.0)
        record["per_class"] = [{"name": row["name"], "map50_95": 0.0, "map50": 0.0} for row in record["per_class"]]
        record["history"] = [{**row, "map50_95": 0.0} for row in record["history"]]
    comparison = read(write(made))

    report = write_report(comparison.sweep, tmp_path / "report", figures=["svg"], notebook=False, comparison=comparison)

    assert report.problems == []
    assert {"differences.svg", "training_curves.svg", "per_class.svg", "comparison.html"} <= set(report.files)
    (row,) = [row for row in comparison.rows if row.module == "hmha"]
    assert row.accuracy.map50_95 == 0.0
    found = compare_detections(comparison.sweep, comparison.groups[0])
    if who == "the variant":
        assert found is not None
        assert counts(found) == [("hmha@c3k2 sgd", "0", "7", "0", "5")]


@pytest.mark.parametrize("kind", ["cut off", "missing", "other images"])
def test_evidence_that_cannot_be_used_is_named(
    records: Grid, write: Write, multirun: Path, tmp_path: Path, kind: str
) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd",), (0,))
    draw_images(tmp_path / "views" / "data")
    with_evidence(made, multirun, tmp_path / "views" / "data")
    directory = write(made)
    path = multirun / "trials" / made[1]["signature"] / "evidence" / "best.npz"
    if kind == "cut off":
        path.write_bytes(path.read_bytes()[:200])
    elif kind == "missing":
        path.unlink()
    else:
        one = evidence_of(VARIANT)
        save_predictions(path, Predictions(**{**vars(one), "names": np.array(["a", "b", "c"])}))
    drawing = found_and_missed(*first(directory))
    assert drawing is not None
    assert drawing.counts is not None
    assert [row[0] for row in drawing.counts.rows] == ["acmix@head sgd"]
    assert "the predictions of hmha@c3k2 sgd" in drawing.caption


def test_where_originals_are_gone_the_copies_are_shown_or_nothing(
    records: Grid, write: Write, multirun: Path, tmp_path: Path
) -> None:
    made = records(("none", "hmha"), ("sgd",), (0,))
    with_evidence(made, multirun, tmp_path / "views" / "gone")
    directory = write(made, samples=True)
    assert found_and_missed(*first(directory)) is None
    for record in made:
        path = multirun / "trials" / record["signature"] / "result.json"
        found = json.loads(path.read_text())
        found["samples"][0]["source"] = str(tmp_path / "views" / "gone" / "images" / "val" / "0.png")
        path.write_text(json.dumps(found))
    drawing = found_and_missed(*first(directory))
    assert drawing is not None
    assert "Reduced copies are shown" in drawing.caption
    assert sum(len(axes.images) for axes in drawing.figure.axes) == 1


def test_latencies_that_are_no_times_are_left_out(records: Grid, write: Write) -> None:
    directory = write(records(("none", "hmha"), ("sgd",), (0,)))
    latency = json.loads((directory / "latency.json").read_text())
    latency["variants"][0]["samples_ms"] = [7.0, 0, -1, 7.2]
    del latency["variants"][1]["samples_ms"]
    (directory / "latency.json").write_text(json.dumps(latency))
    comparison = read(directory)
    assert [times.tolist() for times in measured_times(comparison).values()] == [[7.0, 7.2]]
    drawing = latency_distribution(comparison)
    assert drawing is not None
    assert len(drawing.rows) == 1


def test_effects_are_drawn_for_a_balanced_design_only(records: Grid, write: Write) -> None:
    made = records(("none", "hmha", "acmix"), ("sgd", "musgd"), (0, 1, 2))
    comparison = read(write(made))
    drawing = factor_effects(comparison)
    assert drawing is not None
    texts = {text.get_text() for text in texts_of(drawing.figure)}
    assert {"module", "optimizer", "interaction module x optimizer", "hmha x sgd"} <= texts
    crossed = interactions(comparison)
    assert crossed is not None
    assert [line.get_label() for line in crossed.figure.axes[0].lines] == ["sgd", "musgd"]
    unbalanced = read(write(made[:-1]))
    assert factor_effects(unbalanced) is None
    assert interactions(unbalanced) is None


def test_effects_of_components_are_drawn(study: Make, write: Write) -> None:
    made, design = study("factorial")
    drawing = factor_effects(read(write(made, design=design)))
    assert drawing is not None
    texts = {" ".join(text.get_text().split()) for text in texts_of(drawing.figure)}
    assert {"hmha@c3k2", "acmix@head", "musgd", "interactions", "hmha@c3k2 x musgd"} <= texts


def test_interactions_of_components_are_lines_with_and_without(study: Make, write: Write) -> None:
    made, design = study("factorial")
    comparison = read(write(made, design=design))
    drawing = interactions(comparison)
    assert drawing is not None
    assert len(drawing.figure.axes) == 3
    first = drawing.figure.axes[0]
    assert [line.get_label() for line in first.lines] == ["without", "with"]
    (found,) = effects_of(comparison)
    largest = max(found.interactions, key=lambda one: abs(one.value.mean))
    (a, b), (c, d) = (line.get_ydata() for line in first.lines)
    assert (d - c) - (b - a) == pytest.approx(largest.value.mean)
    assert interactions(read(write(*[study("leave_one_out")[0]], design=study("leave_one_out")[1]))) is None


def test_a_figure_that_fails_costs_only_itself(
    records: Grid, write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    comparison = read(write(records(("none", "hmha"), ("sgd",), (0,))))
    (tmp_path / "samples_3.pdf").write_bytes(b"of an earlier report")
    (tmp_path / "samples_of_mine.pdf").write_bytes(b"the user's")

    def fail(_: Comparison) -> None:
        raise ValueError("no number")

    monkeypatch.setattr("ablate.report.figures.tradeoff.accuracy_against_latency", fail)
    pictures, files, problems = write_figures(comparison, tmp_path, ("svg",))
    assert len(problems) == 1
    assert problems[0].startswith("the figure accuracy_latency could not be drawn: ")
    assert "differences.svg" in files
    assert {picture.name for picture in pictures} == {Path(name).stem for name in files}
    assert not (tmp_path / "samples_3.pdf").exists()
    assert (tmp_path / "samples_of_mine.pdf").exists()


def test_fonts_travel_inside_of_pdf_files(records: Grid, write: Write) -> None:
    drawing = forest(read(write(records(("none", "hmha"), ("sgd",)))))
    assert drawing is not None
    content = encode(drawing.figure, "pdf")
    assert b"/FontFile2" in content
    assert b"/Type3" not in content
    assert content == encode(drawing.figure, "pdf")


def test_drawing_leaves_the_settings_of_others_alone(full: Comparison) -> None:
    before = mpl.rcParams.copy()
    for entry in figure_list(full)[:3]:
        entry.draw()
    assert mpl.rcParams == before


def test_a_large_sweep_is_limited_in_words(record: Make, write: Write) -> None:
    made = [record("none", seed=s) for s in (0, 1)]
    made += [record("hmha", seed=s, options={"heads": n}) for n in range(60) for s in (0, 1)]
    entries = figure_list(read(write(made)))
    captions = {entry.name: drawing.caption for entry in entries if (drawing := entry.draw())}
    assert "The first 40 of 60 variants by size of the difference are shown." in captions["differences"]
    assert "10 of 61 points are named" in captions["accuracy_latency"]
    assert "The first 10 of 61 variants" in captions["training_curves"]
    assert "The first 10 of 60 variants by size of the difference are shown." in captions["per_class"]
    assert "The first 40 of 61 variants" in captions["latency"]
