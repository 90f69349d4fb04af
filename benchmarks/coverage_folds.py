"""Rows of coverage.py about the test over the folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from simulated.folds import false_alarms, fold_differences


def over_folds(studies: int) -> Iterator[dict[str, Any]]:
    """The corrected resampled t-test, and as a negative control Student's t over all trainings."""
    random = np.random.default_rng(1)
    for of_images in (0.25, 0.5, 1.0):
        for folds in (2, 3, 5, 10):
            for seeds in (1, 3):
                plain, corrected = false_alarms(fold_differences(random, studies, folds, of_images, seeds))
                setting = f"{folds} folds, {seeds} seed{'s' * (seeds > 1)}, images {of_images:g} SD"
                yield {
                    "what": "false alarm over folds, corrected t",
                    "setting": setting,
                    "found": corrected,
                    "of": studies,
                }
                yield {"what": "false alarm over folds, plain t", "setting": setting, "found": plain, "of": studies}
