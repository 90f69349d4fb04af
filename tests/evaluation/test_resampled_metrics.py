"""Every metric of a resample is what evaluating the repeated images says, by Ultralytics' code or in COCO's form."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests.evaluation.test_average_precision import make_evidence

from ablate.evaluation.average_precision import coco_ap
from ablate.evaluation.image_bootstrap import draw, paired_bootstrap, resampled_accuracy
from ablate.records.predictions import Predictions
from ablate.settings.metric import METRICS, Metric

RESAMPLES = 12


def repeated(evidence: Predictions, seed: int, index: int) -> Predictions:
    """The images of a resample, one after the other, each under a name of its own."""
    times = dict(zip(sorted(evidence.names.tolist()), draw(len(evidence.names), seed, index).tolist(), strict=True))
    chosen = [image for image, name in enumerate(evidence.names.tolist()) for _ in range(times[name])]
    detected = [np.flatnonzero(evidence.image == image) for image in chosen]
    objects = [np.flatnonzero(evidence.true_image == image) for image in chosen]
    found, true = np.concatenate(detected).astype(int), np.concatenate(objects).astype(int)
    return replace(
        evidence,
        names=np.array([f"{position}.jpg" for position in range(len(chosen))]),
        sizes=evidence.sizes[chosen],
        image=np.repeat(np.arange(len(chosen)), [len(one) for one in detected]).astype(np.int32),
        true_image=np.repeat(np.arange(len(chosen)), [len(one) for one in objects]).astype(np.int32),
        **{name: getattr(evidence, name)[found] for name in ("cls", "conf", "box", "hit")},
        **{name: getattr(evidence, name)[true] for name in ("true_cls", "true_box")},
    )


def plain(evidence: Predictions, metric: Metric) -> float:
    """The metric of an evaluation, by other code than that under test."""
    if metric.size:
        size = coco_ap(evidence)[metric.size]
        return float("nan") if size is None else size
    from ultralytics.utils.metrics import Metric as UltralyticsMetric
    from ultralytics.utils.metrics import ap_per_class

    order = np.argsort(-evidence.conf, kind="stable")
    # The copies of a detection have equal confidences, which its sort may exchange: they are the same.
    results = ap_per_class(evidence.hit[order], evidence.conf[order], evidence.cls[order], evidence.true_cls)
    answer = UltralyticsMetric()
    answer.update(results[2:])
    read = {"map50_95": answer.map, "map50": answer.map50, "map75": answer.map75, "precision": answer.mp}
    return float({**read, "recall": answer.mr}[metric.name]) if len(evidence.true_cls) else float("nan")


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("seed", [0, 3])
def test_each_resample_is_a_plain_evaluation_of_its_images(name: str, seed: int) -> None:
    metric, evidence = METRICS[name], make_evidence(seed, images=14)
    found = resampled_accuracy(evidence, metric=metric, resamples=RESAMPLES, seed=seed)
    expected = [plain(evidence, metric), *(plain(repeated(evidence, seed, i), metric) for i in range(RESAMPLES))]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)
    assert len(np.unique(found)) > RESAMPLES / 2


@pytest.mark.parametrize("name", METRICS)
def test_the_interval_is_that_of_the_metric(name: str) -> None:
    metric, evidence = METRICS[name], make_evidence(1, images=14)
    worse = replace(evidence, hit=evidence.hit & (np.arange(len(evidence.cls)) % 3 > 0)[:, None], box=evidence.box // 2)
    found = paired_bootstrap([(worse, evidence)], resamples=60, metric=metric)
    assert found.interval.estimate == pytest.approx(plain(worse, metric) - plain(evidence, metric), abs=1e-9)
    assert found.interval.low <= found.interval.estimate <= found.interval.high
    assert found.interval.estimate < 0


@pytest.mark.parametrize("name", METRICS)
def test_where_nothing_is_detected_every_metric_is_zero(name: str) -> None:
    evidence = make_evidence(2, images=10)
    blind = replace(evidence, **{part: getattr(evidence, part)[:0] for part in ("image", "cls", "conf", "box", "hit")})
    found = resampled_accuracy(blind, metric=METRICS[name], resamples=5)
    assert set(found[np.isfinite(found)]) == {0.0}
