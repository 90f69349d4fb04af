from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ablate.data import catalogue, scanning
from ablate.data.catalogue import DataError, DataSet, NotDownloaded, check, fetch, fingerprint_on_disk, resolve
from ablate.data.data_settings import DataSettings

MakeSet = Callable[..., Path]
ROOT = Path(__file__).parents[2]


def custom(file: Path) -> DataSet:
    return resolve(DataSettings("custom", str(file)))


def test_a_data_set_is_counted_by_split_and_class(make_set: MakeSet) -> None:
    file = make_set(labels={"train/0": "0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n"})
    found = custom(file)
    assert found.name == "custom"
    assert found.classes == ["cat", "dog"]
    assert found.images == {"train": 3, "val": 2}
    assert found.instances == {"train": 4, "val": 2}
    assert found.instances_per_class == {"train": [2, 2], "val": [1, 1]}
    assert found.warnings == []
    assert found.source == file
    assert found.yaml.is_absolute()
    assert len(found.fingerprint) == 64


def test_the_fingerprint_is_the_same_wherever_the_set_lies(make_set: MakeSet, tmp_path: Path) -> None:
    file = make_set()
    shutil.copytree(file.parent, tmp_path / "moved" / "far" / "away")
    here, there = custom(file), custom(tmp_path / "moved" / "far" / "away" / "data.yaml")
    assert here.fingerprint == there.fingerprint
    assert here.yaml != there.yaml


@pytest.mark.parametrize("change", ["label", "image", "names", "split", "rename", "label removed"])
def test_the_fingerprint_changes_with_what_is_learnt_from(make_set: MakeSet, change: str) -> None:
    file = make_set()
    before = custom(file).fingerprint
    train = file.parent / "images" / "train"
    label = file.parent / "labels" / "train" / "0.txt"
    if change == "label":
        label.write_text("0 0.5 0.5 0.25 0.26\n")  # as long as before
    elif change == "image":
        (train / "0.png").write_bytes((file.parent / "images" / "val" / "0.png").read_bytes())
    elif change == "names":
        file.write_text(file.read_text().replace("dog", "cow"))
    elif change == "split":
        (train / "2.png").rename(file.parent / "images" / "val" / "2.png")
        (label.parent / "2.txt").rename(file.parent / "labels" / "val" / "2.txt")
    elif change == "rename":
        (train / "0.png").rename(train / "9.png")
        label.rename(label.with_name("9.txt"))
    else:
        label.unlink()
    assert custom(file).fingerprint != before


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a minute later for the scan: nothing was changed just now."""
    real = time.time
    monkeypatch.setattr(scanning, "clock", lambda: real() + 60)


@pytest.mark.usefixtures("later")
def test_the_second_call_reads_no_image(make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make_set()
    first = custom(file)

    def refuse(_: Path, __: int) -> bytes:
        raise AssertionError("a file was read")

    monkeypatch.setattr(scanning, "bounded_content", refuse)
    assert custom(file) == first


def test_a_set_changed_a_moment_ago_is_read_again(make_set: MakeSet) -> None:
    file = make_set()
    label = file.parent / "labels" / "train" / "0.txt"
    stat = label.stat()
    before = custom(file).fingerprint
    label.write_text("1 0.5 0.5 0.25 0.25\n")
    os.utime(label, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the same size and time: too quick for the clock
    assert custom(file).fingerprint != before


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", ["in place", "replaced"])
@pytest.mark.parametrize("name", ["labels/train/0.txt", "images/val/0.png"])
def test_an_edit_is_noticed_whose_size_and_time_of_modification_are_as_before(
    make_set: MakeSet, change: str, name: str
) -> None:
    file = make_set()
    path = file.parent / name
    before, first = path.stat(), custom(file)
    content = path.read_bytes()
    edited = content.replace(b"0.25", b"0.26") if name.endswith("txt") else path.with_name("1.png").read_bytes()
    if change == "in place":
        path.write_bytes(edited)
    else:
        path.with_suffix(".new").write_bytes(edited)
        path.with_suffix(".new").replace(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert fingerprint_on_disk(DataSettings.from_plain({"path": str(file)})) != first.fingerprint
    assert custom(file).fingerprint != first.fingerprint
    path.write_bytes(content)
    assert fingerprint_on_disk(DataSettings.from_plain({"path": str(file)})) == first.fingerprint


def test_the_fingerprint_on_disk_is_that_of_the_data_set_and_makes_no_view(make_set: MakeSet, cache: Path) -> None:
    data = DataSettings("set", str(make_set()))
    on_disk = fingerprint_on_disk(data)
    assert not (cache / "views").exists()
    assert resolve(data).fingerprint == on_disk


def test_boxes_without_area_are_counted_with_the_first_place(make_set: MakeSet) -> None:
    found = custom(make_set(labels={"train/1": "0 .5 .5 .1 .1\n0 .5 .5 0 .1\n", "train/2": "0 .5 .5 0 0\n"}))
    assert "train: 2 boxes without area (first: 1.txt, line 2)" in found.warnings


def test_images_without_label_repeated_boxes_and_copies_are_warnings(make_set: MakeSet) -> None:
    file = make_set(labels={"train/0": None, "train/1": "0 .5 .5 .1 .1\n0 .5 .5 .1 .1\n"}, counts=(4, 2))
    images = file.parent / "images"
    shutil.copy(images / "train" / "2.png", images / "train" / "3.png")
    shutil.copy(images / "train" / "2.png", images / "val" / "1.png")
    assert custom(file).warnings == [
        "train: 1 repeated box left out (first: 1.txt)",
        "train: 1 image without a label file, taken as background (first: 0.png)",
        "train: 1 image is a copy of another (first: 2.png)",
        "val: 1 image is in train as well (first: 1.png)",
    ]


def test_a_class_without_a_box_is_a_warning(make_set: MakeSet) -> None:
    found = custom(make_set(names="[cat, dog, cow]"))
    assert found.warnings == ["train: 1 of 3 classes without a box", "val: 1 of 3 classes without a box"]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_without_any_box_is_an_error(make_set: MakeSet, split: str) -> None:
    labels = {f"{split}/{index}": None for index in range(3)}
    with pytest.raises(DataError, match=rf"split '{split}' has no boxes; .*labels/{split}/0\.txt"):
        custom(make_set(labels=labels))


def test_garbage_in_a_label_names_file_and_line(make_set: MakeSet) -> None:
    with pytest.raises(DataError, match=r"labels/val/1\.txt, line 2: 'x' is not a number"):
        custom(make_set(labels={"val/1": "0 .5 .5 .1 .1\n0 x .5 .1 .1\n"}))


def test_images_that_cannot_be_used_are_left_out_counted_and_named(make_set: MakeSet) -> None:
    file = make_set(counts=(8, 4))
    train = file.parent / "images" / "train"
    for index in range(4):
        path = train / f"{index}.png"
        path.write_bytes(path.read_bytes()[:-40])
    (train / "5.png").unlink()
    (train / "5.png").symlink_to(train / "gone")
    found = custom(file)
    assert found.images == {"train": 3, "val": 4}
    assert found.instances == {"train": 3, "val": 4}
    (warning,) = found.warnings
    assert warning.startswith("train: 5 images are left out")
    assert [f"{index}.png" in warning for index in range(6)] == [True, True, True, False, False, False]
    assert warning.endswith(" and 2 more")
    assert sorted(p.name for p in (found.yaml.parent / "images" / "train").iterdir()) == ["4.png", "6.png", "7.png"]


def test_the_label_of_an_image_that_is_left_out_is_no_matter(make_set: MakeSet) -> None:
    file = make_set(labels={"train/0": "garbage"})
    (file.parent / "images" / "train" / "0.png").write_bytes(b"no image")
    assert custom(file).instances == {"train": 2, "val": 2}


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_split_of_which_no_image_can_be_used_is_an_error(make_set: MakeSet, split: str) -> None:
    file = make_set()
    for path in (file.parent / "images" / split).iterdir():
        path.write_bytes(b"no image")
    with pytest.raises(DataError, match=rf"no image of split '{split}' can be used: 0\.png \(not an image"):
        custom(file)


def test_the_fingerprint_is_over_all_images_and_was_the_same_before_any_was_left_out(make_set: MakeSet) -> None:
    """Signatures of finished trials hold it: what it is made of must not change."""
    file = make_set()
    (file.parent / "images" / "train" / "0.png").write_bytes(b"no image")
    parts: list[object] = [1, ["cat", "dog"], []]
    for split, count in (("train", 3), ("val", 2)):
        names = [f"{index}.png" for index in range(count)]
        bytes_of = {
            kind: [(file.parent / kind / split / n).with_suffix(suffix).read_bytes() for n in names]
            for kind, suffix in (("images", ".png"), ("labels", ".txt"))
        }
        hashes = [[hashlib.sha256(content).hexdigest() for content in bytes_of[kind]] for kind in ("images", "labels")]
        parts.append([split, [list(one) for one in zip(names, *hashes, strict=True)]])
    assert custom(file).fingerprint == hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def test_all_label_files_with_errors_are_counted(make_set: MakeSet) -> None:
    labels = {"train/1": "0 .5 .5 .1\n", "train/2": "7 .5 .5 .1 .1\n", "val/1": "x\n"}
    with pytest.raises(DataError, match=r"labels/train/1\.txt, line 1: 4 columns .* \(2 more of its label files"):
        custom(make_set(labels=labels))


def test_files_that_a_training_passes_over_are_warnings(make_set: MakeSet) -> None:
    file = make_set()
    root = file.parent
    (root / "images" / "train" / "a.gif").write_bytes(b"GIF89a")
    (root / "images" / "train" / "png").write_bytes((root / "images" / "train" / "0.png").read_bytes())
    (root / "labels" / "val" / "9.txt").write_text("0 .5 .5 .1 .1\n")
    (root / "labels" / "val" / "classes.txt").write_text("cat\ndog\n")
    for _ in range(2):  # the second time from memory
        found = custom(file)
        assert found.images == {"train": 3, "val": 2}
        assert [warning.partition(" (first: ") for warning in found.warnings] == [
            ("train: 1 file has the ending of no image that is read", " (first: ", "a.gif)"),
            ("val: 1 label file without an image", " (first: ", "9.txt)"),
        ]


def test_a_split_of_another_format_is_an_error_that_names_a_file(make_set: MakeSet) -> None:
    file = make_set()
    for path in (file.parent / "images" / "val").iterdir():
        path.rename(path.with_suffix(".GIF"))
    with pytest.raises(DataError, match=r"split 'val' has no images in .*images/val; 0\.GIF and its like are not read"):
        custom(file)


def test_an_image_that_is_listed_twice_is_taken_once_which_is_said(make_set: MakeSet) -> None:
    file = make_set(train="[images/train, more.txt]")
    (file.parent / "more.txt").write_text("./images/train/1.png\n./images/train/2.png\n")
    found = custom(file)
    assert found.images["train"] == 3
    assert found.warnings == ["train: 2 images are listed more than once, taken once (first: 1.png)"]


def test_a_link_to_a_folder_above_does_not_multiply_the_images(make_set: MakeSet) -> None:
    file = make_set()
    (file.parent / "images" / "train" / "again").symlink_to(file.parent / "images" / "train")
    (file.parent / "images" / "val" / "all").symlink_to(file.parent / "images")
    found = custom(file)
    assert found.images["train"] == 3
    assert found.images["val"] == 2 + 3  # not a loop: the training images are in val, which is said
    assert any("in train as well" in warning for warning in found.warnings)


def test_names_that_are_not_text_can_be_printed(make_set: MakeSet) -> None:
    name = os.fsdecode(b"\xff")
    file = make_set()
    image, label = (
        file.parent / kind / "train" / f"0{suffix}" for kind, suffix in (("images", ".png"), ("labels", ".txt"))
    )
    image.rename(image.with_name(f"{name}.png"))
    found = custom(file)
    assert found.images["train"] == 3
    assert any("without a label file" in warning for warning in found.warnings)
    "".join(found.warnings).encode()
    label.write_text("x")
    label.rename(label.with_name(f"{name}.txt"))
    with pytest.raises(DataError) as caught:
        custom(file)
    str(caught.value).encode()


def test_a_failed_resolve_leaves_nothing_half_written(make_set: MakeSet, cache: Path) -> None:
    with pytest.raises(DataError):
        custom(make_set(labels={"val/1": "0 x .5 .1 .1\n"}))
    assert not cache.exists()


def test_custom_data_need_a_path() -> None:
    for path in (None, "???", ""):
        with pytest.raises(DataError, match=r"data=custom needs data\.path=<an Ultralytics data file>"):
            check(DataSettings.from_plain({"name": "custom", "path": path}))


def test_shapes_are_drawn_on_first_use_and_options_change_the_fingerprint() -> None:
    plain = {"name": "shapes", "path": None, "train_images": 4, "val_images": 3, "imgsz": 48}
    data = DataSettings.from_plain(plain)
    found = resolve(data)
    assert found.images == {"train": 4, "val": 3}
    assert found.classes == ["circle", "square", "triangle", "star", "cross", "ring"]
    assert resolve(data) == found
    assert resolve(DataSettings.from_plain({**plain, "noise": 3})).fingerprint != found.fingerprint


def test_a_wrong_number_for_shapes_is_a_data_error_before_anything_is_drawn(cache: Path) -> None:
    with pytest.raises(DataError, match=r"data\.imgsz=7 must be a whole number from 32 to 2048"):
        check(DataSettings.from_plain({"name": "shapes", "imgsz": 7}))
    assert not cache.exists()


def test_fetch_runs_the_download_that_a_data_file_describes(
    make_set: MakeSet, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A real run of Ultralytics' own downloader, with a script in the data file in place of an address."""
    make_set("source")
    shutil.make_archive(str(tmp_path / "mine"), "zip", tmp_path / "source")
    script = "import shutil; shutil.unpack_archive('" + str(tmp_path / "mine.zip") + "', yaml['path'])"
    file = tmp_path / "mine.yaml"
    file.write_text(f"path: mine\ntrain: images/train\nval: images/val\nnames: [cat, dog]\ndownload: {script}\n")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # no font is fetched either
    data = DataSettings.from_plain({"name": "custom", "path": str(file), "download": True})
    with pytest.raises(NotDownloaded):
        resolve(data)
    assert resolve(data, download=True).images == {"train": 3, "val": 2}
    assert [path.name for path in (cache / "datasets").iterdir()] == ["mine"]
    assert not (tmp_path / "config").exists()


def test_a_download_that_fails_is_one_line_and_leaves_nothing(
    tmp_path: Path, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("path: mine\ntrain: a\nval: b\nnames: [cat]\ndownload: raise OSError('gone')\n")
    with pytest.raises(DataError, match=r"^mine\.yaml: the download failed \(gone\)$"):
        fetch(DataSettings.from_plain({"name": "custom", "path": str(file)}))
    assert capfd.readouterr() == ("", "")  # no traceback of another process
    assert list((cache / "datasets").iterdir()) == []


@pytest.mark.parametrize("file", sorted((ROOT / "conf" / "data").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_group_is_a_data_set_that_is_known(file: Path) -> None:
    data = yaml.safe_load(file.read_text())
    assert data["name"] == file.stem
    if file.stem == "shapes":
        check(DataSettings.from_plain(data))
        return
    with pytest.raises(DataError) as caught:
        check(DataSettings.from_plain(data))
    assert isinstance(caught.value, NotDownloaded) == (file.stem != "custom")


def test_neither_torch_nor_ultralytics_is_imported(make_set: MakeSet) -> None:
    code = (
        "import sys; from ablate.data.catalogue import resolve; "
        "from ablate.data.data_settings import DataSettings; resolve(DataSettings('x', sys.argv[1]));"
        "sys.exit(str([m for m in ('torch', 'ultralytics', 'cv2') if m in sys.modules] or ''))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(make_set())], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == ""


def test_the_public_names_are_there() -> None:
    assert all(hasattr(catalogue, name) for name in catalogue.__all__)
