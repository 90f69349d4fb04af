"""A thousand resamples of a validation split as large as COCO's: time and memory, beside evaluating each plainly.

    python benchmarks/bootstrap.py [--resamples 1000] [--images 5000] [--detections 300000] [--objects 36000]

A pair of simulated detectors with 80 classes. The plain way repeats the chosen images' detections and lets Ultralytics
evaluate them; it is timed on a few resamples, which must come out equal to 1e-9, and extrapolated to all.
"""

from __future__ import annotations

import argparse
import os
import resource
import time

import numpy as np
from common import keep

from ablate.evaluation.image_bootstrap import draw, paired_bootstrap, resampled_accuracy
from ablate.records.predictions import Predictions

CLASSES = 80
THRESHOLDS = np.linspace(0.5, 0.95, 10)
PLAIN = 5


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name, size in (("resamples", 1000), ("images", 5000), ("detections", 300_000), ("objects", 36_000)):
        parser.add_argument(f"--{name}", type=int, default=size)
    asked = parser.parse_args()
    baseline, variant = (detector(asked.images, asked.detections, asked.objects, skill) for skill in (0.75, 0.77))
    before = peak_mb()
    wall, cpu = time.perf_counter(), time.process_time()
    found = paired_bootstrap([(variant, baseline)], resamples=asked.resamples)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_mb()
    plain, worst = by_ultralytics(baseline)
    keep(
        "bootstrap",
        {
            **vars(asked),
            "classes": CLASSES,
            "true detections": int(baseline.hit.sum()),
            "interval": list(found.interval),
            "seconds": round(wall, 2),
            "processor seconds": round(cpu, 2),
            "peak memory MB": round(peak),
            "of it before the bootstrap MB": round(before),
            "plain seconds, extrapolated": round(2 * asked.resamples * plain, 1),
            "plain seconds, measured of one resample of one detector": round(plain, 4),
            "times as fast": round(2 * asked.resamples * plain / wall, 1),
            "largest difference from plain": worst,
            "load of the machine": os.getloadavg()[0],
        },
    )


def detector(images: int, detections: int, objects: int, skill: float) -> Predictions:
    """Predictions of a detector that finds this fraction of the objects; classes as unequal as 1, 1/2, 1/3, ..."""
    labels, random = np.random.default_rng(0), np.random.default_rng(int(100 * skill))
    share = 1 / np.arange(1, CLASSES + 1)
    share /= share.sum()
    true_image, true_cls = np.sort(labels.integers(0, images, objects)), labels.choice(CLASSES, objects, p=share)
    matched = np.flatnonzero(random.random(objects) < skill)
    false = detections - len(matched)
    image = np.concatenate([true_image[matched], random.integers(0, images, false)])
    cls = np.concatenate([true_cls[matched], random.choice(CLASSES, false, p=share)])
    conf = np.concatenate([random.beta(3, 2, len(matched)), random.beta(1, 6, false)]).astype(np.float16)
    hit = np.zeros((detections, len(THRESHOLDS)), dtype=bool)
    hit[: len(matched)] = random.uniform(0.5, 1, (len(matched), 1)) >= THRESHOLDS
    order = np.lexsort((-conf, image))
    return Predictions(
        names=np.array([f"{index:012d}.jpg" for index in range(images)]),
        sizes=np.full((images, 2), 640, dtype=np.int32),
        thresholds=THRESHOLDS,
        image=image[order].astype(np.int32),
        cls=cls[order].astype(np.int32),
        conf=conf[order].astype(np.float32),
        box=np.zeros((detections, 4), dtype=np.uint16),
        hit=hit[order],
        true_image=true_image.astype(np.int32),
        true_cls=true_cls.astype(np.int32),
        true_box=np.zeros((objects, 4), dtype=np.uint16),
    )


def by_ultralytics(evidence: Predictions) -> tuple[float, float]:
    """Seconds that Ultralytics takes for one resample, and the largest difference of its mAP from ours."""
    from ultralytics.utils.metrics import ap_per_class

    ours = resampled_accuracy(evidence, resamples=PLAIN)[1:]
    order = np.argsort(-evidence.conf, kind="stable")
    seconds, worst = [], 0.0
    for index in range(PLAIN):
        times = draw(len(evidence.names), 0, index)
        start = time.perf_counter()
        chosen = np.repeat(order, times[evidence.image[order]])
        true_cls = np.repeat(evidence.true_cls, times[evidence.true_image])
        falling = np.linspace(1, 0, len(chosen))  # Ultralytics' sort keeps no order of equal confidences
        answer = ap_per_class(evidence.hit[chosen], falling, evidence.cls[chosen], true_cls)[5].mean()
        seconds.append(time.perf_counter() - start)
        worst = max(worst, abs(float(answer) - ours[index]))
    return float(np.median(seconds)), worst


def peak_mb() -> float:
    """Most memory that this process has held so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


if __name__ == "__main__":
    main()
