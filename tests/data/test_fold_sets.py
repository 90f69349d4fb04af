"""The folds of a data set: every image of train and val is evaluated once, none of test ever, and groups stay whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from tests.data.conftest import image_bytes

from ablate.data.catalogue import DataSet, resolve
from ablate.data.data_errors import DataError
from ablate.data.data_settings import DataSettings
from ablate.data.data_use import promised_use
from ablate.data.datafile import read
from ablate.data.fold_sets import Division, divided, fold_set
from ablate.data.groups import ImageGroups

MakeSet = Callable[..., Path]


def found(file: Path) -> DataSet:
    return resolve(DataSettings.from_plain({"path": str(file)}))


def named(data: DataSet, split: str) -> set[str]:
    """The images of a split of a view, by the place in the whole data set's view that they come from."""
    top = data.yaml.parent / "images" / split
    return {f"images/{image.path.relative_to(top).as_posix()}" for image in read(str(data.yaml)).images(split)}


def all_folds(division: Division) -> list[DataSet]:
    return [fold_set(division, index) for index in range(len(division.sizes))]


def test_every_image_of_train_and_val_is_evaluated_in_one_fold_and_trained_on_in_all_others(make_set: MakeSet) -> None:
    data = found(make_set(counts=(7, 4)))

    folds = all_folds(divided(data, 3, None))

    every = {f"images/{split}/{index}.png" for split, images in (("train", 7), ("val", 4)) for index in range(images)}
    evaluated = [named(fold, "val") for fold in folds]
    assert sorted(map(len, evaluated)) == [3, 4, 4]
    assert set().union(*evaluated) == every
    for fold, held in zip(folds, evaluated, strict=True):
        assert named(fold, "train") == every - held
        assert fold.images == {"train": 11 - len(held), "val": len(held)}


def test_an_image_of_the_test_split_is_in_no_fold(make_set: MakeSet) -> None:
    file = make_set(counts=(6, 2), test="images/test")
    (file.parent / "images" / "test").mkdir()
    (file.parent / "images" / "test" / "sealed.png").write_bytes(image_bytes(99))
    data = found(file)
    assert data.images["test"] == 1

    folds = all_folds(divided(data, 4, None))

    assert [sorted(fold.images) for fold in folds] == [["train", "val"]] * 4
    assert not [path for fold in folds for path in fold.yaml.parent.rglob("*sealed*")]
    assert "test" not in yaml.safe_load(folds[0].yaml.read_text())


def test_a_fold_counts_what_ultralytics_finds_in_its_view(make_set: MakeSet) -> None:
    data = found(make_set(counts=(5, 3), labels={"train/0": "0 .5 .5 .2 .2\n1 .5 .5 .1 .1\n", "val/1": None}))

    for fold in all_folds(divided(data, 2, None)):
        file = read(str(fold.yaml))
        for split in ("train", "val"):
            labels = [image.label for image in file.images(split) if image.label.is_file()]
            assert sum(len(label.read_text().splitlines()) for label in labels) == fold.instances[split]
            assert sum(fold.instances_per_class[split]) == fold.instances[split]
        assert promised_use(fold).images == fold.images


def test_groups_stay_whole_whatever_split_their_images_come_from(make_set: MakeSet) -> None:
    data = found(make_set(counts=(8, 4)))
    groups = ImageGroups(
        {f"images/{s}/{i}.png": f"clip {i % 4}" for s in ("train", "val") for i in range(8)}, "mine.csv"
    )

    division = divided(data, 2, groups)

    assert division.groups == (3, 3, 3, 3)
    assert "4 groups of 3 images kept whole" in division.in_words
    for fold in all_folds(division):
        held = {groups.group_of(name) for name in named(fold, "val")}
        assert not held & {groups.group_of(name) for name in named(fold, "train")}


def test_an_image_in_a_folder_called_images_has_the_name_in_a_fold_that_an_audit_gives_it(make_set: MakeSet) -> None:
    file = make_set(counts=(4, 2))
    for folder in ("images", "images_"):
        (below := file.parent / "images" / "train" / "site" / folder).mkdir(parents=True)
        (below / "frame.png").write_bytes(image_bytes(len(folder)))
    data = found(file)
    whole = {path.relative_to(data.yaml.parent).as_posix() for path in data.yaml.parent.rglob("frame.png")}

    folds = all_folds(divided(data, 2, None))

    assert whole == {"images/train/site/images_/frame.png", "images/train/site/images__/frame.png"}
    assert {name for fold in folds for name in named(fold, "val") if "frame" in name} == whole


def test_the_same_images_elsewhere_and_in_another_order_are_divided_alike(make_set: MakeSet) -> None:
    one, other = found(make_set("one", counts=(9, 3))), found(make_set("other", counts=(9, 3)))

    assert one.fingerprint == other.fingerprint
    assert divided(one, 4, None).assignment == divided(other, 4, None).assignment
    assert divided(one, 4, None).assignment != divided(one, 3, None).assignment


def test_a_fold_keeps_the_fingerprint_of_its_data_set_and_has_a_view_of_its_own(make_set: MakeSet) -> None:
    data = found(make_set(counts=(6, 3)))

    folds = all_folds(divided(data, 3, None))

    assert {fold.fingerprint for fold in folds} == {data.fingerprint}
    assert len({fold.yaml for fold in [data, *folds]}) == 4
    assert [fold.fold.index for fold in folds if fold.fold] == [0, 1, 2]


def test_a_division_that_was_made_before_is_remembered_and_a_damaged_memory_is_not_believed(
    make_set: MakeSet, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = found(make_set(counts=(6, 3)))
    first = divided(data, 3, None)
    memory = next((cache / "folds").iterdir())
    with monkeypatch.context() as patched:
        patched.setattr("ablate.data.fold_sets.divide", lambda *_: pytest.fail("divided again"))
        assert divided(data, 3, None).assignment == first.assignment

    memory.write_text('{"fold_of": [0]}')

    assert divided(data, 3, None).assignment == first.assignment


def test_a_view_that_lost_an_image_is_made_again(make_set: MakeSet) -> None:
    division = divided(found(make_set(counts=(6, 3))), 3, None)
    view = fold_set(division, 0).yaml.parent
    link = next((view / "images" / "val").rglob("*.png"))
    link.unlink()

    fold_set(division, 0)

    assert link.is_symlink()


def test_a_jpeg_that_is_repaired_in_the_whole_view_leaves_the_folds_where_they_are(make_set: MakeSet) -> None:
    data = found(make_set(counts=(6, 3)))
    before = fold_set(divided(data, 3, None), 1).yaml
    link = data.yaml.parent / "images" / "train" / "0.png"
    content = link.read_bytes()
    link.unlink()
    link.write_bytes(content)

    assert fold_set(divided(data, 3, None), 1).yaml == before


def test_key_points_and_polygons_go_into_a_fold_as_they_are(make_set: MakeSet) -> None:
    poses = {f"{s}/{i}": "0 .5 .5 .2 .2 .1 .1 2 .3 .3 2\n" for s, n in (("train", 4), ("val", 2)) for i in range(n)}
    pose = found(make_set("pose", counts=(4, 2), labels=poses, kpt_shape="[2, 3]"))
    polygons = {f"{s}/{i}": "1 .1 .1 .5 .1 .5 .5 .1 .5\n" for s, n in (("train", 4), ("val", 2)) for i in range(n)}
    segments = found(make_set("segments", counts=(4, 2), labels=polygons))

    for data in (pose, segments):
        fold = fold_set(divided(data, 3, None), 1)
        assert fold.instances == {"train": 4, "val": 2}
        text = next(image.label for image in read(str(fold.yaml)).images("val")).read_text()
        assert text in (*poses.values(), *polygons.values())
    assert yaml.safe_load(fold_set(divided(pose, 3, None), 0).yaml.read_text())["kpt_shape"] == [2, 3]


def test_images_of_a_list_are_divided(make_set: MakeSet) -> None:
    file = make_set(counts=(6, 3), train="train.txt")
    (file.parent / "train.txt").write_text("".join(f"./images/train/{index}.png\n" for index in (0, 2, 5)))

    data = found(file)

    assert sum(divided(data, 2, None).sizes) == 6
    assert {name for fold in all_folds(divided(data, 2, None)) for name in named(fold, "val")} == {
        *(f"images/train/{index}.png" for index in (0, 2, 5)),
        *(f"images/val/{index}.png" for index in range(3)),
    }


@pytest.mark.parametrize(
    ("folds", "groups", "said"),
    [
        (9, {}, "9.*8 images"),
        (3, {f"images/train/{i}.png": "a" if i < 3 else "b" for i in range(5)} | {"images/val/0.png": "b"}, None),
        (4, {f"images/{s}/{i}.png": f"{s}{i // 3}" for s in ("train", "val") for i in range(5)}, "3 groups"),
        (2, {f"images/train/{i}.png": "patient 7" for i in range(5)}, "patient 7 has 5 of the 8 images"),
        (2, {"images/train/none.png": "x"}, "names none of the images"),
    ],
)
def test_what_cannot_be_divided_is_refused(
    make_set: MakeSet, folds: int, groups: dict[str, str], said: str | None
) -> None:
    data = found(make_set(counts=(5, 3)))
    of_images = ImageGroups(groups, "mine.csv") if groups else None
    if said is None:
        assert divided(data, folds, of_images).sizes
        return
    with pytest.raises(DataError, match=said):
        divided(data, folds, of_images)


def test_groups_of_one_image_each_are_told(make_set: MakeSet) -> None:
    data = found(make_set(counts=(5, 3)))
    assert "no two belong together" in divided(data, 2, ImageGroups({}, "audit", data.fingerprint)).in_words
    assert "group" not in divided(data, 2, None).in_words


def test_folds_that_groups_make_uneven_are_told(make_set: MakeSet) -> None:
    data = found(make_set(counts=(7, 3)))
    groups = ImageGroups({f"images/train/{index}.png": "clip" for index in range(5)}, "mine.csv")

    assert any("2 to 5 images" in warning for warning in divided(data, 3, groups).warnings)
    assert not divided(data, 3, None).warnings


def test_the_groups_of_another_data_set_are_refused(make_set: MakeSet) -> None:
    data = found(make_set(counts=(5, 3)))
    with pytest.raises(DataError, match="another data set"):
        divided(data, 2, ImageGroups({"images/train/0.png": "a"}, "audit", "0" * 64))


def test_a_fold_without_a_box_is_refused(make_set: MakeSet) -> None:
    labels = {f"train/{index}": None for index in range(1, 5)}
    with pytest.raises(DataError, match=r"fold \d of data have no box"):
        divided(found(make_set(counts=(5, 1), labels=labels)), 3, None)


def test_a_class_that_some_folds_lack_is_told(make_set: MakeSet) -> None:
    labels = {f"{s}/{i}": "0 .5 .5 .2 .2\n" for s, n in (("train", 5), ("val", 3)) for i in range(n)}
    data = found(make_set(counts=(5, 3), labels={**labels, "train/2": "1 .5 .5 .2 .2\n"}))

    fold = fold_set(divided(data, 4, None), 0)

    assert any("dog in" in warning for warning in fold.warnings)
