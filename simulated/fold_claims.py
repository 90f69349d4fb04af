"""What a report claims over the folds of a cross-validation, held against methods whose truth is known.

The methods are those of `folds`: each learns from the training images of a fold, so that what is learnt is alike in
folds that share them, and is judged on the images of its own fold. A method may gain a constant. Differences are in
standard deviations of the difference of two methods on a single fold.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from ablate.statistics.all_pairs import all_pairs
from ablate.statistics.paired import ALPHA, POWER, holm, smallest_detectable
from ablate.statistics.resampled import Samples, share_of_folds
from ablate.statistics.sequential import spent_p
from ablate.statistics.shrinkage import shrunken
from simulated.folds import NUMBERS, OF_SEEDS

Floats = npt.NDArray[np.float64]


class Design(NamedTuple):
    """Cross-validations of one kind.

    Attributes:
        folds: Of each study.
        seeds: Trainings of each fold.
        of_images: What all images add as those that are judged on, in standard deviations of what differs by training
            images.
        common: What a seed adds to all folds alike; `OF_SEEDS` is what it adds to each apart.
        lost: Share of the first method's trainings that collapse and lose `LOSS`; the others are that much better on
            average, so that the methods are equally good.
        is_skewed: Whether what the images add to the first method is exponential.
    """

    folds: int = 5
    seeds: int = 1
    of_images: float = 0.5
    common: float = 0.0
    lost: float = 0.0
    is_skewed: bool = False


LOSS = 10.0  # of a collapsed training


def errors(random: np.random.Generator, studies: int, methods: int, design: Design) -> Floats:
    """What each method loses in each training, shape (studies, methods, seeds, folds); all are equally good."""
    folds, seeds = design.folds, design.seeds
    parts = random.normal(size=(studies, methods, folds, NUMBERS))
    learnt = (parts.sum(2, keepdims=True) - parts) / np.sqrt(folds - 1)
    lost = (learnt**2).sum(-1) / np.sqrt(4 * NUMBERS)

    def noise(spread: float, *shape: int) -> Floats:
        return np.asarray(spread / np.sqrt(2) * random.normal(size=(studies, methods, *shape)))

    judged = noise(design.of_images * np.sqrt(folds), folds)
    if design.is_skewed:
        judged[:, 0] = design.of_images * np.sqrt(folds) * (random.exponential(size=judged[:, 0].shape) - 1)
        judged[:, 1:] = 0.0
    lost = (lost + judged)[:, :, None, :] + noise(OF_SEEDS, seeds, folds) + noise(design.common, seeds, 1)
    lost[:, 0] += LOSS * ((random.random(lost[:, 0].shape) < design.lost) - design.lost)
    return np.asarray(lost)


def differences(random: np.random.Generator, studies: int, design: Design, gain: float = 0.0) -> Floats:
    """Of a method that gains so much to another one, (studies, seeds, folds)."""
    both = errors(random, studies, 2, design)
    return np.asarray(both[:, 0] - both[:, 1] + gain)


def statistics(means: Floats) -> tuple[Floats, Floats]:
    """The mean of fold means, shape (..., folds), and its corrected standard error, shape (...)."""
    folds = means.shape[-1]
    return means.mean(-1), means.std(-1, ddof=1) * np.sqrt(1 / folds + share_of_folds(folds))


def plain_statistics(values: Floats) -> tuple[Floats, Floats]:
    """The mean of all trainings, shape (..., seeds, folds), and its standard error were they independent."""
    flat = values.reshape(*values.shape[:-2], -1)
    return flat.mean(-1), flat.std(-1, ddof=1) / np.sqrt(flat.shape[-1])


def false_alarm(random: np.random.Generator, studies: int, design: Design) -> float:
    """Share of studies of two equally good methods that the corrected test calls different."""
    mean, error = statistics(differences(random, studies, design).mean(1))
    return float(np.mean(2 * special.stdtr(design.folds - 1, -np.abs(mean) / error) < ALPHA))


def false_equivalence(random: np.random.Generator, studies: int, design: Design, margin: float) -> tuple[float, float]:
    """Share of methods that differ by just the margin and are called equivalent: over folds, over all trainings."""
    drawn = differences(random, studies, design, margin)
    found = []
    for (mean, error), freedom in (
        (statistics(drawn.mean(1)), design.folds - 1),
        (plain_statistics(drawn), design.folds * design.seeds - 1),
    ):
        found.append(float(np.mean(special.stdtr(freedom, (np.abs(mean) - margin) / error) < ALPHA)))
    return found[0], found[1]


def detectable(random: np.random.Generator, studies: int, design: Design) -> tuple[float, float]:
    """Share of studies whose detectable difference is below the true one: by the bound over folds, as for seeds."""
    drawn = differences(random, studies, design)
    true = _true_detectable(*statistics(drawn.mean(1)), design.folds - 1)
    found = [Samples(tuple(means), share_of_folds(design.folds)).upper_spread for means in drawn.mean(1).tolist()]
    seeds = [Samples(tuple(values)).upper_spread for values in drawn.reshape(studies, -1).tolist()]
    trainings = design.folds * design.seeds
    return (
        float(np.mean([(smallest_detectable(spread, design.folds) or 0.0) < true for spread in found])),
        float(np.mean([(smallest_detectable(spread, trainings) or 0.0) < true for spread in seeds])),
    )


def _true_detectable(mean: Floats, error: Floats, freedom: int) -> float:
    """The difference that the corrected test finds in `POWER` of these studies, in which there is none."""
    reach = special.stdtrit(freedom, 1 - ALPHA / 2) * error
    low, high = 0.0, 50.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if np.mean(np.abs(mean + middle) > reach) < POWER else (low, middle)
    return high


def false_pairs(random: np.random.Generator, studies: int, design: Design, methods: int) -> tuple[float, float]:
    """Share of studies of equally good methods with a pair that is called different: over folds, over all trainings."""
    drawn, share = -errors(random, studies, methods, design), share_of_folds(design.folds)
    over_folds, over_all = 0, 0
    for study in drawn:
        means = [dict(enumerate(row.tolist())) for row in study.mean(1)]
        pairs = all_pairs(means, samples=lambda keys, values: Samples(tuple(values), share))
        over_folds += any(p is not None and p < ALPHA for p in holm([pair.p_value for pair in pairs]))
        every = all_pairs([dict(enumerate(row.ravel().tolist())) for row in study])
        over_all += any(p is not None and p < ALPHA for p in holm([pair.p_value for pair in every]))
    return over_folds / studies, over_all / studies


def bias_of_best(random: np.random.Generator, studies: int, design: Design, methods: int) -> tuple[float, float, float]:
    """Mean difference of the best of equally good methods: measured, shrunken over folds, shrunken as if over seeds."""
    gains = -errors(random, studies, methods + 1, design).mean(2)
    to_baseline = gains[:, 1:] - gains[:, :1]
    best = to_baseline.mean(-1).argmax(1)
    shrunk: list[list[float]] = [[], []]
    for study, place in zip(to_baseline, best, strict=True):
        for kept, share in zip(shrunk, (share_of_folds(design.folds), 0.0), strict=True):
            estimate = shrunken(study, share)
            assert estimate is not None
            kept.append(estimate.differences[place])
    measured = to_baseline.mean(-1)[np.arange(studies), best]
    return float(measured.mean()), float(np.mean(shrunk[0])), float(np.mean(shrunk[1]))


def repeated_looks(random: np.random.Generator, studies: int, design: Design, looks: int) -> tuple[float, float]:
    """Share of studies that any look calls different, where each adds a seed: by the spent p-value, by each look's."""
    drawn = differences(random, studies, design._replace(seeds=looks))
    spent, each = np.zeros(studies, dtype=bool), np.zeros(studies, dtype=bool)
    for look in range(1, looks + 1):
        mean, error = statistics(drawn[:, :look].mean(1))
        p_values = 2 * special.stdtr(design.folds - 1, -np.abs(mean) / error)
        each |= p_values < ALPHA
        spent |= np.array([spent_p(p, look) for p in p_values.tolist()]) < ALPHA
    return float(spent.mean()), float(each.mean())
