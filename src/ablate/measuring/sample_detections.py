"""What a trained detector sees on a few validation images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def detect_samples(
    checkpoint: Path, samples: Sequence[dict[str, Any]], folder: Path, *, imgsz: int, device: str, conf: float = 0.25
) -> list[dict[str, Any]]:
    """Run a checkpoint on sample images and keep small copies of them.

    Args:
        checkpoint: A trained network.
        samples: ``{"path", "boxes": [[class, x, y, w, h]]}``, centres and sides in parts of the image.
        folder: The trial's folder; copies go to `samples/` in it.
        imgsz: Image size for inference.
        device: Device for inference.
        conf: Smallest confidence of a kept detection.

    Returns:
        The samples as records: image path relative to `folder`, its source, width and height, truth
        ``[class, x1, y1, x2, y2]`` and predictions ``[class, confidence, x1, y1, x2, y2]``. Pixels are those of the
        image as the detector sees it, which is upright where a photograph lies on its side in the file; so is the copy.
    """
    from PIL import Image
    from ultralytics import YOLO

    if not samples:
        return []
    (folder / "samples").mkdir(exist_ok=True)
    network = YOLO(str(checkpoint), task="detect")
    records = []
    for number, sample in enumerate(samples):
        result = network.predict(
            sample["path"], imgsz=imgsz, device=device, conf=conf, verbose=False, save=False, project=str(folder)
        )[0]
        image = f"samples/{number}.jpg"
        height, width = result.orig_shape
        Image.fromarray(_rgb(result.orig_img)).save(folder / image, quality=90)
        records.append(
            {
                "image": image,
                "source": sample["path"],
                "width": width,
                "height": height,
                "truth": [_corners(box, width, height) for box in sample["boxes"]],
                "predictions": [
                    [int(cls), round(float(score), 4), *(round(float(v), 1) for v in box)]
                    for cls, score, box in zip(result.boxes.cls, result.boxes.conf, result.boxes.xyxy, strict=True)
                ],
            }
        )
    return records


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """Pixels as the detector gets them, (H, W, C) in the order of OpenCV, as (H, W, 3) red green blue."""
    if pixels.shape[2] < 3:
        pixels = pixels[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray(pixels[..., 2::-1])


def _corners(box: Sequence[float], width: int, height: int) -> list[float]:
    """A box (class, x, y, w, h) in parts of the image as (class, x1, y1, x2, y2) in pixels."""
    cls, x, y, w, h = box
    edges = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    return [int(cls), *(round(edge, 1) for edge in edges)]
