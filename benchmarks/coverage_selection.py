"""Part `selection` of coverage.py: what choosing the best epoch adds where nothing differs but the noise of curves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from simulated.selection import JUDGES, Bias, Curves, bias


def of_selection(sweeps: int) -> Iterator[dict[str, Any]]:
    """Bias and false alarms of each judge; `judge=best` is the negative control."""
    for seeds in (3, 5):
        for judge in JUDGES:
            result = bias(np.random.default_rng(1), sweeps, seeds, judge)
            yield from _lines(f"{seeds} seeds, judge={judge}", result, sweeps)


def of_halves(sweeps: int) -> Iterator[dict[str, Any]]:
    """The same of `judge=split` on clips; halves of single frames are the negative control of halves of whole clips."""
    for frames, likeness in ((4, 0.3), (10, 0.3), (10, 0.5)):
        clips = f"5 seeds, clips of {frames} frames alike by {likeness:g}"
        of_frames = bias(np.random.default_rng(1), sweeps, 5, "split", Curves.of_clips(frames, likeness))
        yield from _lines(f"{clips}, halves of frames", of_frames, sweeps)
    yield from _lines("5 seeds, halves of whole clips", bias(np.random.default_rng(1), sweeps, 5, "split"), sweeps)


def _lines(setting: str, result: Bias, sweeps: int) -> Iterator[dict[str, Any]]:
    text = f"{setting}: {result.points:+.3f} +- {2 * result.error:.3f} points"
    yield {"what": "noisier of two equal variants gains", "setting": text, "found": result.points / 100}
    yield {"what": "false alarm", "setting": setting, "found": result.false_alarms, "of": sweeps}
