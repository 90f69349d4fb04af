"""Ultralytics' detection validator that stores the detections on every image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch.distributed as dist
from torch import Tensor, nn
from ultralytics.models.yolo.detect import DetectionValidator
from ultralytics.utils import RANK, ops

from ablate.data.groups import ImageGroups
from ablate.evaluation.image_halves import half_accuracies, second_half, second_half_of_groups
from ablate.records.metrics import GROUP_HALVES, HALVES
from ablate.records.predictions import Predictions, quantised, ranked
from ablate.storage.plain_values import Plain

T = TypeVar("T")


@dataclass(frozen=True)
class _Image:
    """The detections and the ground truth of one image; boxes as `Predictions` keeps them."""

    name: str
    size: tuple[int, int]
    cls: np.ndarray
    box: np.ndarray
    true_cls: np.ndarray
    true_box: np.ndarray


class _Truth(NamedTuple):
    """One image as Ultralytics prepares it, under its names: boxes in pixels of the size that the network saw."""

    cls: Tensor
    bboxes: Tensor
    ori_shape: tuple[int, int]
    imgsz: tuple[int, int]
    ratio_pad: Any
    im_file: str


class _Counted(NamedTuple):
    """What Ultralytics has counted, under its names; an array for each image.

    Attributes:
        tp: Whether each of n detections finds a true object at each threshold, (n, 10).
        conf, pred_cls: Of its detections, (n,).
        target_cls: Classes of its true objects.
    """

    tp: list[np.ndarray]
    conf: list[np.ndarray]
    pred_cls: list[np.ndarray]
    target_cls: list[np.ndarray]


class PredictionsValidator(DetectionValidator):
    """Evaluates as Ultralytics does; after a checkpoint, `predictions` holds what its metrics are computed from.

    Images are named by their place below the data set's folder; those that lie elsewhere by their own folder and file,
    so that a copy of the data set in another place has the same names.

    Attributes:
        predictions: Of the last checkpoint evaluated; None after a validation within a training, and in the helping
            processes of a distributed one.
        halves: After a validation within a training: accuracies on two halves of the images, under the names that they
            have in an epoch's row.
        groups: Images that belong together; None where none are known.
    """

    predictions: Predictions | None = None
    halves: dict[str, float]
    groups: ImageGroups | None = None
    _halved: list[str] | None = None
    _of_groups: np.ndarray | None = None
    _images: list[_Image]
    _names: list[str]

    def init_metrics(self, model: nn.Module) -> None:
        """Begin an evaluation."""
        super().init_metrics(model)
        self.args.save_json = False  # on COCO itself it would put another library's mAP in the place of its own
        self.predictions = None
        self.halves = {}
        self._images = []
        self._names = []

    def update_metrics(self, preds: list[dict[str, Tensor]], batch: Plain) -> None:
        """Count the detections on a batch of images, and store them."""
        super().update_metrics(preds, batch)
        if self.training:
            self._names += map(self._name, batch["im_file"][: len(preds)])
        else:
            self._images += [self._image(index, detections, batch) for index, detections in enumerate(preds)]

    def _image(self, index: int, detections: dict[str, Tensor], batch: Plain) -> _Image:
        prepared = self._prepare_batch(index, batch)
        truth = _Truth(*(prepared[name] for name in _Truth._fields))
        height, width = truth.ori_shape[:2]

        def original(scaled: Tensor) -> np.ndarray:
            unscaled = ops.scale_boxes(truth.imgsz, scaled.clone(), truth.ori_shape, ratio_pad=truth.ratio_pad)
            return quantised(unscaled.cpu().numpy(), width, height)

        return _Image(
            name=self._name(truth.im_file),
            size=(int(width), int(height)),
            cls=detections["cls"].cpu().numpy().astype(np.int32),
            box=original(detections["bboxes"].float()),
            true_cls=truth.cls.cpu().numpy().astype(np.int32),
            true_box=original(truth.bboxes.float()) if len(truth.cls) else np.empty((0, 4), dtype=np.uint16),
        )

    def _name(self, file: str) -> str:
        path, root = Path(file), Path(str(self.data["path"]))
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else f"{path.parent.name}/{path.name}"

    def gather_stats(self) -> None:
        """Gather the images of all processes of a distributed training."""
        super().gather_stats()
        if RANK > -1:
            self._images, self._names = _gathered(self._images), _gathered(self._names)

    def get_stats(self) -> dict[str, float]:
        """Compute the metrics; store what they are computed from, which Ultralytics then discards."""
        if self.training:
            self.halves = self._on_halves()
        else:
            self.predictions = self._predictions()
        stats: dict[str, float] = super().get_stats()
        return stats

    @property
    def _counted(self) -> _Counted:
        return _Counted(*(self.metrics.stats[name] for name in _Counted._fields))

    def _on_halves(self) -> dict[str, float]:
        counted, names = self._counted, self._names
        of_images = second_half(names, counted.target_cls)
        groups = None if self.groups is None else [self.groups.group_of(name) for name in names]
        if groups is not None and self._halved != names:  # the same in every epoch, and slow for many images
            self._halved, self._of_groups = names, second_half_of_groups(names, counted.target_cls, groups)
        of_groups = None if groups is None else self._of_groups
        found: dict[str, float] = {}
        for keys, second in ((HALVES, of_images), (GROUP_HALVES, of_groups)):
            if second is not None:
                each = half_accuracies(second, *counted)
                found |= dict(zip(keys, (*each.map50_95, *each.map50), strict=True))
        return found

    def _predictions(self) -> Predictions:
        images = self._images
        hits, confidences = np.concatenate(self._counted.tp, 0), np.concatenate(self._counted.conf, 0)
        return Predictions(
            names=np.array([image.name for image in images], dtype=str),
            sizes=np.array([image.size for image in images], dtype=np.int32).reshape(-1, 2),
            thresholds=np.round(self.iouv.cpu().numpy().astype(np.float64), 2),
            image=np.repeat(np.arange(len(images), dtype=np.int32), [len(image.cls) for image in images]),
            cls=_joined([image.cls for image in images]),
            conf=ranked(confidences, np.argsort(-confidences)),  # the very order that Ultralytics ranks by
            box=_joined([image.box for image in images]).reshape(-1, 4),
            hit=hits.reshape(-1, self.niou).astype(bool),
            true_image=np.repeat(np.arange(len(images), dtype=np.int32), [len(image.true_cls) for image in images]),
            true_cls=_joined([image.true_cls for image in images]),
            true_box=_joined([image.true_box for image in images]).reshape(-1, 4),
        )


def _gathered(own: list[T]) -> list[T]:
    """Return the entries of all processes of a distributed training, in the first one; none in the others."""
    parts: list[list[T]] | None = [[]] * dist.get_world_size() if RANK == 0 else None
    dist.gather_object(own, parts, dst=0)
    return [entry for part in parts or [] for entry in part]


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(parts, 0) if parts else np.empty(0, dtype=np.int32)
