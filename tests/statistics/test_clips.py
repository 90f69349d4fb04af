"""The interval over groups of images holds what it claims where frames of a clip are alike; the naive one does not."""

from __future__ import annotations

import numpy as np
from simulated.clips import clip_coverage, clips_of


def test_the_interval_over_clips_covers_and_the_one_over_frames_does_not() -> None:
    whole = clips_of(1000, 8, seed=1)
    covered = [clip_coverage(np.random.default_rng(3), whole, 12, 100, 100, naive=naive) for naive in (False, True)]
    assert covered[0] >= 0.84
    assert covered[1] <= 0.75
