"""The vectorised bootstrap says exactly what evaluating each resample plainly says, and refuses what is not paired."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from ultralytics.utils.metrics import Metric, ap_per_class

from ablate.evaluation import image_bootstrap as bootstrap
from ablate.evaluation.average_precision import ultralytics_ap
from ablate.evaluation.image_bootstrap import NotPaired, draw, paired_bootstrap, resampled_accuracy
from ablate.records.predictions import Predictions

THRESHOLDS = np.linspace(0.5, 0.95, 10)


def small_evidence(seed: int, images: int = 7, detector: int = 0, grid: int = 20) -> Predictions:
    """Predictions as awkward as it comes.

    Equal confidences; images without objects, without detections, without either; class 3 is found but never true,
    class 2 is true once and so vanishes from many resamples, class 7 is true and never found.
    """
    labels, random = np.random.default_rng(seed), np.random.default_rng([seed, detector])
    true = [(i, c) for i in range(images) for c in (0, 1) for _ in range(max(0, labels.integers(-2, 5)))]
    true += [(int(labels.integers(images)), 2), (int(labels.integers(images)), 7)]
    true.sort(key=lambda row: row[0])
    found, hits = [], []
    for image in range(images):
        blind = random.random() < 0.2
        for cls in (0, 1, 2, 3):
            objects, count = true.count((image, cls)), 0 if blind else int(random.integers(0, 7))
            hit = np.zeros((count, len(THRESHOLDS)), dtype=bool)
            for threshold in range(len(THRESHOLDS)):
                matched = random.integers(0, min(objects, count) + 1)
                hit[random.permutation(count)[:matched], threshold] = True
            found += [(image, cls)] * count
            hits.append(hit)
    table = np.array(found, dtype=np.int32).reshape(-1, 2)
    conf = (random.integers(1, grid, len(table)) / grid).astype(np.float32)
    order = np.lexsort((random.random(len(table)), table[:, 0]))  # the classes of an image mixed
    table = table[order]
    true_table = np.array(true, dtype=np.int32)
    return Predictions(
        names=np.array([f"{'zyxabcdefghij'[i]}{i}.jpg" for i in range(images)]),
        sizes=np.full((images, 2), 640, dtype=np.int32),
        thresholds=THRESHOLDS,
        image=table[:, 0],
        cls=table[:, 1],
        conf=conf[order],
        box=np.zeros((len(table), 4), dtype=np.uint16),
        hit=np.concatenate(hits)[order],
        true_image=true_table[:, 0],
        true_cls=true_table[:, 1],
        true_box=labels.integers(0, 65535, (len(true), 4)).astype(np.uint16),
    )


def plain_map(evidence: Predictions, seed: int, index: int) -> float:
    """Repeat the chosen images' detections and true objects, and let Ultralytics evaluate them.

    The copies of a detection follow one another where confidences are equal; Ultralytics' sort, which keeps no order
    of equal ones, is given confidences that fall strictly.
    """
    counts = dict(zip(sorted(evidence.names.tolist()), draw(len(evidence.names), seed, index).tolist(), strict=True))
    times = np.array([counts[name] for name in evidence.names])
    order = np.argsort(-evidence.conf, kind="stable")
    chosen = np.repeat(order, times[evidence.image[order]])
    true = np.repeat(np.arange(len(evidence.true_cls)), times[evidence.true_image])
    falling = np.linspace(1, 0.001, len(chosen))
    results = ap_per_class(evidence.hit[chosen], falling, evidence.cls[chosen], evidence.true_cls[true])
    metric = Metric()
    metric.update(results[2:])
    return float(metric.map) if len(true) else float("nan")


def without_objects(evidence: Predictions, keep: int) -> Predictions:
    """The same with the first `keep` true objects only, and what was found of the others no longer a hit."""
    left = {(i, c) for i, c in zip(evidence.true_image[:keep], evidence.true_cls[:keep], strict=True)}
    still = np.array([(i, c) in left for i, c in zip(evidence.image, evidence.cls, strict=True)], dtype=bool)
    first = np.zeros_like(still)
    for pair in left:
        first[np.flatnonzero(still & (evidence.image == pair[0]) & (evidence.cls == pair[1]))[:1]] = True
    return replace(
        evidence,
        hit=evidence.hit & first[:, None],
        true_image=evidence.true_image[:keep],
        true_cls=evidence.true_cls[:keep],
        true_box=evidence.true_box[:keep],
    )


@pytest.mark.parametrize("seed", range(12))
def test_each_resample_equals_a_plain_evaluation_by_ultralytics(seed: int) -> None:
    evidence = small_evidence(seed, images=2 + seed, grid=[6, 20, 1000][seed % 3])
    found = resampled_accuracy(evidence, resamples=40, seed=seed)
    assert found[0] == pytest.approx(ultralytics_ap(evidence).map50_95, abs=1e-12)
    expected = [plain_map(evidence, seed, index) for index in range(40)]
    np.testing.assert_allclose(found[1:], expected, atol=1e-9, rtol=0)
    assert len(np.unique(found[1:])) >= 3


def test_a_larger_evaluation_equals_plain_ones_too() -> None:
    """Enough objects that recall falls onto the sampled recalls again and again: 100 of a class, 50 and 200."""
    random = np.random.default_rng(0)
    true_cls = np.repeat([0, 1, 2], [100, 50, 200]).astype(np.int32)
    true_image = random.integers(0, 60, len(true_cls)).astype(np.int32)
    order = np.argsort(true_image, kind="stable")
    true_image, true_cls = true_image[order], true_cls[order]
    noise = random.integers(0, 60, 500).astype(np.int32)
    reached = random.uniform(0.4, 1, (len(true_cls), 1)) >= THRESHOLDS
    evidence = Predictions(
        names=np.array([f"{i:03d}" for i in range(60)]),
        sizes=np.full((60, 2), 640, dtype=np.int32),
        thresholds=THRESHOLDS,
        image=np.concatenate([true_image, noise]),
        cls=np.concatenate([true_cls, random.integers(0, 3, 500).astype(np.int32)]),
        conf=np.concatenate([random.beta(3, 2, len(true_cls)), random.beta(1, 4, 500)]).astype(np.float16),
        box=np.zeros((len(true_cls) + 500, 4), dtype=np.uint16),
        hit=np.concatenate([reached, np.zeros((500, 10), dtype=bool)]),
        true_image=true_image,
        true_cls=true_cls,
        true_box=np.zeros((len(true_cls), 4), dtype=np.uint16),
    )
    found = resampled_accuracy(evidence, resamples=30, seed=5)
    assert found[0] == pytest.approx(ultralytics_ap(evidence).map50_95, abs=1e-12)
    np.testing.assert_allclose(found[1:], [plain_map(evidence, 5, index) for index in range(30)], atol=1e-9, rtol=0)


def test_a_detector_that_sees_nothing_has_no_accuracy_in_any_resample() -> None:
    evidence = small_evidence(3)
    blind = replace(evidence, **{name: getattr(evidence, name)[:0] for name in ("image", "cls", "conf", "box", "hit")})
    assert np.unique(resampled_accuracy(blind, resamples=20)).tolist() == [0.0]
    found = paired_bootstrap([(blind, evidence)], resamples=20)
    assert found.interval.estimate == pytest.approx(-ultralytics_ap(evidence).map50_95, abs=1e-12)
    assert paired_bootstrap([(blind, blind)], resamples=20).interval == (0.0, 0.0, 0.0)
    nothing = replace(evidence, **{n: getattr(evidence, n)[:0] for n in ("true_image", "true_cls", "true_box")})
    with pytest.raises(NotPaired, match="no true objects"):
        paired_bootstrap([(nothing, nothing)], resamples=20)


def test_a_resample_without_true_objects_is_left_out_and_one_class_after_another_may_vanish() -> None:
    evidence = without_objects(small_evidence(3), 2)
    found = resampled_accuracy(evidence, resamples=60, seed=1)
    expected = [plain_map(evidence, 1, index) for index in range(60)]
    np.testing.assert_allclose(found[1:], expected, atol=1e-9, rtol=0)
    empty = int(np.isnan(expected).sum())
    assert 0 < empty < 60
    assert paired_bootstrap([(evidence, evidence)], resamples=60, seed=1).resamples == 60 - empty


def test_without_any_detection_accuracy_is_zero() -> None:
    evidence = small_evidence(1)
    nothing = replace(
        evidence, **{name: getattr(evidence, name)[:0] for name in ("image", "cls", "conf", "box", "hit")}
    )
    assert resampled_accuracy(nothing, resamples=5).tolist() == [0] * 6
    assert paired_bootstrap([(evidence, nothing)], resamples=50).interval.estimate > 0


def test_the_difference_is_paired_and_its_interval_is_widened_percentiles() -> None:
    variant, baseline = small_evidence(4, 12, detector=1), small_evidence(4, 12, detector=2)
    found = paired_bootstrap([(variant, baseline)], resamples=300, seed=9)
    differences = [plain_map(variant, 9, i) - plain_map(baseline, 9, i) for i in range(300)]
    assert found.interval.estimate == pytest.approx(
        ultralytics_ap(variant).map50_95 - ultralytics_ap(baseline).map50_95
    )
    tail = 0.01075  # of the normal distribution beyond 2.201 * sqrt(12 / 11), Student's 2.5 % being beyond 2.201
    assert (found.interval.low, found.interval.high) == pytest.approx(
        np.quantile(differences, [tail, 1 - tail]), abs=1e-4
    )
    assert (found.resamples, found.images, found.seeds) == (300, 12, 1)
    apart = paired_bootstrap([(variant, baseline)], resamples=300, seed=9, level=0.5)
    assert found.interval.low < apart.interval.low < apart.interval.high < found.interval.high


def test_the_same_detector_twice_differs_by_nothing() -> None:
    evidence = small_evidence(2)
    assert paired_bootstrap([(evidence, evidence)], resamples=50).interval == (0.0, 0.0, 0.0)


def test_several_seeds_share_each_resample_and_are_averaged() -> None:
    pairs = [(small_evidence(6, detector=2 * s), small_evidence(6, detector=2 * s + 1)) for s in range(3)]
    found = paired_bootstrap(pairs, resamples=80, seed=3)
    differences = [np.mean([plain_map(v, 3, i) - plain_map(b, 3, i) for v, b in pairs]) for i in range(80)]
    expected = bootstrap.image_interval(
        [(np.array([found.interval.estimate, *differences]), np.zeros(81))], 0.95, small_evidence(6)
    )
    assert found.interval == pytest.approx(expected.interval, abs=1e-9)
    assert found[1:4] == (expected.resamples, expected.images, 3)
    assert found.variance is not None
    assert found.variance.of_mean == pytest.approx(np.var(differences, ddof=1) * found.images / (found.images - 1))


def test_the_answer_depends_on_the_seed_and_on_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    pair = (small_evidence(8, detector=1), small_evidence(8, detector=2))
    first = paired_bootstrap([pair], resamples=100, seed=1)
    monkeypatch.setattr(bootstrap, "CHUNK", 1)
    assert paired_bootstrap([pair], resamples=100, seed=1) == first
    monkeypatch.setattr(bootstrap, "cpu_threads", lambda: 7)
    assert paired_bootstrap([pair], resamples=100, seed=1) == first
    assert paired_bootstrap([pair], resamples=100, seed=2) != first


def in_other_order(evidence: Predictions) -> Predictions:
    """The same evaluation, its images the other way round."""
    last = len(evidence.names) - 1
    order = np.argsort(last - evidence.image, kind="stable")
    true_order = np.argsort(last - evidence.true_image, kind="stable")
    return replace(
        evidence,
        names=evidence.names[::-1],
        image=(last - evidence.image)[order],
        **{name: getattr(evidence, name)[order] for name in ("cls", "conf", "box", "hit")},
        true_image=(last - evidence.true_image)[true_order],
        **{name: getattr(evidence, name)[true_order] for name in ("true_cls", "true_box")},
    )


def test_images_are_paired_by_name_and_not_by_place() -> None:
    evidence = small_evidence(5, grid=10**6)  # no equal confidences: their order would follow the images'
    assert paired_bootstrap([(in_other_order(evidence), evidence)], resamples=50).interval == pytest.approx((0, 0, 0))


def test_boxes_may_move_by_rounding_and_labels_by_order() -> None:
    evidence = small_evidence(5)
    order = np.lexsort((np.arange(len(evidence.true_cls))[::-1], evidence.true_image))
    shuffled = {name: getattr(evidence, name)[order] for name in ("true_image", "true_cls", "true_box")}
    assert paired_bootstrap([(evidence, replace(evidence, **shuffled))], resamples=20).interval.estimate == 0
    moved = np.minimum(evidence.true_box, 65000) + np.uint16(300)
    assert paired_bootstrap([(evidence, replace(evidence, true_box=moved))], resamples=20).interval.estimate == 0


def test_what_is_not_paired_is_refused_in_one_line() -> None:
    evidence = small_evidence(5)
    nobody = {name: getattr(evidence, name)[:0] for name in ("true_image", "true_cls", "true_box")}
    renamed = evidence.names.astype("U20")
    renamed[2] = "other.jpg"
    doubled = evidence.names.astype("U20")
    doubled[:] = "same.jpg"
    doubled_otherwise = doubled.copy()
    doubled_otherwise[0] = "a.jpg"
    other_classes = evidence.true_cls.copy()
    other_classes[0] = 9
    cases = [
        (replace(evidence, names=renamed), evidence, "2 images are in one evaluation only, such as other.jpg"),
        (replace(evidence, true_cls=other_classes), evidence, "true objects differ"),
        (replace(evidence, true_box=65535 - evidence.true_box), evidence, "true objects differ"),
        (without_objects(evidence, 3), evidence, "3 true objects"),
        (replace(evidence, thresholds=THRESHOLDS / 2), evidence, "thresholds of IoU"),
        (replace(evidence, **nobody), replace(evidence, **nobody), "no true objects"),
        (replace(evidence, names=doubled_otherwise), replace(evidence, names=doubled_otherwise[::-1]), "share a name"),
    ]
    for variant, baseline, reason in cases:
        with pytest.raises(NotPaired, match=reason) as caught:
            paired_bootstrap([(variant, baseline)], resamples=10)
        assert "\n" not in str(caught.value)
    with pytest.raises(NotPaired, match="no pair"):
        paired_bootstrap([])
    twice = replace(evidence, names=doubled)
    assert paired_bootstrap([(twice, twice)], resamples=5).interval.estimate == 0


def test_one_image_gives_an_estimate_and_no_interval() -> None:
    variant, baseline = small_evidence(9, 1, detector=5), small_evidence(9, 1, detector=1)
    found = paired_bootstrap([(variant, baseline)], resamples=20)
    assert np.isfinite(found.interval.estimate)
    assert np.isnan([found.interval.low, found.interval.high]).all()


def test_progress_is_told_up_to_the_end() -> None:
    told: list[tuple[int, int]] = []
    pair = (small_evidence(5), small_evidence(5, detector=1))
    paired_bootstrap([pair], resamples=30, on_progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (60, 60)
    assert told == sorted(told)


def test_an_interrupt_does_not_wait_for_what_has_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[int] = []
    monkeypatch.setattr(bootstrap, "CHUNK", 1)
    monkeypatch.setattr(bootstrap, "cpu_threads", lambda: 1)
    monkeypatch.setattr(bootstrap, "draw", lambda *words: drawn.append(words[2]) or draw(*words))

    def interrupted(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        paired_bootstrap([(small_evidence(5), small_evidence(5, detector=1))], resamples=5000, on_progress=interrupted)
    assert len(drawn) < 5000
