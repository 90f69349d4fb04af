"""`judge=split` keeps whole groups of images in one half, where all trials of the data set were evaluated so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ablate.analysis.comparison import Comparison, compare
from ablate.data.groups import AUDIT, ImageGroups, write_groups
from ablate.findings.judging import judge_remarks
from ablate.records.judged import CROSS_JUDGED, IN_WHOLE_GROUPS, judged_sweep
from ablate.records.loading import load_sweep
from ablate.records.predictions import Predictions
from ablate.storage.layout import OutputFolder
from ablate.training.training_report import halves_of

Write = Callable[..., Path]
OF_IMAGES, OF_GROUPS = 0.3, 0.2


def epochs(*, grouped: bool = True) -> list[dict[str, float]]:
    """Epochs whose accuracy on halves of single images is another than on those of whole groups."""
    rows = []
    for epoch in (1, 2, 3):
        row = {"epoch": epoch, "map50_95": 0.1 * epoch}
        for half in (1, 2):
            row |= {f"map50_95/half{half}": OF_IMAGES * epoch / 3, f"map50/half{half}": 0.5}
            if grouped:
                row |= {f"map50_95/group_half{half}": OF_GROUPS * epoch / 3, f"map50/group_half{half}": 0.5}
        rows.append(row)
    return rows


@pytest.fixture
def made(records: Callable[..., list[dict[str, Any]]]) -> list[dict[str, Any]]:
    made = records(("none", "hmha"), ("musgd",))
    for record in made:
        record["history"] = epochs()
        record["realised"]["halves"] = {"digest": "a", "images": [6, 5], "divided": 3}
        record["realised"]["group_halves"] = {"digest": "b", "images": [7, 4], "divided": 0}
    return made


def judged(sweep: Path) -> Comparison:
    return compare(judged_sweep(load_sweep(sweep), "split"))


def accuracies(comparison: Comparison) -> set[float]:
    return {round(row.accuracy.map50_95 or 0.0, 6) for row in comparison.rows}


def remarks(comparison: Comparison) -> str:
    return " ".join(judge_remarks(comparison))


def test_halves_of_whole_groups_judge_where_all_trials_have_them(made: list[dict[str, Any]], write: Write) -> None:
    comparison = judged(write(made))
    assert accuracies(comparison) == {OF_GROUPS}
    assert {row.accuracy.evaluated for row in comparison.rows} == {f"val, {IN_WHOLE_GROUPS}"}
    assert "Images of one group are in one half of the validation images (7 and 4 images)." in remarks(comparison)


def test_one_trial_from_before_the_groups_were_known_puts_all_on_single_images(
    made: list[dict[str, Any]], write: Write
) -> None:
    made[0]["history"] = epochs(grouped=False)
    del made[0]["realised"]["group_halves"]
    del made[0]["realised"]["halves"]
    comparison = judged(write(made))
    assert accuracies(comparison) == {OF_IMAGES}
    assert {row.accuracy.evaluated for row in comparison.rows} == {f"val, {CROSS_JUDGED}"}
    assert "1 trial of 6 began before the groups of images were known; 3 groups have images in both" in remarks(
        comparison
    )


def test_other_groups_in_some_trials_put_all_on_single_images(made: list[dict[str, Any]], write: Write) -> None:
    made[0]["realised"]["group_halves"]["digest"] = "c"
    comparison = judged(write(made))
    assert accuracies(comparison) == {OF_IMAGES}
    assert "the groups of images were not the same for all trials" in remarks(comparison)


def test_an_epoch_without_them_puts_all_on_single_images(made: list[dict[str, Any]], write: Write) -> None:
    made[0]["history"][1] = epochs(grouped=False)[1]
    assert accuracies(judged(write(made))) == {OF_IMAGES}


def test_old_records_stay_as_they_were(made: list[dict[str, Any]], write: Write) -> None:
    for record in made:
        record["history"] = epochs(grouped=False)
        del record["realised"]["group_halves"]
        del record["realised"]["halves"]
    comparison = judged(write(made))
    assert accuracies(comparison) == {OF_IMAGES}
    assert "belong together is not known" in remarks(comparison)
    assert "group" not in remarks(comparison)


def test_groups_that_were_found_after_the_training_are_said(
    made: list[dict[str, Any]], write: Write, multirun: Path
) -> None:
    for record in made:
        record["history"] = epochs(grouped=False)
        del record["realised"]["group_halves"]
        record["data"]["fingerprint"] = "f" * 64
    path = OutputFolder(multirun).audit("f" * 64).groups
    path.parent.mkdir(parents=True)
    write_groups(path, ImageGroups({"images/val/1.png": "clip", "images/val/2.png": "clip"}, AUDIT, "f" * 64))
    comparison = judged(write(made))
    assert accuracies(comparison) == {OF_IMAGES}
    assert "the groups of images were not known when the trials were trained" in remarks(comparison)


@pytest.mark.parametrize("lacks", [False, True])
def test_all_folds_of_a_variant_are_judged_alike(made: list[dict[str, Any]], write: Write, lacks: bool) -> None:
    for record in made:  # each seed as a fold
        fold = record["seed"]
        record |= {"seed": 0, "fold": fold}
        record["config"] |= {"fold": {"folds": 3, "index": fold}}
        record["realised"]["group_halves"]["digest"] = f"of fold {fold}"
    if lacks:  # such as a fold whose images are all of one group
        for record in made:
            if record["fold"] == 1:
                del record["realised"]["group_halves"]
                record["history"] = epochs(grouped=False)
    comparison = judged(write(made))
    assert all(row.is_comparable for row in comparison.rows), [row.notes for row in comparison.rows]
    assert accuracies(comparison) == {OF_IMAGES if lacks else OF_GROUPS}


def test_a_half_that_lacks_a_class_is_said(made: list[dict[str, Any]], write: Write) -> None:
    for record in made:
        record["realised"]["group_halves"]["lacking"] = [[2], [0, 3]]
    text = remarks(judged(write(made)))
    assert "The first half has no object of triangle and the second half has no object of circle, star" in text


def test_a_half_that_lacks_a_class_in_one_fold_is_not_said_of_all_folds(
    made: list[dict[str, Any]], write: Write
) -> None:
    for record in made:
        fold = record["seed"]
        record |= {"seed": 0, "fold": fold}
        record["config"] |= {"fold": {"folds": 3, "index": fold}}
        record["realised"]["group_halves"] |= {"digest": f"of fold {fold}", "lacking": [[[0], []], [[], [0]]][fold > 0]}
    text = remarks(judged(write(made)))
    assert "In one fold or several the first half has no object of circle and the second half has no object" in text


def predictions(classes: list[list[int]]) -> Predictions:
    """Images with objects of these classes, and no detections."""
    objects = sum(map(len, classes))
    none = np.zeros(0, dtype=np.int32)
    return Predictions(
        names=np.array([f"images/val/{number}.png" for number in range(len(classes))]),
        sizes=np.full((len(classes), 2), 64, dtype=np.int32),
        thresholds=np.linspace(0.5, 0.95, 10), image=none, cls=none, conf=np.zeros(0, dtype=np.uint16),
        box=np.zeros((0, 4), dtype=np.uint16), hit=np.zeros((0, 10), dtype=bool),
        true_image=np.repeat(np.arange(len(classes)), [len(each) for each in classes]),
        true_cls=np.array([which for each in classes for which in each], dtype=np.int32),
        true_box=np.zeros((objects, 4), dtype=np.uint16),
    )  # fmt: skip


def test_a_record_says_how_its_images_are_halved() -> None:
    made = predictions([[0], [0], [0, 2], [0], [0], [], [0], [0]])  # a single object of class 2
    groups = ImageGroups({f"images/val/{n}.png": f"clip {n % 2}" for n in range(8)}, "clips.csv")
    fields = halves_of(made, groups)
    of_images, of_groups = fields["halves"], fields["group_halves"]
    assert of_images is not None
    assert of_groups is not None
    assert of_images.images == of_groups.images == (4, 4)
    assert of_groups.divided == 0
    assert of_images.divided == 2
    assert sorted(map(len, of_groups.lacking)) == [0, 1]
    assert (2,) in of_groups.lacking
    assert of_images.digest != of_groups.digest
    without = halves_of(made, None)
    assert without == {"halves": of_images.__class__(**{**_fields(of_images), "divided": None}), "group_halves": None}
    assert halves_of(None, groups) == {"halves": None, "group_halves": None}


def _fields(struct: Any) -> dict[str, Any]:
    return {name: getattr(struct, name) for name in struct.__struct_fields__}
