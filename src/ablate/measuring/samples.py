"""What a trained detector sees on a few validation images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def detect_samples(
    checkpoint: Path, samples: Sequence[dict[str, Any]], folder: Path, *, imgsz: int, device: str, conf: float = 0.25
) -> list[dict[str, Any]]:
    """Run a checkpoint on sample images and keep small copies of them.

    Args:
        checkpoint: A trained network.
        samples: ``{"path", "width", "height", "truth": [[class, x1, y1, x2, y2]]}``, boxes in pixels.
        folder: The trial's folder; copies go to `samples/` in it.
        imgsz: Image size for inference.
        device: Device for inference.
        conf: Smallest confidence of a kept detection.

    Returns:
        The samples as records: image path relative to `folder`, its source, truth, and predictions
        ``[class, confidence, x1, y1, x2, y2]``.
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
        with Image.open(sample["path"]) as picture:
            picture.convert("RGB").save(folder / image, quality=90)
        records.append(
            {
                "image": image,
                "source": sample["path"],
                "width": sample["width"],
                "height": sample["height"],
                "truth": sample["truth"],
                "predictions": [
                    [int(cls), round(float(score), 4), *(round(float(v), 1) for v in box)]
                    for cls, score, box in zip(result.boxes.cls, result.boxes.conf, result.boxes.xyxy, strict=True)
                ],
            }
        )
    return records
