"""Simulated sweeps and detectors whose truth is known: do intervals cover it, and do tests keep quiet about nothing?

Used by `benchmarks/coverage.py` (at length) and by tests/statistics/test_coverage.py (in short). Each function draws
from the generator it is given, and takes what it judges as an argument, so that a wrong formula can be tried too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import pandas as pd
from scipy import special

from ablate.evaluation.image_bootstrap import image_interval, resampled_accuracy
from ablate.records.predictions import Predictions
from ablate.settings.metric import MAP50_95, Metric
from ablate.statistics.factorial_model import FactorAnalysis, factor_analysis
from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, LEVEL, holm, paired_differences, paired_t, t_interval

SEED_SPREAD = 0.012  # what a seed does to all variants alike, standard deviation in mAP
NOISE = 0.006  # what it does to each of them apart
THRESHOLDS = np.linspace(0.5, 0.95, 10)

Accuracies = Mapping[int, float]
MakeInterval = Callable[[Accuracies, Accuracies], Interval | None]
Correction = Callable[[Sequence[float | None]], list[float | None]]


def noise(random: np.random.Generator, shape: tuple[int, ...], kind: str = "normal") -> np.ndarray:
    """Noise of standard deviation `NOISE`, shape (..., baseline and variants, seeds).

    "normal", "heavy" (Student's t, 4 degrees), or "skewed": exponential in the variants and normal in the baseline.
    Skew in both would cancel in the pair.
    """
    if kind == "heavy":
        return NOISE * random.standard_t(4, shape) / np.sqrt(2)
    normal = random.normal(0, NOISE, shape)
    if kind == "skewed":
        normal[..., 1:, :] = NOISE * (random.exponential(1, shape) - 1)[..., 1:, :]
    return normal


def sweeps(
    random: np.random.Generator, count: int, seeds: int, effects: Sequence[float], kind: str = "normal"
) -> Iterator[list[dict[int, float]]]:
    """Sweeps: the baseline's and each variant's mAP by seed; the variants differ from the baseline by `effects`."""
    shape = (count, 1 + len(effects), seeds)
    luck = random.normal(0, SEED_SPREAD, (count, 1, seeds))
    accuracy = 0.4 + np.array([0.0, *effects])[:, None] + luck + noise(random, shape, kind)
    for sweep in accuracy:
        yield [dict(enumerate(row.tolist())) for row in sweep]


def over_seeds(variant: Accuracies, baseline: Accuracies) -> Interval | None:
    """The interval of the table."""
    return t_interval(paired_differences(variant, baseline)[1])


def coverage_over_seeds(
    random: np.random.Generator, count: int, seeds: int, kind: str = "normal", interval: MakeInterval = over_seeds
) -> float:
    """Fraction of sweeps in which the interval of a variant's difference holds the true one, 0.01."""
    found = [interval(variant, baseline) for baseline, variant in sweeps(random, count, seeds, [0.01], kind)]
    return float(np.mean([i is not None and i.low <= 0.01 <= i.high for i in found]))


def false_alarms(
    random: np.random.Generator, count: int, seeds: int, variants: int, kind: str = "normal", correct: Correction = holm
) -> float:
    """Fraction of sweeps, in which nothing differs, that call at least one variant different from the baseline."""
    alarms = 0
    for baseline, *others in sweeps(random, count, seeds, [0.0] * variants, kind):
        p_values = correct([paired_t(paired_differences(variant, baseline)[1]) for variant in others])
        alarms += any(p is not None and p < ALPHA for p in p_values)
    return alarms / count


def factor_coverage(
    random: np.random.Generator,
    count: int,
    seeds: int,
    analyse: Callable[[pd.DataFrame], list[FactorAnalysis]] = factor_analysis,
) -> dict[str, float]:
    """Factorial sweeps of 3 modules, 2 insertions and 2 optimizers with main effects and no interaction.

    Returns:
        Fraction of the intervals of main effects, and of interactions, that hold the truth; and fraction of the sweeps
        that call at least one interaction real.
    """
    truth = {"hmha": 0.01, "acmix": -0.01, "sta": 0.0, "c3k2": -0.004, "head": 0.004, "sgd": -0.02, "musgd": 0.02}
    cells = list(product(("hmha", "acmix", "sta"), ("c3k2", "head"), ("sgd", "musgd")))
    rows = [(*cell, "yolo26n", "shapes", seed) for cell in cells for seed in range(seeds)]
    table = pd.DataFrame(rows, columns=["module", "insertion", "optimizer", "model", "data", "seed"])
    mean = 0.4 + np.array([[sum(truth[level] for level in cell)] * seeds for cell in cells])
    main, interactions, alarms = [], [], 0
    for _ in range(count):
        accuracy = mean + random.normal(0, SEED_SPREAD, seeds) + noise(random, mean.shape)
        (found,) = analyse(table.assign(accuracy=accuracy.ravel()))
        main += [e.interval.low <= truth[e.level] <= e.interval.high for e in found.effects]
        interactions += [e.interval.low <= 0 <= e.interval.high for e in found.interactions]
        alarms += any(e.p_value < ALPHA for e in found.interactions)
    return {
        "main effects": float(np.mean(main)),
        "interactions": float(np.mean(interactions)),
        "false alarms": alarms / count,
    }


@dataclass(frozen=True)
class Population:
    """A great many images, their true objects, and what two detectors say of them.

    Attributes:
        images: How many.
        true: Image and class of each true object, (T,) each; by image.
        found: For baseline and variant: image, class, confidence and hits of each detection; by image.
        difference: Accuracy of the variant less that of the baseline, on all images: the truth.
        metric: Which accuracy; none by the size of objects, as there are no boxes.
    """

    images: int
    true: tuple[np.ndarray, np.ndarray]
    found: list[tuple[np.ndarray, ...]]
    difference: float
    metric: Metric = MAP50_95

    def sample(self, random: np.random.Generator, images: int) -> list[Predictions]:
        """Predictions of baseline and variant on images drawn from the population."""
        return self.of(np.sort(random.integers(0, self.images, images)))

    def of(self, chosen: np.ndarray) -> list[Predictions]:
        """Predictions of baseline and variant on these images, (I,)."""
        images = len(chosen)
        rows, true_image = _rows(self.true[0], chosen)
        true = (true_image, self.true[1][rows])
        answers = []
        for image, *columns in self.found:
            rows, place = _rows(image, chosen)
            answers.append(_evidence(images, true, (place, *(column[rows] for column in columns))))
        return answers

    @classmethod
    def measured(
        cls,
        images: int,
        true: tuple[np.ndarray, np.ndarray],
        found: Sequence[tuple[np.ndarray, ...]],
        metric: Metric = MAP50_95,
    ) -> Population:
        """The population of these images, objects and detections (see `Population`), with its difference."""
        baseline, variant = (
            resampled_accuracy(_evidence(images, true, one), metric=metric, resamples=0)[0] for one in found
        )
        return cls(images, true, list(found), float(variant - baseline), metric)


def population(images: int, rates: Sequence[float], seed: int, metric: Metric = MAP50_95) -> Population:
    """Simulate two detectors, the variant a little better.

    An image may be crowded and hard, an object hard; both are so for both detectors. Quality decides whether an object
    is found, how tightly, and with what confidence; false detections come more on crowded and hard images.

    Args:
        images: How many.
        rates: True objects of each class in an image, on average.
        seed: Of the generator.
        metric: Which accuracy is of interest.
    """
    random = np.random.default_rng(seed)
    share = np.array(rates) / np.sum(rates)
    crowd, hard = random.gamma(2, 0.5, images), random.normal(0, 0.6, images)
    counts = random.poisson(np.array(rates) * crowd[:, None])
    true_image = np.repeat(np.arange(images), counts.sum(axis=1))
    true_cls = np.repeat(np.tile(np.arange(len(rates)), images), counts.ravel())
    hard_object = random.normal(0, 1, len(true_image))
    found = []
    for skill in (0.3, 0.4):
        quality = skill - 0.6 * hard[true_image] - 0.7 * hard_object + random.normal(0, 0.5, len(true_image))
        overlap = special.expit(0.9 + 0.6 * quality + random.normal(0, 0.3, len(true_image)))
        seen = random.random(len(true_image)) < special.expit(1.5 + 1.2 * quality)
        confidence = special.expit(0.3 + quality + random.normal(0, 0.6, len(true_image)))
        false_image = np.repeat(np.arange(images), random.poisson(4 * crowd * np.exp(0.4 * hard)))
        false_cls = random.choice(len(rates), len(false_image), p=share)
        false_confidence = special.expit(-1.5 + 0.4 * hard[false_image] + random.normal(0, 1.1, len(false_image)))
        image = np.concatenate([true_image[seen], false_image])
        cls = np.concatenate([true_cls[seen], false_cls])
        conf = np.concatenate([confidence[seen], false_confidence]).astype(np.float32)
        hit = np.concatenate([overlap[seen][:, None] >= THRESHOLDS, np.zeros((len(false_image), 10), dtype=bool)])
        order = np.argsort(image, kind="stable")
        found.append((image[order], cls[order], conf[order], hit[order]))
    return Population.measured(images, (true_image, true_cls), found, metric)


def image_coverage(
    random: np.random.Generator,
    whole: Population,
    images: int,
    count: int,
    resamples: int = 1000,
    *,
    apart: bool = False,
) -> dict[str, float]:
    """How often the interval over images holds the population's difference, in `count` samples of so many images.

    Args:
        random: Chooses the samples.
        whole: What they are drawn from.
        images: In each sample.
        count: Of samples.
        resamples: Of each sample.
        apart: Whether variant and baseline get other resamples than one another, which is wrong.

    Returns:
        coverage; how often the truth lay below and above; the interval's mean width over that which the estimates'
        own spread calls for; and the coverage of the customary intervals, by name.
    """
    held = dict.fromkeys(("below", "above", "percentile", "basic", "bias-corrected", "widened bias-corrected"), 0)
    widths, estimates, truth = [], [], whole.difference
    normal = special.ndtri(0.975)
    student = special.stdtrit(images - 1, 0.975) * np.sqrt(images / (images - 1))
    for index in range(count):
        baseline, variant = whole.sample(random, images)
        better, plain = (
            resampled_accuracy(one, metric=whole.metric, resamples=resamples, seed=seed)
            for one, seed in ((variant, index), (baseline, index + count * apart))
        )
        found = image_interval([(better, plain)], LEVEL, baseline).interval
        held["below"] += truth < found.low
        held["above"] += truth > found.high
        widths.append(found.high - found.low)
        estimates.append(found.estimate)
        drawn = (better - plain)[1:]
        low, high = np.quantile(drawn, [0.025, 0.975])
        held["percentile"] += low <= truth <= high
        held["basic"] += 2 * found.estimate - high <= truth <= 2 * found.estimate - low
        middle = (drawn < found.estimate).mean() + (drawn == found.estimate).mean() / 2
        bias = special.ndtri(np.clip(middle, 0.001, 0.999))
        for name, reach in (("bias-corrected", normal), ("widened bias-corrected", student)):
            low, high = np.quantile(drawn, special.ndtr([2 * bias - reach, 2 * bias + reach]))
            held[name] += low <= truth <= high
    parts = {name: float(times / count) for name, times in held.items()}
    spread = 2 * normal * float(np.std(estimates))
    width = float(np.mean(widths)) / spread
    return {"coverage": 1 - parts["below"] - parts["above"], "relative width": width, **parts}


def _rows(image: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a table sorted by image that belong to the chosen images, and the place of each row's image there."""
    first, last = np.searchsorted(image, chosen), np.searchsorted(image, chosen + 1)
    counts = last - first
    ahead = np.concatenate([[0], np.cumsum(counts)[:-1]])
    return np.repeat(first - ahead, counts) + np.arange(counts.sum()), np.repeat(np.arange(len(chosen)), counts)


def _evidence(images: int, true: tuple[np.ndarray, np.ndarray], found: Sequence[np.ndarray]) -> Predictions:
    """Predictions without boxes, which a difference in mAP does not need."""
    image, cls, conf, hit = found
    return Predictions(
        names=np.array([f"{index:07d}" for index in range(images)]),
        sizes=np.full((images, 2), 640, dtype=np.int32),
        thresholds=THRESHOLDS,
        image=image.astype(np.int32),
        cls=cls.astype(np.int32),
        conf=conf,
        box=np.zeros((len(image), 4), dtype=np.uint16),
        hit=hit,
        true_image=true[0].astype(np.int32),
        true_cls=true[1].astype(np.int32),
        true_box=np.zeros((len(true[0]), 4), dtype=np.uint16),
    )
