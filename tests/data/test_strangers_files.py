"""A stranger's data file and images: nothing runs, nothing hangs, and what is odd is one line."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from ablate.__main__ import main
from ablate.data import image_listing
from ablate.data.catalogue import resolve
from ablate.data.data_errors import DataError, NotDownloaded
from ablate.data.data_settings import DataSettings
from ablate.data.datafile import read
from ablate.storage.yaml_files import YamlFileError, read_mapping

MakeSet = Callable[..., Path]
SOON = 10.0  # seconds; a second where nothing else runs
SPLITS = "train: images/train\nval: images/val\n"
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 9)}]}}\n" for i in range(1, 40))


def custom(file: Path, *, download: bool = False) -> DataSettings:
    return DataSettings.from_plain({"name": "custom", "path": str(file), "download": download})


def problem_of(file: Path) -> str:
    """The one line about a data file, which comes soon."""
    began = time.monotonic()
    with pytest.raises(DataError) as caught:
        resolve(custom(file))
    assert time.monotonic() - began < SOON
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


@pytest.mark.security(
    "Data file", "A `download:` script in it runs only with `data.download=true`, and never in `plan`."
)
@pytest.mark.parametrize("verb", [["plan"], []])
def test_its_download_script_does_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], verb: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script = f"open('{tmp_path}/ran.txt', 'w')"
    for name in ("mine", "coco8"):  # also under the name of a data set that Ultralytics ships
        file = tmp_path / f"{name}.yaml"
        file.write_text(f"path: nowhere\n{SPLITS}names: [cat]\ndownload: {script}\n")

        assert main([*verb, "data=custom", f"data.path={file.name}"]) == 2
        assert "data.download=true" in capfd.readouterr().err
    assert main(["plan", "data=custom", "data.path=mine.yaml", "data.download=true"]) == 2
    assert "is not on this machine" in capfd.readouterr().err
    assert not (tmp_path / "ran.txt").exists()


def test_what_ultralytics_ships_is_downloaded_as_ever() -> None:
    for path in ("coco8.yaml", "VOC.yaml", "VisDrone.yaml"):
        with pytest.raises(NotDownloaded):
            resolve(DataSettings("coco8", path))


@pytest.mark.parametrize("asked", [True, False])
def test_to_ask_for_the_download_is_no_part_of_the_settings_that_are_recorded(make_set: MakeSet, asked: bool) -> None:
    assert "download" not in custom(make_set(), download=asked).to_plain()


@pytest.mark.security(
    "Data file",
    "Aliases, nesting, numbers and size are bounded: a file of any content is answered in one line, in bounded time.",
)
@pytest.mark.parametrize(
    "content",
    [
        LAUGHS,
        MERGES,
        f"{LAUGHS}? *a39\n: 1\n",
        "names: &a [*a]\n",
        f"names: {'[' * 100_000}",
        f"names: {'- ' * 100_000}",
        "{" * 100_000,
        "names: " + ":".join(["59"] * 200_000),
        "names: 0x" + "f" * 3_000_000,
        "a: 1\n" * 25_000_000,
        "names: [" + ", ".join(map(str, range(200_000))) + "]\n",
    ],
    ids=["laughs", "merges", "key", "itself", "brackets", "dashes", "braces", "base 60", "hex", "100 MB", "many"],
)
def test_a_file_made_to_grow_is_answered(make_set: MakeSet, content: str) -> None:
    file = make_set()
    file.write_text(content + SPLITS)
    problem_of(file)
    with pytest.raises(YamlFileError):  # so are all others: there is one reader
        read_mapping(file)


@pytest.mark.security(
    "Data file", "A tag such as `!!python/object/apply:os.system` is refused, and nothing of it runs."
)
@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.system [touch ran.txt]",
        "!!python/name:os.system ''",
        "!x 1",
        "!!set {a}",
        "!!binary aGk=",
        "!!timestamp 2020-01-01",
        "!<tag:a.b,2020:c> d",
    ],
)
def test_a_tag_is_refused(make_set: MakeSet, tag: str) -> None:
    file = make_set()
    file.write_text(f"{SPLITS}names: {tag}\n")

    assert "line 3: the tag" in problem_of(file)
    assert not Path("ran.txt").exists()


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        ("names: [[a], b]", "class 0 must have a name of one line"),
        ("names: [a, null]", "class 1 must have a name"),
        ("names: {0: a, 1: {b: c}}", "class 1 must have a name"),
        ('names: ["a\\nb", c]', "class 0 must have a name of one line"),
        ('names: [a, "\\e[2Jc"]', "class 1 must have a name of one line"),
        ("names: [a, ' ']", "class 1 must have a name"),
        ("names: {0.5: a, 1: b}", "keys of 'names' must be the class ids"),
        ("names: {true: a, 0: b}", "keys of 'names' must be the class ids"),
        ("names: {-1: a, 0: b}", "'names' must number 2 classes"),
        ("names: cat", "'names' must be a list"),
        ("names: .nan", "'names' must be a list"),
        ("names: 2020-01-01", "'names' must be a list"),
        ("names: [a, b]\nnc: two", "'nc' must be a number of classes"),
        ("names: [a, b]\nnc: '2'", "'nc' must be a number of classes"),
        ("names: [a, b]\nnc: 2.0", "'nc' must be a number of classes"),
        ("names: [a, b]\nnc: true", "'nc' must be a number of classes"),
        ("names: [a, b]\nnc: -1", "'nc' must be a number of classes"),
        ("nc: 1000000000000", "'nc' must be a number of classes"),
        ("names: [a, b]\nkpt_shape: 17", "'kpt_shape' must be a list"),
        ("names: [a, b]\nkpt_shape: [17]", "'kpt_shape' must be two numbers"),
        ("names: [a, b]\nkpt_shape: [a, b]", "'kpt_shape' must be a list"),
        ("names: [a, b]\nkpt_shape: [.inf, 3]", "'kpt_shape' must be a list"),
        ("names: [a, b]\nflip_idx: {0: 1}", "'flip_idx' must be a list"),
        ("names: [a, b]\nchannels: 1000000000", "'channels' must be a whole number"),
        ("names: [a, b]\npath: [a, b]", "'path' must be a folder"),
        ("names: [a, b]\npath: 3", "'path' must be a folder"),
        ('names: [a, b]\npath: "a\\0b"', "'path' must be a folder"),
        ("names: [a, b]\npath: ~nobody-of-this-name/x", "does not exist"),
        (f"names: [a, b]\npath: {'x' * 5000}", "does not exist"),
        ("names: [a, b]\nnames: [c, d]", "the key 'names' is there already"),
        ("names: {0: a, 0: b}", "the key '0' is there already"),
        ("yes: 1\nnames: [a, b]", "the key True is no text"),
    ],
)
def test_an_odd_value_is_named(make_set: MakeSet, keys: str, what: str) -> None:
    file = make_set()
    file.write_text(f"{SPLITS}{keys}\n")
    assert what in problem_of(file)


@pytest.mark.parametrize("split", ["7", "[7]", "{a: b}", "true", "[[images/train]]", '"a\\nb"', '"a\\0b"', "[' ']"])
def test_an_odd_split_is_named(make_set: MakeSet, split: str) -> None:
    file = make_set()
    file.write_text(f"train: {split}\nval: images/val\nnames: [a, b]\n")
    assert "'train' must be a folder, a .txt list, or a list of these" in problem_of(file)


@pytest.mark.parametrize("content", [b"\xff\xfea\x00", bytes(range(256)), b"", b"\n\n", b"\x00" * 100, b"- a\n- b\n",
                                     b"a: 1\n---\nb: 2\n", b"PK\x03\x04zip"])  # fmt: skip
def test_a_file_that_is_none_is_one_line(make_set: MakeSet, content: bytes) -> None:
    file = make_set()
    file.write_bytes(content)
    assert str(file) in problem_of(file)


class TestPlaces:
    @pytest.mark.security(
        "Data file",
        "A path in it that leads out, to `/etc` or `/dev/zero`, is read as images and lists of images only.",
    )
    @pytest.mark.parametrize("place", ["/etc", "/proc/self/root", "/etc/passwd", "/dev", "/dev/zero", "/dev/null"])
    def test_a_path_that_leads_out(self, make_set: MakeSet, place: str) -> None:
        file = make_set()
        file.write_text(f"train: {place}\nval: images/val\nnames: [a, b]\n")
        problem = problem_of(file)
        assert "root:x:" not in problem, "nothing of a file's content is shown"

    def test_a_folder_that_is_no_data_set_is_given_up(
        self, make_set: MakeSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(image_listing, "MOST_FOLDERS", 20)
        for number in range(30):
            (tmp_path / "many" / str(number)).mkdir(parents=True)
        file = make_set()
        file.write_text(f"train: {tmp_path / 'many'}\nval: images/val\nnames: [a, b]\n")
        assert "more than 20 folders" in problem_of(file)

    def test_the_root_of_all_folders_is_given_up(self, make_set: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(image_listing, "MOST_FOLDERS", 20)
        file = make_set()
        file.write_text("train: /\nval: images/val\nnames: [a, b]\n")
        assert " /: " in problem_of(file) or problem_of(file).startswith("/: ")

    def test_links_that_double_with_each_level_are_given_up(self, make_set: MakeSet, tmp_path: Path) -> None:
        for level in range(40):
            folder = tmp_path / "links" / str(level)
            folder.mkdir(parents=True)
            for name in ("a", "b"):
                (folder / name).symlink_to(tmp_path / "links" / str(level + 1))
        (tmp_path / "links" / "40").mkdir()
        file = make_set()
        file.write_text(f"train: {tmp_path / 'links' / '0'}\nval: images/val\nnames: [a, b]\n")
        assert "again and again" in problem_of(file)

    @pytest.mark.security("Data file", "An image, label or list that is a pipe or a device is not waited for.")
    def test_a_pipe_is_not_waited_for(self, make_set: MakeSet) -> None:
        file = make_set()
        images, labels = file.parent / "images" / "train", file.parent / "labels" / "train"
        os.mkfifo(images / "pipe.png")
        (images / "endless.png").symlink_to("/dev/zero")
        (images / "folder.png").symlink_to("/etc")
        (labels / "0.txt").unlink()
        os.mkfifo(labels / "0.txt")
        (labels / "1.txt").unlink()
        (labels / "1.txt").symlink_to("/dev/zero")
        found = resolve(custom(file))

        assert found.images == {"train": 3, "val": 2}
        left_out = next(warning for warning in found.warnings if "left out" in warning)
        assert "pipe.png (cannot be read: it is no file but a pipe)" in left_out
        assert "endless.png (cannot be read: it is no file but a device)" in left_out
        os.mkfifo(file.parent / "list.txt")
        file.write_text("train: list.txt\nval: images/val\nnames: [a, b]\n")
        assert "it is no file but a pipe" in problem_of(file)

    def test_a_file_of_a_terabyte_is_not_read(self, make_set: MakeSet) -> None:
        file = make_set()
        os.truncate(file.parent / "images" / "train" / "0.png", 2**40)
        assert "0.png (cannot be read: is larger than 1,024 MiB)" in " ".join(resolve(custom(file)).warnings)
        os.truncate(file.parent / "labels" / "train" / "1.txt", 2**40)
        assert "1.txt: the file is larger than 8 MiB" in problem_of(file)
        os.truncate(file, 2**40)
        assert "larger than" in problem_of(file)

    def test_a_data_file_that_is_no_file_is_named(self, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe.yaml")
        for path in (str(tmp_path / "pipe.yaml"), str(tmp_path), "/dev/zero", "~nobody-of-this-name/x.yaml", "a\0b"):
            with pytest.raises(DataError):
                read(path)


def test_images_that_are_made_to_fill_the_memory_are_left_out(make_set: MakeSet) -> None:
    file = make_set()
    folder = file.parent / "images" / "train"
    Image.new("1", (13_400, 13_400)).save(folder / "huge.png")
    pages = [Image.new("1", (4_000, 4_000)) for _ in range(13)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:], compression="group4")
    left_out = next(warning for warning in resolve(custom(file)).warnings if "left out" in warning)

    assert "huge.png (more than 178,956,970 pixels" in left_out
    assert "pages.tif (13 frames with more than 178,956,970 pixels)" in left_out


@pytest.mark.security("Data file", "Nothing is written beside it or beside its images.")
def test_nothing_is_written_beside_it(make_set: MakeSet) -> None:
    file = make_set()
    before = subprocess.check_output(["find", str(file.parent)], text=True)
    resolve(custom(file))
    assert subprocess.check_output(["find", str(file.parent)], text=True) == before
