"""What a trained detector sees on a few validation images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ablate.records.realised import Box, SampleImage
from ablate.records.trial_record import Detection, Sample
from ablate.storage.layout import SAMPLES

if TYPE_CHECKING:
    from torch import nn


def detect_samples(
    network: nn.Module, samples: Sequence[SampleImage], folder: Path, *, imgsz: int, device: str, conf: float = 0.25
) -> tuple[Sample, ...]:
    """Run a network on sample images and keep small copies of them.

    Args:
        network: A trained network of Ultralytics; it is left as it was.
        samples: Images with their true boxes.
        folder: The trial's folder; copies go to `samples/` in it.
        imgsz: Image size for inference.
        device: Device for inference.
        conf: Smallest confidence of a kept detection.

    Returns:
        The samples with what was detected. Pixels are those of the image as the detector sees it, which is upright
        where a photograph lies on its side in the file; so is the copy.
    """
    from PIL import Image
    from ultralytics.models.yolo.detect import DetectionPredictor

    if not samples:
        return ()
    (folder / SAMPLES).mkdir(exist_ok=True)
    trained_with = getattr(network, "args", {})
    options = {"imgsz": imgsz, "device": device, "conf": conf, "single_cls": trained_with.get("single_cls", False)}
    fixed = {"task": "detect", "mode": "predict", "batch": 1, "rect": True, "save": False, "verbose": False}
    predictor = DetectionPredictor(overrides={**options, **fixed, "project": str(folder)})
    predictor.setup_model(network, verbose=False)
    records = []
    for number, sample in enumerate(samples):
        result = predictor(sample.path)[0]
        image = f"{SAMPLES}/{number}.jpg"
        height, width = result.orig_shape
        Image.fromarray(_rgb(result.orig_img)).save(folder / image, quality=90)
        records.append(
            Sample(
                image=image,
                source=sample.path,
                width=width,
                height=height,
                truth=tuple(_corners(box, width, height) for box in sample.boxes),
                predictions=tuple(
                    _detection(float(cls), float(score), box.tolist())
                    for cls, score, box in zip(result.boxes.cls, result.boxes.conf, result.boxes.xyxy, strict=True)
                ),
            )
        )
    return tuple(records)


def _detection(cls: float, score: float, box: Sequence[float]) -> Detection:
    x1, y1, x2, y2 = (round(float(edge), 1) for edge in box)
    return int(cls), round(score, 4), x1, y1, x2, y2


def _rgb(pixels: np.ndarray) -> np.ndarray:
    """Pixels as the detector gets them, (H, W, C) in the order of OpenCV, as (H, W, 3) red green blue."""
    if pixels.shape[2] < 3:
        pixels = pixels[..., :1].repeat(3, axis=2)
    return np.ascontiguousarray(pixels[..., 2::-1])


def _corners(box: Box, width: int, height: int) -> Box:
    """A box (class, x, y, w, h) in parts of the image as (class, x1, y1, x2, y2) in pixels."""
    cls, x, y, w, h = box
    edges = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    x1, y1, x2, y2 = (round(edge, 1) for edge in edges)
    return int(cls), x1, y1, x2, y2
