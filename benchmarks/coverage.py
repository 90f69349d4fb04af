"""Do the intervals cover what they claim, and do the tests keep quiet where nothing differs? By simulation.

    python benchmarks/coverage.py [seeds factors images] [--sweeps 20000] [--samples 1000]

Prints a table; its lines, with the settings, go to results/coverage.jsonl. `+-` is twice the standard error of the
simulation itself.
"""

from __future__ import annotations

import argparse
import io
import time
from collections.abc import Iterator
from contextlib import redirect_stdout
from typing import Any

import numpy as np
from common import keep
from coverage_clips import over_clips
from coverage_data_sets import over_data_sets
from coverage_factors import of_components, of_seeds_on_levels
from coverage_folds import of_claims_over_folds, of_reports_over_folds, over_folds
from coverage_latency import over_processes
from coverage_seeds_and_images import over_both
from coverage_selection import of_halves, of_selection
from coverage_sentences import of_best, of_pairs, of_reports, of_skew
from coverage_sequential import declared_late, over_looks
from simulated.known_truth import coverage_over_seeds, factor_coverage, false_alarms, image_coverage, population

COMMON = (4.0, 1.0, 1.0)
RARE = (4.0, 1.0, 1.0, 0.4, 0.4, 0.2)  # with classes of 14 objects in 70 images
RESAMPLES = 500  # half of what the report draws: what that costs in coverage is far below the simulation's own error

Line = dict[str, Any]


def main() -> None:
    """Simulate, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="seeds, factors, images; all unless given")
    parser.add_argument("--sweeps", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=1000, help="of 70 images; half as many of 200, a fifth of 1,000")
    parser.add_argument("--images", type=int, nargs="*", default=[70, 200, 1000], help="sizes of the samples")
    asked = parser.parse_args()
    parts = {
        "seeds": lambda: over_seeds(asked.sweeps),
        "factors": lambda: of_factors(asked.sweeps // 10),
        "images": lambda: over_images(asked.samples, asked.images),
        "seeds_and_images": lambda: over_both(asked.sweeps),
        "latency": lambda: over_processes(asked.sweeps // 2),
        "looks": lambda: over_looks(asked.sweeps // 2),
        "late": lambda: declared_late(asked.sweeps // 2),
        "seeds_on_levels": lambda: of_seeds_on_levels(asked.sweeps // 10),
        "components": lambda: of_components(asked.sweeps // 4),
        "data_sets": lambda: over_data_sets(asked.sweeps // 4),
        "selection": lambda: of_selection(asked.sweeps // 10),
        "halves": lambda: of_halves(asked.sweeps // 10),
        "folds": lambda: over_folds(asked.sweeps // 4),
        "fold_claims": lambda: of_claims_over_folds(asked.sweeps // 4),
        "fold_reports": lambda: of_reports_over_folds(asked.sweeps // 100),
        "reports": lambda: of_reports(3 * asked.sweeps // 20),
        "skew": lambda: of_skew(asked.sweeps // 50),
        "best": lambda: of_best(asked.sweeps // 4),
        "pairs": lambda: of_pairs(asked.sweeps // 20),
        "clips": lambda: over_clips(asked.samples),
    }
    for part in asked.parts or parts:
        started = time.perf_counter()
        for line in parts[part]():
            error = 2 * float(np.sqrt(line["found"] * (1 - line["found"]) / line["of"])) if "of" in line else None
            about = "" if error is None else f" +- {error:.1%}"
            print(f"{line['what']:38s} {line['setting']:42s} {line['found']:6.1%}{about}", flush=True)
            rounded = {name: round(v, 4) if isinstance(v, float) else v for name, v in line.items()}
            with redirect_stdout(io.StringIO()):  # the table is what is read
                keep("coverage", {"part": part, "seconds": round(time.perf_counter() - started), **rounded})


def over_seeds(sweeps: int) -> Iterator[Line]:
    """Intervals of paired differences, and false alarms of many variants against one baseline."""
    random = np.random.default_rng(1)
    for kind in ("normal", "heavy"):  # skew is a part of its own
        for seeds in (2, 3, 5, 10):
            found = coverage_over_seeds(random, sweeps, seeds, kind)
            yield {"what": "t interval covers", "setting": f"{seeds} seeds, {kind} noise", "found": found, "of": sweeps}
    for kind in ("normal", "heavy"):
        for variants in (1, 4, 12):
            for seeds in (3, 5, 10):
                found = false_alarms(random, sweeps // 2, seeds, variants, kind)
                setting = f"{variants} variants, {seeds} seeds, {kind} noise"
                yield {"what": "false alarm after Holm", "setting": setting, "found": found, "of": sweeps // 2}


def of_factors(sweeps: int) -> Iterator[Line]:
    """Effects of module, insertion and optimizer."""
    random = np.random.default_rng(1)
    for seeds in (2, 3, 5):
        found = factor_coverage(random, sweeps, seeds)
        setting = f"3 x 2 x 2 levels, {seeds} seeds"
        for what, key in (
            ("main effect's interval covers", "main effects"),
            ("interaction's interval covers", "interactions"),
            ("false alarm among interactions", "false alarms"),
        ):  # the intervals of one sweep depend on one another, so it counts once
            yield {"what": what, "setting": setting, "found": found[key], "of": sweeps}


def over_images(samples: int, sizes: list[int]) -> Iterator[Line]:
    """The paired bootstrap, and beside it the other customary intervals from the same resamples."""
    whole = {rates: population(200_000, rates, seed=1) for rates in (COMMON, RARE)}
    for images in sizes:
        count = samples // (1 if images < 200 else 2 if images < 1000 else 5)
        for rates in (COMMON, RARE):
            said = image_coverage(np.random.default_rng(images), whole[rates], images, count, RESAMPLES)
            setting = f"{images} images, {len(rates)} classes"
            found = said.pop("coverage")
            yield {"what": "bootstrap interval covers", "setting": setting, "found": found, "of": count, **said}


if __name__ == "__main__":
    main()
