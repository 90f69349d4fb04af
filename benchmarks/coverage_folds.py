"""Rows of coverage.py about the test over the folds of a cross-validation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from simulated.fold_claims import (
    Design,
    bias_of_best,
    detectable,
    false_alarm,
    false_equivalence,
    false_pairs,
    repeated_looks,
)
from simulated.folds import false_alarms, fold_differences
from simulated.whole_reports import claims_of_trainings, false_reports


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


def of_claims_over_folds(studies: int) -> Iterator[dict[str, Any]]:
    """What a report claims over folds; each negative control takes every training as a sample of its own."""
    random = np.random.default_rng(2)

    def line(what: str, setting: str, found: float, of: int = studies) -> dict[str, Any]:
        return {"what": what, "setting": setting, "found": found, "of": of}

    for of_images in (0.25, 0.5, 1.0):
        for folds in (3, 5, 10):
            design = Design(folds, 3, of_images)
            setting = f"{folds} folds, 3 seeds, images {of_images:g} SD"
            margin = 3 * float(np.sqrt(1 + of_images**2))
            found, control = false_equivalence(random, studies, design, margin)
            yield line("false equivalence at the margin over folds", setting, found)
            yield line("false equivalence at the margin, plain t", setting, control)
            found, control = detectable(random, studies // 2, design)
            yield line("detectable difference over folds too small", setting, found, studies // 2)
            yield line("detectable difference, plain t, too small", setting, control, studies // 2)
            found, control = false_pairs(random, studies // 10, design, 4)
            yield line("false pair over folds, 4 variants", setting, found, studies // 10)
            yield line("false pair, plain t, 4 variants", setting, control, studies // 10)
            found, control = repeated_looks(random, studies, design, 5)
            yield line("false alarm at looks with 1 to 5 seeds, spent", setting, found)
            yield line("false alarm at looks with 1 to 5 seeds, each p", setting, control)
            one = design._replace(seeds=1)
            kinds = {
                "a seed adds 0.5 SD to all folds alike": one._replace(common=0.5),
                "exponential in the variant": one._replace(is_skewed=True),
                "one training of ten collapses": one._replace(lost=0.1),
            }
            for words, kind in kinds.items():
                setting = f"{folds} folds, 1 seed, images {of_images:g} SD, {words}"
                yield line("false alarm over folds, corrected t", setting, false_alarm(random, studies, kind))
            measured, shrunk, as_seeds = bias_of_best(random, studies // 5, one, 12)
            setting = f"best of 12 over {folds} folds, images {of_images:g} SD"
            for what, bias in (("measured", measured), ("shrunken", shrunk), ("shrunken as if over seeds", as_seeds)):
                yield {"what": f"bias in standard deviations, {what}", "setting": setting, "found": bias}


def of_reports_over_folds(reports: int) -> Iterator[dict[str, Any]]:
    """Whole reports over five folds in which nothing differs."""
    random = np.random.default_rng(3)
    for variants in (1, 4):
        for seeds in (1, 3):
            setting = f"{variants} variants, 5 folds, {seeds} seed{'s' * (seeds > 1)}, nothing differs"
            found = false_reports(random, reports, variants, seeds, folds=5)
            yield {"what": "reports over folds with a false claim", "setting": setting, "found": found, "of": reports}
        count = reports // 4
        found = false_reports(random, count, variants, 3, folds=5, claims=claims_of_trainings)
        yield {"what": "reports, each training a sample", "setting": setting, "found": found, "of": count}
