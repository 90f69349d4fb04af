"""Do the intervals cover what they claim, and do the tests keep quiet where nothing differs? By simulation.

    python benchmarks/coverage.py [--sweeps 20000] [--samples 1000] [--intervals]

Prints a table; its lines, with the settings, go to results/coverage.jsonl. `+-` is twice the standard error of the
simulation itself.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from common import keep
from simulation import (
    coverage_over_seeds,
    factor_coverage,
    false_alarms,
    image_coverage,
    intervals_compared,
    population,
)

COMMON = (4.0, 1.0, 1.0)
RARE = (4.0, 1.0, 1.0, 0.4, 0.4, 0.2)  # with classes of 14 objects in 70 images


def main() -> None:
    """Simulate, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sweeps", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=1000, help="of 70 images; 0.6 of it of 200, 0.25 of 1,000")
    parser.add_argument("--intervals", action="store_true", help="compare bootstrap intervals")
    asked = parser.parse_args()
    if asked.intervals:
        compare(asked.samples)
        return
    started, random, lines = time.perf_counter(), np.random.default_rng(1), list[dict[str, Any]]()

    def note(what: str, setting: str, found: float, count: int, **more: float) -> None:
        error = 2 * float(np.sqrt(found * (1 - found) / count))
        lines.append({"what": what, "setting": setting, "found": round(found, 4), "of": count, **more})
        print(f"{what:38s} {setting:42s} {found:6.1%} +- {error:.1%}", flush=True)

    for kind in ("normal", "heavy", "skewed"):
        for seeds in (2, 3, 5, 10):
            found = coverage_over_seeds(random, asked.sweeps, seeds, kind)
            note("t interval covers", f"{seeds} seeds, {kind} noise", found, asked.sweeps)
    for kind in ("normal", "heavy"):
        for variants in (1, 4, 12):
            for seeds in (3, 5, 10):
                count = asked.sweeps // 2
                found = false_alarms(random, count, seeds, variants, kind)
                note("false alarm after Holm", f"{variants} variants, {seeds} seeds, {kind} noise", found, count)
    for seeds in (2, 3, 5):
        count = asked.sweeps // 10
        found = factor_coverage(random, count, seeds)
        setting = f"3 x 2 x 2 levels, {seeds} seeds"
        note("main effect's interval covers", setting, found["main effects"], count * 7)
        note("interaction's interval covers", setting, found["interactions"], count * 16)
        note("false alarm among interactions", setting, found["false alarms"], count)
    for rates in (COMMON, RARE):
        whole = population(200_000, rates, seed=1)
        for images, count in ((70, asked.samples), (200, asked.samples * 6 // 10), (1000, asked.samples // 4)):
            said = image_coverage(random, whole, images, count)
            setting = f"{images} images, {len(rates)} classes"
            more = {name: round(said[name], 4) for name in ("below", "above", "relative width")}
            note("bootstrap interval covers", setting, said["coverage"], count, **more)
    seconds = round(time.perf_counter() - started)
    keep("coverage", {"sweeps": asked.sweeps, "samples": asked.samples, "seconds": seconds, "table": lines})


def compare(samples: int) -> None:
    """Coverage of each kind of interval, on the same samples."""
    for rates in (COMMON, RARE):
        whole = population(200_000, rates, seed=1)
        found = intervals_compared(np.random.default_rng(2), whole, 70, samples)
        keep("coverage", {"compared": found, "images": 70, "classes": len(rates), "samples": samples})


if __name__ == "__main__":
    main()
