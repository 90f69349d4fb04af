from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ablate.data import shapes
from ablate.data.shapes import ShapesSpec, digest, encode_label, encode_png, ensure, is_whole, picture

SMALL = ShapesSpec(train_images=4, val_images=2, imgsz=48)
CONF = Path(__file__).parents[2] / "conf" / "data" / "shapes.yaml"


def test_the_default_set_is_pinned_to_its_bytes() -> None:
    assert digest(ensure(ShapesSpec())) == "ff66a18b6ef18a98100fd942c1300a6108c811d646f84593873e9763bec5174d"


def test_the_config_group_holds_the_spec_s_defaults() -> None:
    assert ShapesSpec.from_options(yaml.safe_load(CONF.read_text())) == ShapesSpec()
    assert set(yaml.safe_load(CONF.read_text())) == {"name", "path", *ShapesSpec.__dataclass_fields__}


def test_a_png_of_ours_reads_back_equal_in_pillow_and_opencv() -> None:
    import cv2

    pixels = np.random.RandomState(0).randint(0, 256, (150, 160, 3)).astype(np.uint8)  # more than one stored block
    content = encode_png(pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), pixels)
    decoded = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded[..., ::-1], pixels)


def test_a_label_says_class_centre_and_size_in_parts_of_the_image() -> None:
    made = picture(SMALL, "train", 0)
    rows = [line.split() for line in encode_label(made).splitlines()]
    assert len(rows) == len(made.boxes)
    for (name, *values), (cls, x1, y1, x2, y2) in zip(rows, made.boxes, strict=True):
        assert int(name) == cls
        x, y, w, h = (float(value) * 48 * 8 for value in values)
        assert (x - w / 2, y - h / 2, x + w / 2, y + h / 2) == pytest.approx((x1, y1, x2, y2), abs=0.01)


def test_a_longer_set_begins_with_the_shorter_one() -> None:
    longer = ShapesSpec(train_images=6, val_images=2, imgsz=48)
    for name in ("images/train/000003.png", "labels/train/000003.txt", "images/val/000001.png"):
        assert (ensure(SMALL) / name).read_bytes() == (ensure(longer) / name).read_bytes()


def test_train_and_val_share_no_image() -> None:
    folder = ensure(ShapesSpec(train_images=20, val_images=20, imgsz=32))
    contents = [path.read_bytes() for path in folder.glob("images/*/*.png")]
    assert len(set(contents)) == 40


def test_a_whole_set_is_not_drawn_again() -> None:
    folder = ensure(SMALL)
    before = (folder / "manifest.json").stat().st_mtime_ns
    assert ensure(SMALL) == folder
    assert (folder / "manifest.json").stat().st_mtime_ns == before


@pytest.mark.parametrize("damage", ["change", "remove", "truncate", "manifest"])
def test_a_damaged_set_is_noticed_and_drawn_again(damage: str) -> None:
    folder = ensure(SMALL)
    right = digest(folder)
    victim = folder / "images" / "val" / "000001.png"
    content = victim.read_bytes()
    if damage == "change":
        victim.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
    elif damage == "remove":
        victim.unlink()
    elif damage == "truncate":
        victim.write_bytes(content[:-20])
    else:
        (folder / "manifest.json").write_text("{}")
    assert not is_whole(folder)
    assert ensure(SMALL) == folder
    assert is_whole(folder)
    assert digest(folder) == right
    assert victim.read_bytes() == content


def test_an_interrupted_drawing_leaves_nothing(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shapes, "encode_label", interrupt)
    with pytest.raises(KeyboardInterrupt):
        ensure(SMALL)
    assert list((cache / "shapes").iterdir()) == []


def test_two_processes_can_ask_for_a_set_at_once(cache: Path) -> None:
    code = (
        "from ablate.data.shapes import *; import sys;"
        "sys.stdin.readline(); print(ensure(ShapesSpec(train_images=40, val_images=2, imgsz=64)))"
    )
    source = Path(shapes.__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(source)}
    asked = [
        subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, env=environment, text=True)
        for _ in range(3)
    ]
    time.sleep(0.3)
    answers = [process.communicate("go\n", timeout=120)[0].strip() for process in asked]
    assert [process.returncode for process in asked] == [0, 0, 0]
    assert len(set(answers)) == 1
    assert is_whole(Path(answers[0]))
    assert [path.name for path in (cache / "shapes").iterdir()] == [Path(answers[0]).name]


@pytest.mark.parametrize(
    ("field", "value"),
    [("imgsz", 8), ("train_images", 0), ("noise", 65), ("seed", -1), ("objects", True), ("clutter", 1.5)],
)
def test_a_number_out_of_range_is_an_error_that_names_it(field: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"data\.{field}={value} must be a whole number from \d+ to \d+"):
        ShapesSpec.from_options({field: value})
