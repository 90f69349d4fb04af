"""Parts of what a training leaves for its record: evaluated checkpoints, and images to show detections on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ablate.evaluation.average_precision import coco_ap, ultralytics_ap
from ablate.records.metrics import ClassMetrics, Metrics
from ablate.records.predictions import Predictions
from ablate.records.realised import Evaluation, SampleImage


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
