from __future__ import annotations

import functools
import http.server
import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ablate.data import bccd
from ablate.data.catalogue import DataError, NotDownloaded, check, resolve
from ablate.data.data_settings import DataSettings

CONF = Path(__file__).parents[2] / "conf" / "data" / "bccd.yaml"


def annotation(*boxes: tuple[str, int, int, int, int]) -> str:
    things = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, a, b, c, d in boxes
    )
    return f"<annotation><size><width>64</width><height>48</height></size>{things}</annotation>"


def archive(path: Path, changes: Mapping[str, str | None] | None = None) -> Path:
    """A zip like the source's, with five images; a change replaces or (None) leaves out a file of that name."""
    root = "BCCD_Dataset-main"
    files: dict[str, str | bytes] = {f"{root}/LICENSE": "MIT", f"{root}/README.md": "blood"}
    for split, stems in {"train": "a b c", "val": "d", "test": "e"}.items():
        files[f"{root}/BCCD/ImageSets/Main/{split}.txt"] = stems.replace(" ", "\n") + "\n"
        for stem in stems.split():
            out = io.BytesIO()
            Image.new("RGB", (64, 48), (50 * (ord(stem) - ord("a")), 20, 40)).save(out, "jpeg")
            files[f"{root}/BCCD/JPEGImages/{stem}.jpg"] = out.getvalue()
            files[f"{root}/BCCD/Annotations/{stem}.xml"] = annotation(
                ("WBC", 0, 0, 32, 24), ("RBC", 10, 10, 20, 30), ("Platelets", 40, 30, 64, 48)
            )
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            changed = (changes or {}).get(Path(name).name, content)
            if changed is not None:
                file.writestr(name, changed)
    return path


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """Serves the files of `tmp_path/served` on this machine."""
    (tmp_path / "served").mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


def test_the_archive_is_fetched_and_converted_with_its_own_splits(server: str, tmp_path: Path, cache: Path) -> None:
    archive(tmp_path / "served" / "bccd.zip")
    data = DataSettings("bccd", None, f"{server}/bccd.zip")
    with pytest.raises(NotDownloaded, match=r"bccd is not on this machine: .*data\.path=<data file>"):
        check(data)
    found = resolve(data, download=True)
    assert found.classes == ["WBC", "RBC", "Platelets"]
    assert found.images == {"train": 3, "val": 1, "test": 1}
    assert found.instances_per_class["train"] == [3, 3, 3]
    folder = cache / "datasets" / "bccd"
    rows = (folder / "labels" / "train" / "a.txt").read_text().splitlines()
    assert rows[0] == "0 0.250000 0.250000 0.500000 0.500000"
    assert rows[1] == "1 0.234375 0.416667 0.156250 0.416667"
    assert (folder / "LICENSE").read_text() == "MIT"
    assert [path.name for path in folder.parent.iterdir()] == ["bccd"]
    check(data)
    assert resolve(data) == found


def test_a_box_without_area_stays_and_is_a_warning(tmp_path: Path) -> None:
    source = archive(tmp_path / "bccd.zip", {"b.xml": annotation(("RBC", 5, 5, 9, 9), ("Platelets", 7, 7, 7, 7))})
    found = resolve(DataSettings.from_plain({"name": "bccd", "url": source.as_uri()}), download=True)
    assert found.warnings == ["train: 1 box without area (first: b.txt, line 2)"]
    assert found.instances["train"] == 8


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"train.txt": None}, r"the archive has no BCCD/ImageSets/Main/train\.txt"),
        ({"val.txt": None}, "not the archive of BCCD"),
        ({"a.xml": "<annotation><size>"}, r"a\.xml: this is not an annotation of BCCD"),
        ({"a.xml": annotation(("Cat", 0, 0, 9, 9))}, r"a\.xml: this is not an annotation of BCCD"),
        ({"a.xml": "<annotation/>"}, r"a\.xml: this is not an annotation of BCCD \(no size/width\)"),
    ],
)
def test_an_archive_that_is_not_the_source_s_leaves_nothing_behind(
    tmp_path: Path, cache: Path, changes: dict[str, str | None], what: str
) -> None:
    source = archive(tmp_path / "bccd.zip", changes)
    with pytest.raises(DataError, match=what):
        bccd.fetch(source.as_uri(), cache / "datasets" / "bccd")
    assert list((cache / "datasets").iterdir()) == []


def test_what_is_no_archive_is_an_error(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "page.zip").write_text("<html>not found</html>")
    with pytest.raises(DataError, match="not the archive of BCCD"):
        bccd.fetch((tmp_path / "page.zip").as_uri(), cache / "bccd")


def test_a_failed_download_says_how_to_go_on_without(server: str, cache: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.zip: the download failed \(.*404.*\); data\.path=<data file>"):
        bccd.fetch(f"{server}/nowhere.zip", cache / "bccd")


def test_a_copy_of_ones_own_needs_no_download(tmp_path: Path, cache: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    bccd.convert(archive(tmp_path / "bccd.zip"), copy)
    data = yaml.safe_load(CONF.read_text()) | {"path": str(copy / "bccd.yaml")}
    assert resolve(DataSettings.from_plain(data)).images == {"train": 3, "val": 1, "test": 1}
    assert not (cache / "datasets").exists()


def test_the_address_in_the_config_is_one_fixed_archive() -> None:
    data = yaml.safe_load(CONF.read_text())
    assert data["url"].startswith("https://github.com/Shenggan/BCCD_Dataset/archive/")
    assert len(Path(data["url"]).stem) == 40  # a commit


def test_a_full_disk_is_not_told_as_a_download_that_failed(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = archive(tmp_path / "bccd.zip")
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("Linux only")
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda path, *words: opened(full if path.name == "source.zip" else path, *words))
    with pytest.raises(OSError, match="No space left on device"):
        bccd.fetch(source.as_uri(), cache / "bccd")
