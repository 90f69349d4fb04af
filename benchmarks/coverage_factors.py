"""Rows of `coverage.py` on factors and components: seeds that act on single levels, and interactions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import common  # noqa: F401 - finds `simulated`
import numpy as np
from simulated import factors

WRONG = {"pooled error": factors.pooled_error, "error of the factor": factors.error_of_factor}
FITS = 10  # times fewer sweeps for statsmodels' mixed model, which takes a second each


def of_seeds_on_levels(sweeps: int) -> Iterator[dict[str, Any]]:
    """Main effects where seeds act on levels apart: those of the report, and wrong ones beside them."""
    for kind in ("alike", "one level", "each module"):
        for seeds in (2, 3, 5, 10):
            setting = f"null, {seeds} seeds act on {kind}" if kind != "alike" else f"null, {seeds} seeds act alike"
            found = factors.main_effects(np.random.default_rng(seeds), sweeps, seeds, kind)
            yield {"what": "main effect by seed covers", "setting": setting, "found": found["covered"], "of": sweeps}
            yield {"what": "sweeps with a false main effect", "setting": setting, "found": found["false"], "of": sweeps}
            false = found["false interactions"]
            yield {"what": "sweeps with a false interaction", "setting": setting, "found": false, "of": sweeps}
            if kind != "alike" and seeds in (3, 10):
                for name, analyse in WRONG.items():
                    found = factors.main_effects(np.random.default_rng(seeds), sweeps, seeds, kind, analyse)
                    yield {
                        "what": f"false main effect with {name}",
                        "setting": setting,
                        "found": found["false"],
                        "of": sweeps,
                    }
    count = sweeps // FITS
    for kind in ("one level", "each module"):
        found = factors.main_effects(np.random.default_rng(3), count, 3, kind, factors.mixed_model)
        setting = f"null, 3 seeds act on {kind}"
        yield {"what": "false main effect with MixedLM", "setting": setting, "found": found["false"], "of": count}


def of_components(sweeps: int) -> Iterator[dict[str, Any]]:
    """Interactions of two of three components, and what main effects hide."""
    for interaction in (0.0, -0.01):
        for seeds in (3, 5, 10):
            found = factors.components(np.random.default_rng(seeds), sweeps, seeds, interaction)
            setting = f"3 components, {seeds} seeds, interaction {100 * interaction:g} points"
            names = {"covered": "interaction's interval covers", "false": "false interaction of components"}
            if interaction:
                names |= {
                    "covered without": "effect without the other covers",
                    "covered with": "effect with the other covers",
                    "found": "interaction is found",
                    "main effect misleads": "main effect misses that without",
                }
            for key, what in names.items():
                yield {"what": what, "setting": setting, "found": found[key], "of": sweeps}
