"""Rows of coverage.py on seeds and images together, planning from few seeds, and equivalence; wrong rules beside."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from simulated.seeds_and_images import false_equivalence, joint_coverage, planning

Line = dict[str, Any]


def over_both(studies: int) -> Iterator[Line]:
    """Joint intervals and what earlier rules claim, planning, and equivalence at the margin."""
    random = np.random.default_rng(14)
    for seeds in (3, 5, 10, 30):
        for ratio in (0.25, 0.5, 1.0, 2.0):
            for shared in (0.0, 0.5):
                found = joint_coverage(random, studies, seeds, ratio, shared)
                setting = f"{seeds} seeds, images {ratio:g} x seeds, {shared:.0%} seed x image"
                for what, value in (
                    ("interval over both covers", found.joint),
                    ("Satterthwaite's sum covers", found.satterthwaite),
                    ("false claim, both exclude zero", found.old_rule),
                    ("false claim on new images, seeds only", found.over_seeds),
                ):
                    yield {"what": what, "setting": setting, "found": value, "of": studies}
    for seeds in (3, 5, 10):
        count = studies // 10
        plans = planning(random, count, seeds)
        for what, value in (
            ("detectable difference too small", plans.detectable_too_small),
            ("plan has 80 % power", plans.plans_with_power),
            ("detectable too small, plain spread", plans.detectable_too_small_plain),
            ("plan has 80 % power, plain spread", plans.plans_with_power_plain),
        ):
            yield {"what": what, "setting": f"{seeds} seeds", "found": value, "of": count}
    for seeds in (3, 5, 10):
        for variants in (1, 4, 12):
            for naive in (False, True):
                count = studies // 4
                value = false_equivalence(random, count, seeds, variants, margin=2.0, naive=naive)
                what = "false equivalence, not significant" if naive else "false equivalence"
                setting = f"{variants} variants, {seeds} seeds, at the margin"
                yield {"what": what, "setting": setting, "found": value, "of": count}
