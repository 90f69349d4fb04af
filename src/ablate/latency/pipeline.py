"""Time the whole pipeline from an image in memory to its boxes: pre-processing, network, post-processing.

Pre- and post-processing are Ultralytics' predictor's own methods: letterbox to the square of the network, to a tensor
on the device, its scaling; then non-maximum suppression where the head needs it, boxes in pixels of the picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from ablate.latency.backends import TYPES, Forward, uses_events
from ablate.latency.latency_settings import Setting
from ablate.latency.timing import Stopwatch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn


class Pipeline:
    """One network between a predictor's pre- and post-processing.

    Args:
        network: The deployed network; only its attributes are used (stride, names, head).
        forward: Runs it.
        pictures: Images (H, W, C) of the network's channels, colours blue first, bytes; each round takes the next ones.
        imgsz: Side of the network's square input in pixels.
        setting: Batch, precision and backend.
        device: A torch device.
    """

    def __init__(
        self,
        network: nn.Module,
        forward: Forward,
        pictures: Sequence[NDArray[np.uint8]],
        imgsz: int,
        setting: Setting,
        device: str,
    ) -> None:
        from ultralytics.models.yolo.detect import DetectionPredictor

        batch, precision, backend = setting.batch, setting.precision, setting.backend
        self._forward, self._pictures, self._batch = forward, pictures, batch
        self._kind = TYPES[precision]
        # bfloat16 is no precision of Ultralytics' predictor, and torchvision's suppression has no half precision on
        # processors: predictions then go through it in fp32.
        self._in_fp32 = precision == "bf16" or (precision == "fp16" and device == "cpu")
        self._clock = Stopwatch(device, events=False)
        self._network_clock = Stopwatch(device, events=uses_events(backend))
        number = device.removeprefix("cuda:") if device.startswith("cuda") else device
        words = {"imgsz": imgsz, "device": number, "rect": False, "verbose": False, "save": False, "mode": "predict"}
        self._predictor = DetectionPredictor(overrides={**words, "task": "detect", "conf": 0.25})
        self._predictor.device = torch.device(device)
        self._predictor.imgsz = [imgsz, imgsz]
        self._predictor.model = SimpleNamespace(
            format="pt" if backend in ("eager", "compile") else backend,
            fp16=precision == "fp16",
            stride=int(max(getattr(network, "stride", torch.tensor([32])).max(), 32)),
            names=getattr(network, "names", {}),
            end2end=getattr(network, "end2end", False),
            dynamic=False,
        )

    def __call__(self, turn: int) -> tuple[float, float, float]:
        """Run the pictures of a round; return the milliseconds of pre-processing, network and post-processing."""
        first = turn * self._batch
        chosen = [self._pictures[(first + index) % len(self._pictures)] for index in range(self._batch)]
        self._predictor.batch = ([f"{index}.jpg" for index in range(self._batch)], chosen, [""] * self._batch)
        with torch.inference_mode():
            image, before = self._timed(self._clock, lambda: self._predictor.preprocess(chosen).to(self._kind))
            output, within = self._timed(self._network_clock, lambda: self._forward(image))
            self.results, after = self._timed(self._clock, lambda: self._post(output, image, chosen))
        return before, within, after

    def _post(self, output: Any, image: Tensor, pictures: list[NDArray[np.uint8]]) -> list[Any]:
        predictions = output[0] if isinstance(output, tuple | list) else output
        if not isinstance(predictions, torch.Tensor):
            predictions = torch.from_numpy(predictions).to(image.device)
        if self._in_fp32:
            predictions = predictions.float()
        boxes: list[Any] = self._predictor.postprocess(predictions, image, pictures)
        return boxes

    @staticmethod
    def _timed(clock: Stopwatch, work: Any) -> tuple[Any, float]:
        results: list[Any] = []
        milliseconds = clock.time(lambda: results.append(work()))
        return results[0], milliseconds


def read_pictures(paths: Sequence[str], channels: int = 3) -> list[NDArray[np.uint8]]:
    """Return the pictures that can be read with so many channels, decoded, as (H, W, C) bytes, colours blue first.

    Decoding is no part of the pipeline.
    """
    from ultralytics.utils.patches import imread

    import cv2  # isort: skip

    flag = {1: cv2.IMREAD_GRAYSCALE, 3: cv2.IMREAD_COLOR}.get(channels, cv2.IMREAD_UNCHANGED)  # as the trainer does
    decoded = [imread(path, flags=flag) for path in paths if Path(path).is_file()]
    return [picture for picture in decoded if picture is not None and picture.shape[2:] == (channels,)]


def drawn_pictures(count: int, imgsz: int, seed: int = 0, channels: int = 3) -> list[NDArray[np.uint8]]:
    """Return pictures of coloured rectangles on noise, used where there are no real ones: (imgsz, imgsz, C) bytes."""
    generator = np.random.default_rng(seed)
    pictures = []
    for _ in range(count):
        picture = generator.integers(90, 140, (imgsz, imgsz, channels), dtype=np.uint8)
        for _ in range(8):
            top, left = generator.integers(0, imgsz - imgsz // 4, 2)
            height, width = generator.integers(imgsz // 16, imgsz // 4, 2)
            picture[top : top + height, left : left + width] = generator.integers(0, 255, channels)
        pictures.append(picture)
    return pictures
