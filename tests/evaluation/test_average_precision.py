"""Average precision from evidence against Ultralytics' and COCO's own code."""

from __future__ import annotations

import contextlib
import io
from dataclasses import replace

import numpy as np
import pytest

from ablate.evaluation.average_precision import SIZES, coco_ap, ultralytics_ap
from ablate.records.predictions import Predictions, quantised, ranked

SIDE = 400


def make_evidence(
    seed: int, *, images: int = 12, classes: int = 4, empty: bool = False, coarse: bool = False
) -> Predictions:
    """Random objects of all sizes and detections near them, matched by Ultralytics' own code."""
    import torch
    from ultralytics.models.yolo.detect import DetectionValidator
    from ultralytics.utils.metrics import box_iou

    random = np.random.default_rng(seed)
    validator = DetectionValidator.__new__(DetectionValidator)
    validator.iouv = torch.linspace(0.5, 0.95, 10)
    parts: list[dict[str, np.ndarray]] = []
    for image in range(images):
        true = 0 if empty or image % 5 == 4 else int(random.integers(1, 7))
        corner, size = random.uniform(0, 250, (true, 2)), 2 ** random.uniform(2.5, 7.2, (true, 2))
        truth = np.hstack([corner, np.minimum(corner + size, SIDE)])
        copies = int(random.integers(0, 4)) if image % 4 else 0
        near = np.repeat(truth, copies, axis=0) + random.normal(0, 4, (true * copies, 4))
        far = np.sort(random.uniform(0, SIDE, (5, 2, 2)), axis=1).reshape(5, 4)
        boxes = np.clip(np.vstack([near, far]), 0, SIDE) if image % 4 else np.empty((0, 4))
        true_cls = random.integers(0, classes, true)
        guessed = np.r_[np.repeat(true_cls, copies), random.integers(0, classes + 1, 5)][: len(boxes)]
        conf = np.sort(random.uniform(0, 1, len(boxes)).astype(np.float32))[::-1]
        conf = np.round(conf, 1) if coarse else conf
        truth, boxes = (quantised(b, SIDE, SIDE) * (SIDE / 65535) for b in (truth, boxes))
        hit = np.zeros((len(boxes), 10), dtype=bool)
        if len(truth) and len(boxes):
            overlaps = box_iou(torch.tensor(truth), torch.tensor(boxes))
            hit = validator.match_predictions(torch.tensor(guessed), torch.tensor(true_cls), overlaps).numpy()
        parts.append({"cls": guessed, "conf": conf, "box": boxes, "hit": hit, "true_cls": true_cls, "true_box": truth})
    joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Predictions(
        names=np.array([f"{image}.jpg" for image in range(images)]),
        sizes=np.full((images, 2), SIDE, dtype=np.int32),
        thresholds=np.linspace(0.5, 0.95, 10),
        image=np.repeat(np.arange(images), [len(part["cls"]) for part in parts]).astype(np.int32),
        cls=joined["cls"].astype(np.int32),
        conf=ranked(joined["conf"], np.argsort(-joined["conf"])),
        box=quantised(joined["box"], SIDE, SIDE),
        hit=joined["hit"],
        true_image=np.repeat(np.arange(images), [len(part["true_cls"]) for part in parts]).astype(np.int32),
        true_cls=joined["true_cls"].astype(np.int32),
        true_box=quantised(joined["true_box"], SIDE, SIDE),
    )


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("coarse", [False, True], ids=["", "equal confidences"])
def test_it_is_what_ultralytics_computes(seed: int, coarse: bool) -> None:
    from ultralytics.utils.metrics import ap_per_class

    evidence = make_evidence(seed, coarse=coarse)
    conf = np.round(evidence.conf, 9).astype(np.float32)  # as the detector said them, ties and all
    _, _, _, _, _, ap, classes, *_ = ap_per_class(evidence.hit, conf, evidence.cls, evidence.true_cls)
    ours = ultralytics_ap(evidence)
    np.testing.assert_array_equal(ours.classes, classes)
    np.testing.assert_allclose(ours.ap, ap, rtol=0, atol=1e-12)
    assert ours.map50_95 == pytest.approx(ap.mean(), abs=1e-12)
    assert ours.map75 == pytest.approx(ap[:, 5].mean(), abs=1e-12)
    assert 0.02 < ours.map50_95 < 0.95, "the data should be neither hopeless nor perfect"


def test_without_objects_it_is_nothing() -> None:
    evidence = make_evidence(0, empty=True)
    assert ultralytics_ap(evidence).map50_95 == 0.0
    assert coco_ap(evidence) == dict.fromkeys(SIZES)


@pytest.mark.parametrize("seed", range(6))
def test_sizes_are_cocos(seed: int) -> None:
    evidence = make_evidence(seed, images=20)
    ours, theirs = coco_ap(evidence), pycocotools_ap(evidence)
    assert {name for name, value in ours.items() if value is not None} == set(SIZES)
    for name in SIZES:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-9), name


def test_many_detections_of_a_class_are_cut_as_coco_does() -> None:
    few = make_evidence(1, images=20)
    copies = 40
    evidence = Predictions(
        **{
            **vars(few),
            **{name: np.repeat(vars(few)[name], copies, axis=0) for name in ("image", "cls", "box", "hit")},
            "conf": np.repeat(few.conf, copies) - np.tile(np.arange(copies), len(few.conf)) * 1e-10,
        }
    )
    ours, theirs = coco_ap(evidence), pycocotools_ap(evidence)
    for name in SIZES:
        assert ours[name] == pytest.approx(theirs[name], abs=1e-9), name


@pytest.mark.parametrize("nothing", ["detected", "there", "at all"])
def test_where_nothing_is_there_or_nothing_detected_there_is_no_accuracy_and_no_failure(nothing: str) -> None:
    evidence = make_evidence(1, images=6)
    detections, objects = ("image", "cls", "conf", "box", "hit"), ("true_image", "true_cls", "true_box")
    gone = {"detected": detections, "there": objects, "at all": (*detections, *objects)}[nothing]
    evidence = replace(evidence, **{name: getattr(evidence, name)[:0] for name in gone})

    found = ultralytics_ap(evidence)
    assert (found.map50_95, found.map50, found.map75) == (0.0, 0.0, 0.0)
    sizes = coco_ap(evidence)
    assert set(sizes) == set(SIZES)
    if nothing == "detected":
        assert len(found.classes) > 0
        assert {0.0} <= set(sizes.values()) <= {0.0, None}
    else:
        assert set(sizes.values()) == {None}


def pycocotools_ap(evidence: Predictions) -> dict[str, float]:
    """What COCO's own evaluation says of the same boxes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    boxes, truth = evidence.pixels()

    def entries(image: np.ndarray, cls: np.ndarray, corners: np.ndarray) -> list[dict[str, object]]:
        return [
            {
                "id": number + 1,
                "image_id": int(i),
                "category_id": int(c),
                "bbox": [x1, y1, x2 - x1, y2 - y1],
                "area": (x2 - x1) * (y2 - y1),
                "iscrowd": 0,
            }
            for number, (i, c, (x1, y1, x2, y2)) in enumerate(zip(image, cls, corners.tolist(), strict=True))
        ]

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "info": {},
            "images": [{"id": i, "width": SIDE, "height": SIDE} for i in range(len(evidence.names))],
            "categories": [{"id": int(c)} for c in np.unique(np.r_[evidence.cls, evidence.true_cls])],
            "annotations": entries(evidence.true_image, evidence.true_cls, truth),
        }
        coco.createIndex()
        found = entries(evidence.image, evidence.cls, boxes)
        for entry, conf in zip(found, evidence.conf, strict=True):
            entry["score"] = float(conf)
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(SIZES, evaluation.stats[3:6], strict=True))
