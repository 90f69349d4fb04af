"""`python -m ablate data audit`: its words, what it writes, and strangers' names and images."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from ablate.__main__ import main
from ablate.audit.feature_cache import FeatureCache
from ablate.audit.features import features_of
from ablate.audit.recordings import find_recordings
from ablate.data.groups import find_groups
from ablate.data.shapes import ShapesSpec, picture

BOXES = "0 0.5 0.5 0.2 0.2\n0 0.2 0.2 0.1 0.1\n"


def _image(index: int) -> np.ndarray:
    return picture(ShapesSpec(imgsz=128), "train", index).pixels


def _write(folder: Path, name: str, image: np.ndarray, label: str | None = BOXES) -> None:
    path = folder / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    if label is not None:
        below = folder / "labels" / f"{name.rpartition('.')[0]}.txt"
        below.parent.mkdir(parents=True, exist_ok=True)
        below.write_text(label)


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    for index in range(4):
        _write(tmp_path, f"train/a{index}x.png", _image(index), f"0 0.5 0.5 0.{index + 1} 0.2\n0 0.3 0.3 0.1 0.1\n")
    _write(tmp_path, "val/copy.png", _image(0), "0 0.2 0.2 0.1 0.1\n0 0.5 0.5 0.1 0.2\n")
    _write(tmp_path, "val/other.png", _image(9), "0 0.5 0.5 0.2 0.2\n0 0.3 0.3 0.1 0.1\n")  # as a1x has
    _write(tmp_path, "val/bare.png", _image(8), None)
    _write(tmp_path, "val/white.png", np.full((64, 64, 3), 255, np.uint8))
    (tmp_path / "images/val/broken.png").write_bytes(b"no image")
    (tmp_path / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [thing]\n")
    return tmp_path / "data.yaml"


def test_what_was_found_is_written_and_printed(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "audit", str(data), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    folder = data.parent / "multirun" / "audits" / record["fingerprint"][:16]
    assert json.loads((folder / "audit.json").read_text()) == record
    (pair,) = record["pairs"]
    assert (pair["first"], pair["second"], pair["kind"]) == ("images/train/a0x.png", "images/val/copy.png", "same file")
    assert (pair["labels_differ"], pair["boxes"]) == (2, 4)
    assert record["same_labels"] == [["images/train/a1x.png", "images/val/other.png"]]
    assert record["without_labels"] == ["images/val/bare.png"]
    assert [each["image"] for each in record["not_compared"]] == ["images/val/white.png"]
    assert any("broken.png" in warning for warning in record["warnings"])
    groups = find_groups(data.parent / "multirun", record["fingerprint"])
    assert groups is not None
    assert groups.group_of("images/val/copy.png") == groups.group_of("images/train/a0x.png")
    assert main(["data", "audit", str(data)]) == 0
    assert "1 image of 4 in val" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "data audit"),
        (["audti"], "audti"),
        (["audit", "data=nope"], "valid: bccd"),
        (["audit", "nope.yaml"], "no such data file"),
        (["audit", "--jsn"], "--json"),
        (["audit", "data.imgs=1"], "imgsz"),
        (["audit", "module=hmha"], "module=hmha"),
        (["audit", "a.yaml", "b.yaml"], "one data file"),
        (["audit", "data=bccd", "b.yaml"], "either"),
        (["audit", "root="], "a folder is needed"),
        (["audit", "empty.yaml"], "no images"),
    ],
)
def test_bad_input_is_answered_in_one_line(
    words: list[str], reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABLATE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "empty.yaml").write_text("train: nothing\nval: nothing\nnames: [thing]\n")
    assert main(["data", *words]) == 2
    error = capsys.readouterr().err
    assert reason in error
    assert error.count("\n") == 1


@pytest.mark.security("Data file", "The page of an audit shows the name of an image as text, and loads nothing.")
def test_the_name_of_an_image_is_text_on_the_page(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = "<img src=x onerror=alert(1)>\x1b[31m.png"
    _write(data.parent, f"val/{name}", _image(1))
    assert main(["data", "audit", str(data)]) == 0
    assert "\x1b" not in capsys.readouterr().out
    (page,) = (data.parent / "multirun").rglob("audit.html")
    text = page.read_text(encoding="utf-8")
    assert "onerror" in text
    assert "<img src=x" not in text
    assert "\x1b" not in text
    assert "default-src 'none'" in text


@pytest.mark.security("Trial or sweep folder", "An audit writes through no link in its folder.")
def test_an_audit_writes_through_no_link(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "audit", str(data)]) == 0
    (groups,) = (data.parent / "multirun").rglob("groups.json")
    victim = data.parent / "victim"
    victim.write_text("mine")
    groups.unlink()
    groups.symlink_to(victim)
    assert main(["data", "audit", str(data)]) == 2
    assert victim.read_text() == "mine"


def test_features_are_kept_by_content_and_a_damaged_cache_is_made_anew(tmp_path: Path) -> None:
    features = features_of(cv2.imencode(".png", _image(0))[1].tobytes())
    assert features is not None
    path = tmp_path / "features.sqlite"
    path.write_bytes(b"damaged" * 1000)
    cache = FeatureCache(path)
    cache.put({"a": features})
    cache.close()
    again = FeatureCache(path)
    kept = again.get("a")
    assert kept is not None
    assert kept.packed() == features.packed()
    assert again.get("b") is None
    again.close()


def test_frames_of_recordings_are_grouped_and_numbered_photographs_are_not() -> None:
    frames, names = [], []
    for clip in "abc":
        scene = cv2.resize(_image(ord(clip)), (160, 120))
        for number in range(6):
            moved = np.roll(scene, 2 * number, axis=1)
            frames.append(moved)
            names.append(f"images/{'train' if number % 2 else 'val'}/clip_{clip}_{number:04d}.jpg")
    for number in range(20):
        frames.append(_image(200 + number))
        names.append(f"images/train/photo{number:03d}.jpg")
    features = [features_of(cv2.imencode(".png", frame)[1].tobytes()) for frame in frames]
    recordings = find_recordings(names, [each for each in features if each is not None], [])
    assert sorted(len(recording.images) for recording in recordings) == [6, 6, 6]
    assert all(set(recording.splits) == {"train", "val"} for recording in recordings)
