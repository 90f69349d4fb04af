"""Simulated validation sets of clips: the frames of a clip are alike, for both detectors. Does the interval hold?

Drawing single frames again takes each for a new image; drawing whole clips does not. Used by
tests/statistics/test_clips.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import special

from ablate.evaluation.image_bootstrap import image_interval, resampled_accuracy
from ablate.records.predictions import Predictions
from ablate.statistics.paired import LEVEL
from simulated.known_truth import THRESHOLDS, Population

RATES = (4.0, 1.0, 1.0)  # true objects of each class in a frame, on average


@dataclass(frozen=True)
class Clips:
    """A great many clips of `frames` images each; image i is of clip i // frames."""

    images: Population
    frames: int

    def sample(self, random: np.random.Generator, clips: int) -> tuple[list[Predictions], np.ndarray]:
        """Predictions of baseline and variant on all frames of drawn clips, and the clip of each frame, (I,)."""
        chosen = random.integers(0, self.images.images // self.frames, clips)
        frames = (chosen[:, None] * self.frames + np.arange(self.frames)).ravel()
        return self.images.of(frames), np.repeat(np.arange(clips), self.frames)


def clips_of(clips: int, frames: int, seed: int, likeness: float = 0.5) -> Clips:
    """Simulate two detectors on clips, the variant a little better.

    The frames of a clip share how crowded and hard it is, and which classes it shows; a share of what makes an object
    easier for one detector than for the other is of the clip too. What remains is of the single frame and object.

    Args:
        clips: How many.
        frames: Of each clip.
        seed: Of the generator.
        likeness: That share, from 0 to 1.
    """
    random = np.random.default_rng(seed)
    clip_scale, object_scale = np.sqrt([0.245 * likeness, 0.245 * (1 - likeness)])
    images = clips * frames
    clip = np.repeat(np.arange(clips), frames)
    crowd = (random.gamma(2, 0.5, clips) * random.gamma(10, 0.1, images).reshape(clips, frames).T).T.ravel()
    hard = random.normal(0, 0.5, clips)[clip] + random.normal(0, 0.3, images)
    shown = random.gamma(1.5, 1 / 1.5, (clips, len(RATES)))[clip]
    counts = random.poisson(np.array(RATES) * shown * crowd[:, None])
    true_image = np.repeat(np.arange(images), counts.sum(axis=1))
    true_cls = np.repeat(np.tile(np.arange(len(RATES)), images), counts.ravel())
    hard_object = random.normal(0, 1, len(true_image))
    share = np.array(RATES) / np.sum(RATES)
    found = []
    for skill in (0.3, 0.4):
        of_clip = random.normal(0, clip_scale, clips)[clip]  # the detector's luck with this scene
        own = of_clip[true_image] + random.normal(0, object_scale, len(true_image))
        quality = skill - 0.6 * hard[true_image] - 0.7 * hard_object + own
        overlap = special.expit(0.9 + 0.6 * quality + random.normal(0, 0.3, len(true_image)))
        seen = random.random(len(true_image)) < special.expit(1.5 + 1.2 * quality)
        confidence = special.expit(0.3 + quality + random.normal(0, 0.6, len(true_image)))
        false_image = np.repeat(np.arange(images), random.poisson(4 * crowd * np.exp(0.4 * hard - of_clip)))
        false_cls = random.choice(len(RATES), len(false_image), p=share)
        false_confidence = special.expit(-1.5 + 0.4 * hard[false_image] + random.normal(0, 1.1, len(false_image)))
        image = np.concatenate([true_image[seen], false_image])
        order = np.argsort(image, kind="stable")
        columns = (
            image,
            np.concatenate([true_cls[seen], false_cls]),
            np.concatenate([confidence[seen], false_confidence]).astype(np.float32),
            np.concatenate([overlap[seen][:, None] >= THRESHOLDS, np.zeros((len(false_image), 10), dtype=bool)]),
        )
        found.append(tuple(column[order] for column in columns))
    return Clips(Population.measured(images, (true_image, true_cls), found), frames)


def clip_coverage(
    random: np.random.Generator, whole: Clips, clips: int, count: int, resamples: int = 500, *, naive: bool = False
) -> float:
    """How often the interval holds the population's difference, in `count` samples of so many clips.

    Args:
        random: Chooses the samples.
        whole: What they are drawn from.
        clips: In each sample.
        count: Of samples.
        resamples: Of each sample.
        naive: Whether single frames are drawn again, which is wrong.
    """
    held = 0
    for index in range(count):
        (baseline, variant), of_clip = whole.sample(random, clips)
        groups = None if naive else of_clip
        pair = tuple(
            resampled_accuracy(one, resamples=resamples, seed=index, groups=groups) for one in (variant, baseline)
        )
        interval = image_interval([(pair[0], pair[1])], LEVEL, baseline, groups).interval
        held += interval.low <= whole.images.difference <= interval.high
    return held / count
