"""Part `selection` of coverage.py: what choosing the best epoch adds where nothing differs but the noise of curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from simulated.selection import JUDGES, bias


def of_selection(sweeps: int) -> Iterator[dict[str, Any]]:
    """Bias and false alarms of each judge; `judge=best` is the negative control."""
    for seeds in (3, 5):
        for judge in JUDGES:
            random = np.random.default_rng(1)
            result = bias(random, sweeps, seeds, judge)
            setting = f"{seeds} seeds, judge={judge}"
            text = f"{setting}: {result.points:+.3f} +- {2 * result.error:.3f} points"
            yield {"what": "noisier of two equal variants gains", "setting": text, "found": result.points / 100}
            yield {"what": "false alarm", "setting": setting, "found": result.false_alarms, "of": sweeps}
