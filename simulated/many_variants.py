"""Many variants against one baseline whose truth is known: false claims under skew, pairs, and the best of many."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ablate.statistics.all_pairs import all_pairs
from ablate.statistics.paired import ALPHA, holm, paired_t
from ablate.statistics.shrinkage import shrunken
from ablate.statistics.sign_flip import sign_flip
from ablate.statistics.skewness import pooled_skewness, skewed_p
from simulated.known_truth import NOISE, SEED_SPREAD

COLLAPSE_RATE, COLLAPSE_LOSS = 0.1, 0.05  # of trainings of a variant, and the mAP that each of them loses

Judge = Callable[[np.ndarray], bool]


def null_differences(random: np.random.Generator, variants: int, seeds: int, kind: str) -> np.ndarray:
    """Differences to one baseline whose true means are all zero, shape (variants, seeds).

    Args:
        random: Generator.
        variants: How many.
        seeds: Of each.
        kind: "normal"; "skewed" (exponential noise of the variants, so that skew does not cancel in the pair, beside a
            baseline without noise of its own) or "collapse" (`COLLAPSE_RATE` of the variants' trainings lose
            `COLLAPSE_LOSS`; the others gain so much that the mean is zero; baseline normal).
    """
    shape = (variants, seeds)
    if kind == "skewed":
        return np.sqrt(2) * NOISE * (random.exponential(1, shape) - 1)
    baseline = random.normal(0, NOISE, (1, seeds))
    noise = random.normal(0, NOISE, shape)
    if kind == "collapse":
        noise -= COLLAPSE_LOSS * ((random.random(shape) < COLLAPSE_RATE) - COLLAPSE_RATE)
    return noise - baseline


def by_student(differences: np.ndarray) -> bool:
    """Whether Holm's correction of Student's tests calls any variant different: what a report said before."""
    p_values = holm([paired_t(row) for row in differences.tolist()])
    return any(p is not None and p < ALPHA for p in p_values)


def as_reported(differences: np.ndarray) -> bool:
    """Whether a report calls any variant different: where the differences look skewed, three tests must agree."""
    rows = differences.tolist()
    skewness = pooled_skewness(rows)
    if not by_student(differences) or skewness is None or not skewness.is_notable:
        return by_student(differences)
    p_values = [max(p or 1.0 for p in (paired_t(r), sign_flip(r), skewed_p(r, skewness.population))) for r in rows]
    return any(p is not None and p < ALPHA for p in holm(p_values))


def false_claims(
    random: np.random.Generator, count: int, variants: int, seeds: int, kind: str, judge: Judge = as_reported
) -> float:
    """Fraction of sweeps with any claim, where the true mean differences are zero."""
    return float(np.mean([judge(null_differences(random, variants, seeds, kind)) for _ in range(count)]))


def false_pairs(
    random: np.random.Generator, count: int, variants: int, seeds: int, *, spread: float = 1.0, corrected: bool = True
) -> float:
    """Fraction of sweeps that tell apart any two variants that do not differ; the last has `spread` times the noise."""
    scale = np.ones((variants, 1))
    scale[-1] = spread
    alarms = 0
    for _ in range(count):
        top = 0.4 + random.normal(0, SEED_SPREAD, (1, seeds)) + scale * random.normal(0, NOISE, (variants, seeds))
        p_values = [pair.p_value for pair in all_pairs([dict(enumerate(row.tolist())) for row in top])]
        alarms += any(p is not None and p < ALPHA for p in (holm(p_values) if corrected else p_values))
    return alarms / count


def bias_of_best(
    random: np.random.Generator, count: int, variants: int, seeds: int, between: float = 0.0
) -> tuple[float, float]:
    """Mean error of the best variant's difference, as measured and as shrunken; fractions of mAP.

    Args:
        random: Generator.
        count: Sweeps.
        variants: In each.
        seeds: Of each.
        between: Standard deviation of the true effects.
    """
    measured, pulled = [], []
    for _ in range(count):
        truth = random.normal(0, between, variants) if between else np.zeros(variants)
        differences = truth[:, None] + null_differences(random, variants, seeds, "normal")
        best = int(np.argmax(differences.mean(axis=1)))
        estimate = shrunken(differences)
        assert estimate is not None
        measured.append(differences[best].mean() - truth[best])
        pulled.append(estimate.differences[best] - truth[best])
    return float(np.mean(measured)), float(np.mean(pulled))
