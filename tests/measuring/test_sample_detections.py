"""Sample images of a record: copy, size and boxes are of the image as the detector sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ablate.measuring.sample_detections import detect_samples
from ablate.records.realised import SampleImage

WIDTH, HEIGHT = 60, 100
BOX = (0.25, 0.2, 0.3, 0.2)
"""Of the only object, upright: centre and sides in parts of the image, in its upper left."""
STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation -> how the upright picture lies in the file."""


@pytest.fixture(scope="module")
def network() -> Any:
    """A network that was never trained: where it would find something is of no interest."""
    from ultralytics.nn.tasks import DetectionModel

    return DetectionModel("yolo26n.yaml", verbose=False).eval()


def photograph(path: Path, orientation: int, mode: str = "RGB") -> Path:
    """A grey picture with one red object, as a camera that was held that way writes it."""
    pixels = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    x, y, w, h = BOX
    rows, columns = (
        slice(round((c - s / 2) * n), round((c + s / 2) * n)) for c, s, n in ((y, h, HEIGHT), (x, w, WIDTH))
    )
    pixels[rows, columns] = (230, 20, 20)
    picture, turn = Image.fromarray(pixels), STORED[orientation]
    stored = picture if turn is None else picture.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.convert(mode).save(path, exif=exif)
    return path


def test_boxes_lie_on_their_objects_in_all_eight_orientations(tmp_path: Path, network: Any) -> None:
    paths = [photograph(tmp_path / f"{number}.{kind}", number) for kind in ("jpg", "png", "tif") for number in STORED]
    paths.append(photograph(tmp_path / "grey.png", 6, "L"))
    samples = [SampleImage(path=str(path), boxes=((2, *BOX),)) for path in paths]
    for record in detect_samples(network, samples, tmp_path, imgsz=64, device="cpu"):
        with Image.open(tmp_path / record.image) as copy:
            assert (record.width, record.height) == copy.size == (WIDTH, HEIGHT), record.source
            assert "exif" not in copy.info
            pixels = np.asarray(copy.convert("RGB")).astype(int)
        (box,) = record.truth
        assert box == (2, 6.0, 10.0, 24.0, 30.0)
        inside = np.zeros((HEIGHT, WIDTH), dtype=bool)
        inside[10:30, 6:24] = True
        is_object = pixels[..., 2] < 100
        if record.source.endswith("grey.png"):
            is_object = np.abs(pixels[..., 0] - 128) > 20
        assert (is_object & inside).sum() > 0.9 * inside.sum(), record.source
        assert (is_object & ~inside).sum() < 0.1 * inside.sum(), record.source
