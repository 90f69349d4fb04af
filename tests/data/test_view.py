from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from ablate.data.catalogue import resolve
from ablate.data.data_settings import DataSettings
from ablate.data.fold_sets import divided, fold_set

MakeSet = Callable[..., Path]


def contents(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder with its time and bytes, to see that nothing was touched."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def load(file: Path, split: str = "train", **options: Any) -> Any:
    """Ultralytics' own data set class, as its trainer builds it."""
    from ultralytics.cfg import get_cfg
    from ultralytics.data.dataset import YOLODataset
    from ultralytics.data.utils import check_det_dataset

    data = check_det_dataset(str(file), autodownload=False)
    return YOLODataset(
        img_path=data[split], imgsz=32, data=data, task="detect", augment=False, hyp=get_cfg(), **options
    )


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No font for plots is fetched."""
    from ultralytics.data import utils

    monkeypatch.setattr(utils, "check_font", lambda _: None)


def test_ultralytics_writes_its_caches_into_the_view_only(make_set: MakeSet) -> None:
    file = make_set()
    found = resolve(DataSettings.from_plain({"path": str(file)}))
    before = contents(file.parent)
    for split in ("train", "val"):
        loaded = load(found.yaml, split, cache="disk")
        assert len(loaded) == found.images[split]
        assert sum(len(label["cls"]) for label in loaded.labels) == found.instances[split]
    assert contents(file.parent) == before
    view = found.yaml.parent
    assert {path.name for path in view.rglob("*.cache")} == {"train.cache", "val.cache"}
    assert len(list(view.rglob("*.npy"))) == 5


def test_ultralytics_finds_in_a_fold_what_it_counts_and_writes_into_the_view_of_the_fold_only(
    make_set: MakeSet,
) -> None:
    file = make_set(counts=(5, 3))
    data = resolve(DataSettings.from_plain({"path": str(file)}))
    before = contents(file.parent), contents(data.yaml.parent)

    fold = fold_set(divided(data, 2, None), 1)
    for split in ("train", "val"):
        loaded = load(fold.yaml, split, cache="disk")
        assert len(loaded) == fold.images[split] == 4
        assert sum(len(label["cls"]) for label in loaded.labels) == fold.instances[split]

    assert (contents(file.parent), contents(data.yaml.parent)) == before


def test_a_jpeg_that_ultralytics_repairs_is_repaired_in_the_view(make_set: MakeSet) -> None:
    file = make_set()
    out = io.BytesIO()
    Image.effect_noise((32, 32), 50).convert("RGB").save(out, "jpeg")
    image = file.parent / "images" / "train" / "0.jpg"
    image.write_bytes(out.getvalue() + b"\0")
    (file.parent / "images" / "train" / "0.png").unlink()
    found = resolve(DataSettings.from_plain({"path": str(file)}))
    load(found.yaml)
    assert image.read_bytes() == out.getvalue() + b"\0"
    assert (found.yaml.parent / "images" / "train" / "0.jpg").read_bytes() != image.read_bytes()


def test_lists_of_images_subfolders_and_images_without_label_are_seen_as_ultralytics_sees_them(
    make_set: MakeSet,
) -> None:
    file = make_set(train="[train.txt, images/more]", labels={"train/1": None})
    root = file.parent
    for kind in ("images", "labels"):
        (root / kind / "more" / "deep").mkdir(parents=True)
    (root / "images" / "train" / "2.png").rename(root / "images" / "more" / "deep" / "2.png")
    (root / "labels" / "train" / "2.txt").rename(root / "labels" / "more" / "deep" / "2.txt")
    (root / "train.txt").write_text("./images/train/0.png\n./images/train/1.png\n")
    found = resolve(DataSettings.from_plain({"path": str(file)}))
    before = contents(root)
    through, direct = load(found.yaml), load(file)
    assert contents(root).keys() - before.keys() == {"labels/more/deep.cache"}  # by the direct one, as ever
    assert len(through) == len(direct) == found.images["train"] == 3
    for ours, theirs in zip(through.labels, direct.labels, strict=True):
        assert os.path.realpath(ours["im_file"]) == os.path.realpath(theirs["im_file"])
        assert ours["bboxes"].tolist() == theirs["bboxes"].tolist()
    assert sum(len(label["cls"]) for label in through.labels) == found.instances["train"] == 2


def test_counts_agree_with_ultralytics_on_boxes_without_area_and_repeated_ones(make_set: MakeSet) -> None:
    text = "0 .5 .5 .2 .2\n0 .5 .5 .2 .2\n1 .5 .5 0 0\n"
    found = resolve(DataSettings.from_plain({"path": str(make_set(labels={"train/0": text}))}))
    assert sum(len(label["cls"]) for label in load(found.yaml).labels) == found.instances["train"] == 4


def test_a_folder_called_images_below_the_images_keeps_its_labels(make_set: MakeSet) -> None:
    file = make_set()
    root = file.parent
    (root / "images" / "train" / "a" / "images").mkdir(parents=True)
    (root / "images" / "train" / "a" / "labels").mkdir()
    (root / "images" / "train" / "0.png").rename(root / "images" / "train" / "a" / "images" / "0.png")
    (root / "labels" / "train" / "0.txt").rename(root / "images" / "train" / "a" / "labels" / "0.txt")
    found = resolve(DataSettings.from_plain({"path": str(file)}))
    assert found.warnings == []
    assert sum(len(label["cls"]) for label in load(found.yaml).labels) == found.instances["train"] == 3


def test_the_view_s_data_file_keeps_what_a_trainer_looks_at(make_set: MakeSet) -> None:
    found = resolve(DataSettings.from_plain({"path": str(make_set(channels="3"))}))
    content = yaml.safe_load(found.yaml.read_text())
    assert content["path"] == str(found.yaml.parent)
    assert content["names"] == {0: "cat", 1: "dog"}
    assert content["channels"] == 3
    assert "download" not in content


def test_a_view_whose_source_came_back_elsewhere_is_made_anew(make_set: MakeSet) -> None:
    file = make_set()
    first = resolve(DataSettings.from_plain({"path": str(file)})).yaml
    (first.parent / "images" / "train" / "0.png").unlink()
    second = resolve(DataSettings.from_plain({"path": str(file)})).yaml
    assert first == second
    assert (second.parent / "images" / "train" / "0.png").exists()


def boxes(loaded: Any) -> list[list[float]]:
    return [row for label in loaded.labels for row in label["bboxes"].tolist()]


def test_an_edited_label_of_the_same_size_and_time_is_what_is_trained(make_set: MakeSet) -> None:
    file = make_set()
    label = file.parent / "labels" / "train" / "0.txt"
    before = label.stat()
    first = resolve(DataSettings.from_plain({"path": str(file)}))
    assert boxes(load(first.yaml))[0] == [0.5, 0.5, 0.25, 0.25]  # and Ultralytics' cache is written

    def edit(text: str) -> None:
        label.write_text(text)
        os.utime(label, ns=(before.st_atime_ns, before.st_mtime_ns))

    edit("0 0.5 0.5 0.25 0.75\n")
    second = resolve(DataSettings.from_plain({"path": str(file)}))
    assert boxes(load(second.yaml))[0] == [0.5, 0.5, 0.25, 0.75]
    load(first.yaml)
    (first.yaml.parent / "labels" / "train.cache").unlink()
    assert boxes(load(first.yaml))[0] == [0.5, 0.5, 0.25, 0.75]  # a cache of the edited label in the first view
    edit("0 0.5 0.5 0.25 0.25\n")
    third = resolve(DataSettings.from_plain({"path": str(file)}))
    assert third.yaml == first.yaml
    assert boxes(load(third.yaml))[0] == [0.5, 0.5, 0.25, 0.25]


def test_an_image_that_cannot_be_used_never_reaches_ultralytics(make_set: MakeSet) -> None:
    file = make_set()
    Image.new("F", (32, 32)).save(file.parent / "images" / "train" / "0.tif")  # it would end a training in its middle
    (file.parent / "images" / "train" / "1.png").write_bytes(b"no image")
    found = resolve(DataSettings.from_plain({"path": str(file)}))
    loaded = load(found.yaml)
    assert [Path(label["im_file"]).name for label in loaded.labels] == ["0.png", "2.png"]
    assert len(loaded) == found.images["train"]
    assert len(boxes(loaded)) == found.instances["train"]


def test_folders_called_images_with_and_without_a_dash_below_stay_apart(make_set: MakeSet) -> None:
    file = make_set()
    for index, name in enumerate(("images", "images_")):
        folder = file.parent / "images" / "train" / name
        folder.mkdir()
        (file.parent / "images" / "train" / f"{index}.png").rename(folder / "a.png")
    found = resolve(DataSettings.from_plain({"path": str(file)}))
    assert len(load(found.yaml)) == found.images["train"] == 3


def test_a_name_that_is_not_text_has_one_in_the_view(make_set: MakeSet) -> None:
    """Records, evidence and pages are UTF-8; training would end in the writing of them."""
    file = make_set()
    for kind, suffix in (("images", ".png"), ("labels", ".txt")):
        path = file.parent / kind / "train" / f"0{suffix}"
        path.rename(path.with_name(os.fsdecode(b"\xff\xe9") + suffix))
    found = resolve(DataSettings.from_plain({"path": str(file)}))
    loaded = load(found.yaml)
    assert sorted(Path(label["im_file"]).name for label in loaded.labels) == ["1.png", "2.png", r"\xff\xe9.png"]
    assert len(boxes(loaded)) == found.instances["train"] == 3
