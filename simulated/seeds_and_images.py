"""Studies with known truth over seeds and images: joint intervals, planning from few seeds, and equivalence.

Used by benchmarks/coverage_seeds_and_images.py (at length) and tests/statistics/test_seeds_and_images.py (in short).
All values are in units of one seed's standard deviation.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import special

from ablate.statistics.equivalence import equivalence_p
from ablate.statistics.paired import (
    ALPHA,
    LEVEL,
    PLANNED,
    holm,
    paired_t,
    power_of,
    seeds_needed,
    smallest_detectable,
    upper_std,
)
from ablate.statistics.seeds_and_images import ImageVariance, seeds_and_images
from ablate.statistics.sequential import Stop
from ablate.statistics.stopping import critical_values, ends
from simulated.sequential_sweeps import differences

IMAGES = 200


class Answers(NamedTuple):
    """Fractions of simulated studies."""

    joint: float  # the interval over both holds the truth
    satterthwaite: float  # so does the sum of both variances with Satterthwaite's degrees of freedom
    old_rule: float  # false claims of "believe it where neither interval holds zero"
    over_seeds: float  # false claims, about new images, of the interval over seeds


def joint_coverage(random: np.random.Generator, count: int, seeds: int, ratio: float, shared: float) -> Answers:
    """Studies in which nothing differs.

    Args:
        random: Source of noise.
        count: Studies.
        seeds: In each.
        ratio: Standard error of the mean that the shared images contribute, relative to that of the seeds.
        shared: Part of a seed's variance that is a seed on these images (seed x image).
    """
    of_images = random.normal(0, ratio / np.sqrt(seeds), (count, 1))
    differences = random.normal(0, 1, (count, seeds)) + of_images
    beyond = shared * random.chisquare((IMAGES - 1) * (seeds - 1), count) / ((IMAGES - 1) * (seeds - 1))
    of_mean = (ratio**2 + shared) / seeds * random.chisquare(IMAGES - 1, count) / (IMAGES - 1)
    mean, of_seeds = differences.mean(axis=1), differences.var(axis=1, ddof=1) / seeds
    freedom = (of_seeds + of_mean) ** 2 / (of_seeds**2 / (seeds - 1) + of_mean**2 / (IMAGES - 1))
    customary = special.stdtrit(freedom, 0.5 + LEVEL / 2) * np.sqrt(of_seeds + of_mean)
    held = []
    for row, variance, seed_by_image in zip(differences, of_mean, beyond, strict=True):
        found = seeds_and_images(row.tolist(), ImageVariance(float(variance), float(seed_by_image), IMAGES))
        held.append(found is not None and not found.interval.excludes_zero)
    alone = abs(mean) > special.stdtrit(seeds - 1, 0.5 + LEVEL / 2) * np.sqrt(of_seeds)
    images = abs(mean) > special.stdtrit(IMAGES - 1, 0.5 + LEVEL / 2) * np.sqrt(of_mean)
    return Answers(
        float(np.mean(held)),
        float((abs(mean) <= customary).mean()),
        float((alone & images).mean()),
        float(alone.mean()),
    )


class AtTheStop(NamedTuple):
    """Fractions of studies whose interval over both holds the truth, where the results decided when to stop."""

    valid_at_all_looks: float
    students: float  # with the quantiles of a fixed number of seeds


def joint_coverage_at_the_stop(
    random: np.random.Generator,
    count: int,
    effect: float,
    of_images: float,
    *,
    shared: float = 0.3,
    most: int = 12,
    tests: int = 1,
    delta: float | None = None,
    kind: str = "normal",
) -> AtTheStop:
    """Variants whose seeds are added until they are decided on these images.

    Args:
        random: Source of noise.
        count: Studies.
        effect: True difference.
        of_images: Standard deviation that the images which all seeds share contribute to a difference.
        shared: Part of a seed's variance that is a seed on these images (seed x image).
        most: Seeds after which it stays undecided.
        tests: Variants that the rule corrects for.
        delta: Margin of equivalence, or None.
        kind: Of the noise over seeds, as in `simulated.sequential_sweeps.differences`.
    """
    drawn = differences(random, count, [effect], most, kind) + random.normal(0, of_images, (count, 1, 1))
    stops = ends(drawn, critical_values(most, tests), delta).seeds[:, 0]
    held = []
    for row, seeds in zip(drawn[:, 0], stops, strict=True):
        freedom = (IMAGES - 1) * (seeds - 1)
        seed_by_image = shared * random.chisquare(freedom) / freedom
        of_mean = (of_images**2 + shared / seeds) * random.chisquare(IMAGES - 1) / (IMAGES - 1)
        variance = ImageVariance(float(of_mean), float(seed_by_image), IMAGES)
        both = [seeds_and_images(row[:seeds].tolist(), variance, rule) for rule in (Stop(most, tests), None)]
        held.append([one is not None and one.interval.low <= effect <= one.interval.high for one in both])
    return AtTheStop(*(float(share) for share in np.mean(held, axis=0)))


class Planning(NamedTuple):
    """Fractions of studies, with an upper bound of the spread and with the sample standard deviation itself."""

    detectable_too_small: float
    plans_with_power: float
    detectable_too_small_plain: float
    plans_with_power_plain: float


def planning(random: np.random.Generator, count: int, seeds: int, difference: float = 1.0) -> Planning:
    """Studies whose detectable difference is below the true one, and whose plans have 80 % power for a difference."""
    truth = smallest_detectable(1.0, seeds)
    assert truth is not None
    below, powers = [], []
    for values in random.normal(0, 1, (count, seeds)):
        for spread in (upper_std(values.tolist()), float(values.std(ddof=1))):
            detectable, planned = smallest_detectable(spread, seeds), seeds_needed(spread, difference)
            below.append(detectable is not None and detectable < truth)
            powers.append(planned is not None and power_of(planned, difference) >= PLANNED)
    bounds, plain = np.array(below)[0::2], np.array(below)[1::2]
    return Planning(
        float(bounds.mean()), float(np.mean(powers[0::2])), float(plain.mean()), float(np.mean(powers[1::2]))
    )


def false_equivalence(
    random: np.random.Generator, count: int, seeds: int, variants: int, margin: float, *, naive: bool = False
) -> float:
    """Fraction of studies that call at least one variant equivalent, all being exactly the margin away.

    `naive` calls equivalent what is not significantly different and measured within the margin.
    """
    shared = random.normal(0, np.sqrt(0.5), (count, 1, seeds))  # the baseline's own noise
    differences = margin + shared + random.normal(0, np.sqrt(0.5), (count, variants, seeds))
    false = 0
    for study in differences:
        rows = [row.tolist() for row in study]
        if naive:
            false += any((paired_t(row) or 0) >= ALPHA and abs(np.mean(row)) < margin for row in rows)
        else:
            false += any(p is not None and p < ALPHA for p in holm([equivalence_p(row, margin) for row in rows]))
    return false / count
