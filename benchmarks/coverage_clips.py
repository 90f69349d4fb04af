"""Part `clips` of coverage.py: intervals over images where the frames of a clip are alike."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from simulated.clips import clip_coverage, clips_of

FRAMES = 8
RESAMPLES = 200


def over_clips(samples: int) -> Iterator[dict[str, Any]]:
    """Whole clips drawn, and as a negative control single frames; fewer samples of many clips, which take longer."""
    for likeness, sizes in ((0.15, (8, 12, 20, 40)), (0.5, (12, 20))):
        whole = clips_of(2500, FRAMES, 1, likeness)
        for clips in sizes:
            count = 4 * samples // clips
            for what, naive in (("over clips", False), ("over frames", True)):
                random = np.random.default_rng(clips)
                found = clip_coverage(random, whole, clips, count, RESAMPLES, naive=naive)
                setting = f"{clips} clips of {FRAMES} frames, likeness {likeness}"
                yield {"what": f"bootstrap {what} covers", "setting": setting, "found": found, "of": count}
