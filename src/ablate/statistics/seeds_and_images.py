"""How far a mean difference would move with other seeds and other images together, and which of the two would help.

Every seed is judged on the same images, so a difference has three parts: one of the seeds, one of the images that all
seeds share, and one of a seed on these images (another training errs on others). The spread over seeds contains the
first and the third, the bootstrap of the mean over images the second and the third; adding both would count the third
twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from ablate.statistics.interval import Interval
from ablate.statistics.paired import ALPHA, LEVEL, standard_error
from ablate.statistics.sequential import FIRST_LOOK, Stop, nominal_level


@dataclass(frozen=True)
class ImageVariance:
    """What the paired bootstrap over images says of differences, in squared units of the metric.

    Attributes:
        of_mean: Variance of the mean difference over the seeds.
        seed_by_image: Variance of one seed's difference beyond what all seeds share; 0 for one seed.
        images: How many were drawn from.
    """

    of_mean: float
    seed_by_image: float
    images: int


@dataclass(frozen=True)
class SeedsAndImages:
    """Components of the variance of a mean difference over n seeds, and the interval over both.

    Attributes:
        estimate: The mean difference.
        seeds: n.
        images: How many.
        of_seeds: Variance of the mean as the spread over seeds shows it, s^2 / n.
        of_images: Variance of the mean that the images contribute and all seeds share.
        of_both: Part of `of_seeds` that is a seed on these images: more images would reduce it too.
        stop: By what rule the results decided how many seeds there are; None where that was fixed.
    """

    estimate: float
    seeds: int
    images: int
    of_seeds: float
    of_images: float
    of_both: float
    stop: Stop | None = None

    @property
    def interval(self) -> Interval:
        """The mean difference with the 95 % interval over seeds and images."""
        reach = self.reach()
        return Interval(self.estimate, self.estimate - reach, self.estimate + reach)

    def reach(self, *, seeds: int = 1, images: int = 1) -> float:
        """Half the width of the interval, with so many times the seeds and images at the same variance of each.

        The reaches of Student's intervals of both parts, added as squares (Howe 1974, Journal of the American
        Statistical Association 69). Satterthwaite's degrees of freedom with the sum of the variances cover too rarely
        where a few seeds dominate: 92 % at three seeds.

        Where the results decided when to stop, the seeds' part is that of the interval that holds at all looks
        (`ablate.statistics.sequential`), corrected for the variants as that is: with Student's, the sum covers 91 % at
        the stop, with this 94 to 99 %.
        """
        alone = self.of_seeds - self.of_both
        of_seeds = of_images = 1 - LEVEL
        if self.stop is not None:
            of_images = ALPHA / self.stop.tests
            of_seeds = nominal_level(self.seeds, self.stop.most, of_images)
        squares = _square(seeds * self.seeds - 1, of_seeds) * (alone + self.of_both / images) / seeds
        return float(np.sqrt(squares + _square(images * self.images - 1, of_images) * self.of_images / images))


def _square(freedom: int, level: float) -> float:
    """Square of Student's quantile at a two-sided level."""
    return float(special.stdtrit(freedom, 1 - level / 2)) ** 2


def seeds_and_images(
    differences: Sequence[float], images: ImageVariance, stop: Stop | None = None
) -> SeedsAndImages | None:
    """Components of variance and the interval over both.

    Args:
        differences: Paired by seed, shape (n,); all judged on the same images.
        images: What the bootstrap over these images says of them.
        stop: By what rule the results decided how many seeds there are; None where that was fixed.

    Returns:
        None below two seeds (three where the results decided how many), where all are equal up to rounding, and below
        two images.
    """
    error = standard_error(differences)
    seeds = len(differences)
    if error is None or images.images < 2 or (stop is not None and seeds < FIRST_LOOK):
        return None
    of_both = min(images.seed_by_image / seeds, error**2)
    return SeedsAndImages(
        estimate=float(np.mean(differences)),
        seeds=seeds,
        images=images.images,
        of_seeds=error**2,
        of_images=max(0.0, images.of_mean - images.seed_by_image / seeds),
        of_both=of_both,
        stop=stop,
    )


def image_variance(resampled: np.ndarray, images: int) -> ImageVariance:
    """The variances of differences over resamples of the images.

    Args:
        resampled: Difference of each seed on each resample, the same resamples for all, shape (n, R), R of at least 2.
        images: How many were drawn from; the variance of a resample is (images - 1) / images of the mean's.
    """
    small = images / (images - 1)
    of_mean = float(resampled.mean(axis=0).var(ddof=1)) * small
    beyond = resampled - resampled.mean(axis=0)
    seeds = len(resampled)
    of_each = float(beyond.var(axis=1, ddof=1).sum() / (seeds - 1)) * small if seeds > 1 else 0.0
    return ImageVariance(of_mean, of_each, images)
