"""Parts of what a training leaves for its record: evaluated checkpoints, and images to show detections on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import msgspec
import numpy as np

from ablate.data.groups import ImageGroups
from ablate.evaluation.average_precision import coco_ap, ultralytics_ap
from ablate.evaluation.image_halves import second_half, second_half_of_groups
from ablate.records.metrics import ClassMetrics, Metrics
from ablate.records.predictions import Predictions
from ablate.records.realised import Evaluation, Halves, SampleImage


def evaluation(accuracy: Metrics, predictions: Predictions | None, names: Sequence[str], file: str) -> Evaluation:
    """Return what a record says of one evaluated checkpoint: over all classes, and for each class.

    Args:
        accuracy: As Ultralytics has it.
        predictions: The detections that it is computed from; None where they were not stored.
        names: Of the classes.
        file: The stored predictions, relative to the training's folder.
    """
    if predictions is None:
        return Evaluation(metrics=accuracy, per_class=(), predictions=file)
    precision = ultralytics_ap(predictions)
    measured = {
        index: ClassMetrics(
            name=names[index],
            map50_95=float(ap.mean()),
            map50=float(ap[0]),
            map75=float(ap[5]),
            instances=instances,
        )
        for index, ap, instances in zip(
            precision.classes.tolist(), precision.ap, precision.instances.tolist(), strict=True
        )
    }
    sizes = coco_ap(predictions)
    metrics = msgspec.structs.replace(
        accuracy,
        map75=precision.map75,
        map50_95_small=sizes["small"],
        map50_95_medium=sizes["medium"],
        map50_95_large=sizes["large"],
    )
    per_class = (measured.get(index, ClassMetrics(name=name, instances=0)) for index, name in enumerate(names))
    return Evaluation(metrics=metrics, per_class=tuple(per_class), predictions=file)


class HalvesOf(TypedDict):
    """The fields of a recipe on halves of the evaluated images."""

    halves: Halves | None
    group_halves: Halves | None


def halves_of(predictions: Predictions | None, groups: ImageGroups | None) -> HalvesOf:
    """Return how the evaluated images are halved, by single images and by whole groups.

    Args:
        predictions: On these images; None where they were not stored.
        groups: Images that belong together; None where none are known.
    """
    if predictions is None or not len(predictions.names):
        return {"halves": None, "group_halves": None}
    names = predictions.names.tolist()
    ends = np.cumsum(np.bincount(predictions.true_image, minlength=len(names)))
    classes = np.split(predictions.true_cls, ends[:-1])  # objects are stored image by image
    numbers = None if groups is None else groups.numbered(names)
    of_groups = None if groups is None else second_half_of_groups(names, classes, [groups.group_of(n) for n in names])
    return {
        "halves": _halves(names, classes, second_half(names, classes), numbers),
        "group_halves": None if of_groups is None else _halves(names, classes, of_groups, numbers),
    }


def _halves(
    names: Sequence[str], classes: Sequence[np.ndarray], second: np.ndarray, groups: np.ndarray | None
) -> Halves:
    """Describe two halves of images; `groups` has the number of the group of each image."""
    content = "\n".join(sorted(name for name, other in zip(names, second.tolist(), strict=True) if other))
    seen = [
        {
            int(which)
            for objects, other in zip(classes, second.tolist(), strict=True)
            if other == half
            for which in objects
        }
        for half in (False, True)
    ]
    return Halves(
        digest=hashlib.sha256(content.encode(errors="surrogateescape")).hexdigest()[:16],
        images=(int((~second).sum()), int(second.sum())),
        lacking=(tuple(sorted(seen[1] - seen[0])), tuple(sorted(seen[0] - seen[1]))),
        divided=None if groups is None else len(set(groups[second].tolist()) & set(groups[~second].tolist())),
    )


def sample_images(labels: Sequence[Mapping[str, Any]], count: int = 6) -> tuple[SampleImage, ...]:
    """Pick validation images spread over the split, with their true boxes.

    Args:
        labels: Ultralytics' labels, one for each image.
        count: How many to pick, about.
    """
    chosen = labels[:: max(len(labels) // count, 1)][:count]
    return tuple(
        SampleImage(
            path=str(label["im_file"]),
            boxes=tuple(
                (int(cls), float(x), float(y), float(w), float(h))
                for cls, (x, y, w, h) in zip(label["cls"].reshape(-1), label["bboxes"], strict=True)
            ),
        )
        for label in chosen
    )
