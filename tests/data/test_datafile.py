from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ablate.data.data_errors import DataError, NotDownloaded
from ablate.data.datafile import read

MakeSet = Callable[..., Path]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", r"data\.yaml: the data file is empty"),
        ("# nothing\n", r"data\.yaml: the data file is empty"),
        ("just words", r"data\.yaml: it holds a text; a mapping is needed"),
        ("train: [\n", r"data\.yaml, line \d: .*'train', 'val' and 'names'"),
        ("train: images/train\nval: images/val\n", "key 'names' is missing"),
        ("train: images/train\nval: images/val\nnames: []\n", "key 'names' is missing"),
        ("train: images/train\nval: images/val\nnames: 7\n", "'names' must be .*, not 7"),
        ("train: images/train\nval: images/val\nnames: {0: a, 2: b}\n", "must number 2 classes 0 to 1"),
        ("train: images/train\nval: images/val\nnames: {a: b}\n", "keys of 'names' must be the class ids"),
        ("train: images/train\nval: images/val\nnames: [a]\nnc: 2\n", "'nc' says 2 classes, 'names' has 1"),
        ("train: images/train\nval: images/val\nnames: [a, b]\nchannels: three\n", "'channels' must be a whole number"),
        ("train: images/train\nval: images/val\nnames: [a, b]\nchannels: 0\n", "'channels' must be .*, not 0"),
        ("val: images/val\nnames: [a]\n", "key 'train' is missing"),
        ("train: images/train\nnames: [a]\n", "key 'val' is missing"),
        ("train: 7\nval: images/val\nnames: [a]\n", "'train' must be a folder"),
        ("train: images/train\nval: images/nowhere\nnames: [a, b]\n", "split 'val' does not exist: .*nowhere"),
    ],
)
def test_a_data_file_at_fault_is_one_line_that_says_so(make_set: MakeSet, content: str, what: str) -> None:
    file = make_set()
    file.write_text(content)
    with pytest.raises(DataError, match=what) as caught:
        read(str(file))
    assert "\n" not in str(caught.value)


def test_a_data_file_that_does_not_exist_proposes_one_that_does(
    make_set: MakeSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = make_set()
    with pytest.raises(DataError, match=r"no such data file; did you mean .*data\.yaml\?"):
        read(str(file.with_name("date.yaml")))
    monkeypatch.chdir(file.parent)
    with pytest.raises(DataError, match=r"did you mean coco8\.yaml\?"):
        read("cocoo8.yaml")
    with pytest.raises(DataError, match="is a folder"):
        read(str(file.parent))


def test_a_split_without_images_is_an_error(make_set: MakeSet) -> None:
    data = read(str(make_set(counts=(0, 2))))
    with pytest.raises(DataError, match=r"split 'train' has no images in .*images/train"):
        data.images("train")


def test_names_may_be_a_mapping_and_val_may_be_called_validation(make_set: MakeSet) -> None:
    data = read(str(make_set(names="{1: dog, 0: cat}")))
    assert data.classes == ("cat", "dog")
    file = make_set("other", names="")
    file.write_text("train: images/train\nvalidation: images/val\nnc: 2\n")
    data = read(str(file))
    assert data.classes == ("class_0", "class_1")
    assert [image.name for image in data.images("val")] == ["0.png", "1.png"]


def test_path_may_be_absolute_or_relative_to_here_or_to_the_file(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_set()
    expected = source.parent / "images" / "train"
    (tmp_path / "files").mkdir()
    file = tmp_path / "files" / "data.yaml"
    for path in (str(source.parent), "../set"):
        file.write_text(source.read_text() + f"path: {path}\n")
        assert read(str(file)).splits["train"] == (expected,)
    monkeypatch.chdir(tmp_path)
    file.write_text(source.read_text() + "path: set\n")
    assert read(str(file)).splits["train"] == (expected,)


def test_data_sets_of_ultralytics_own_folder_are_found(
    make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_set("theirs/coco8")
    settings = tmp_path / "config" / "Ultralytics" / "settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"datasets_dir": str(tmp_path / "theirs")}))
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path / "elsewhere"))
    assert read("coco8.yaml").splits["train"] == (source.parent / "images" / "train",)


def test_a_shipped_data_set_without_its_images_is_not_downloaded_rather_than_wrong() -> None:
    with pytest.raises(NotDownloaded, match=r"coco8\.yaml is not on this machine"):
        read("coco8.yaml")


def test_a_list_of_images_is_read_by_ultralytics_rules(make_set: MakeSet) -> None:
    file = make_set(train="train.txt", val="[val.txt]")
    root = file.parent
    (root / "train.txt").write_text(f"./images/train/2.png\n{root}/images/train/0.png\n\nnotes.md\n")
    (root / "val.txt").write_text("\ufeff./images/val/1.png\n")
    data = read(str(file))
    assert [image.name for image in data.images("train")] == ["0.png", "2.png"]
    assert data.images("val")[0].label == root / "labels" / "val" / "1.txt"
    (root / "val.txt").write_text("./images/val/1.png\n./images/val/7.png\n")
    with pytest.raises(DataError, match=r"val\.txt, line 2: image .*7\.png does not exist"):
        data.images("val")


def test_subfolders_are_searched_and_other_files_and_hidden_ones_passed_over(make_set: MakeSet) -> None:
    file = make_set()
    train = file.parent / "images" / "train"
    (train / "more").mkdir()
    (train / "0.png").rename(train / "more" / "0.PNG")
    (train / "readme.txt").write_text("hello")
    (train / "._1.png").write_bytes(b"")
    images = read(str(file)).images("train")
    assert [image.name for image in images] == ["1.png", "2.png", "more/0.PNG"]
    assert images[2].label == file.parent / "labels" / "train" / "more" / "0.txt"


def test_a_test_split_that_is_not_there_is_left_out_with_a_word(make_set: MakeSet) -> None:
    data = read(str(make_set(test="images/test")))
    assert set(data.splits) == {"train", "val"}
    assert "split 'test' is left out" in data.warnings[0]
