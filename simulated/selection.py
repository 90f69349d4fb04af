"""Sweeps in which nothing differs but how noisy the curves of the epochs are: what does each judge make of them?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ablate.statistics.paired import ALPHA

JUDGES = ("best", "last", "mean_last_5", "split")


@dataclass(frozen=True)
class Curves:
    """How the accuracy of a training goes from epoch to epoch; in points.

    Both variants have the same true accuracy in every epoch. What is measured differs from it by the choice of the
    images: by a noise that is renewed in part with every epoch, because other objects are found, and that a variant
    whose training is less steady has more of. From the middle on the true accuracy is flat: on a slope a noisy choice
    is truly worse, and `split` would say so.

    Attributes:
        epochs: Of a training.
        quiet, noisy: Standard deviations of the noise of an epoch on all images, of baseline and variant.
        kept: Share of an epoch's noise that the next one has too.
        seeds: Standard deviation over seeds of the true accuracy.
        common: Correlation of the two halves' noise: images of one clip in both halves have a part of it in common, so
            that what is chosen on one half is not judged on other images. Halves of whole clips: none.
    """

    epochs: int = 100
    quiet: float = 0.2
    noisy: float = 0.45
    kept: float = 0.5
    seeds: float = 0.3
    common: float = 0.0

    @classmethod
    def of_clips(cls, frames: int = 10, likeness: float = 0.5) -> Curves:
        """Curves on clips of so many frames, of which each half has half.

        Args:
            frames: Of each clip.
            likeness: Correlation of the noise of two frames of one clip.
        """
        own = (1 - likeness) / (frames / 2)
        return cls(common=likeness / (likeness + own))

    def draw(self, random: np.random.Generator, trials: int, noise: float) -> np.ndarray:
        """Measured accuracies on two halves of the images, (trials, epochs, 2)."""
        epoch = np.arange(self.epochs)
        truth = 40 * np.minimum(epoch / (self.epochs / 2), 1)
        own = random.normal(0, self.seeds, (trials, 1, 1))
        shocks = random.normal(0, noise * np.sqrt(2 / (1 + self.common)), (trials, self.epochs, 2))
        if self.common:
            both = random.normal(0, noise * np.sqrt(2 / (1 + self.common)), (trials, self.epochs, 1))
            shocks = np.sqrt(self.common) * both + np.sqrt(1 - self.common) * shocks
        shocks[:, 1:] *= np.sqrt(1 - self.kept**2)
        errors = shocks
        for now in range(1, self.epochs):
            errors[:, now] += self.kept * errors[:, now - 1]
        return np.asarray(truth[:, None] + own + errors)


def accuracy(halves: np.ndarray, judge: str) -> np.ndarray:
    """The accuracy of each trial under a judge, (trials,); of accuracies on two halves, (trials, epochs, 2).

    `ablate.records.judged` does this with the rows of one trial.
    """
    whole = halves.mean(axis=2)
    if judge == "best":
        return np.asarray(whole.max(axis=1))
    if judge == "last":
        return np.asarray(whole[:, -1])
    if judge == "mean_last_5":
        return np.asarray(whole[:, -5:].mean(axis=1))
    trial, last = np.arange(len(halves)), halves.shape[1] - 1
    chosen = last - halves[:, ::-1].argmax(axis=1)  # of each half, the last of equally good epochs; (trials, 2)
    return np.asarray((halves[trial, chosen[:, 0], 1] + halves[trial, chosen[:, 1], 0]) / 2)


@dataclass(frozen=True)
class Bias:
    """Of a judge: mean difference of two equal variants in points, its standard error, and false alarms of t-tests."""

    points: float
    error: float
    false_alarms: float


def bias(random: np.random.Generator, sweeps: int, seeds: int, judge: str, curves: Curves | None = None) -> Bias:
    """Compare a noisy variant with a quiet baseline that is equally good, in many sweeps of some seeds each."""
    from scipy import stats

    curves = curves or Curves()
    noisy, quiet = (curves.draw(random, sweeps * seeds, noise) for noise in (curves.noisy, curves.quiet))
    differences = (accuracy(noisy, judge) - accuracy(quiet, judge)).reshape(sweeps, seeds)
    p_values = stats.ttest_1samp(differences, 0, axis=1).pvalue
    error = differences.std(ddof=1) / np.sqrt(differences.size)
    return Bias(float(differences.mean()), float(error), float((p_values < ALPHA).mean()))
