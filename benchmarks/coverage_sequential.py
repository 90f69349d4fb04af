"""Rows of coverage.py about seeds that stop by themselves: false claims, and seeds saved against a fixed design."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from simulated.seeds_and_images import joint_coverage_at_the_stop
from simulated.sequential_sweeps import (
    KINDS,
    after_a_test,
    anytime,
    claims,
    claims_where_shares_are_released,
    extended,
    fixed_design,
    fixed_design_by_holm,
    naive,
)

from ablate.statistics.stopping import critical_values

RULES = {"until=decided": critical_values, "anytime-valid": anytime, "repeated t-test": naive}
TRUTHS = ((0.0, None), (0.0, 1.5), (1.5, 1.5), (-1.5, 1.5))  # true difference of every variant, and margin
MOST = 12
MIX = (0.0, 0.0, 0.0, 1.0, 1.5, 2.0)  # true differences, repeated for as many variants as there are

Line = dict[str, Any]


def over_looks(sweeps: int) -> Iterator[Line]:
    """Any false claim of a sweep that is looked at after every seed, at the truth where it is most frequent."""
    random = np.random.default_rng(1)
    for name, rule in RULES.items():
        for kind in KINDS:
            for variants in (1, 4, 12):
                critical = rule(MOST, variants)
                found = [
                    claims(random, sweeps, [effect] * variants, critical, delta, kind).false for effect, delta in TRUTHS
                ]
                setting = f"{variants} variants, to 12 seeds, {kind}"
                yield {"what": f"false claim, {name}", "setting": setting, "found": max(found), "of": sweeps}
    for kind in KINDS:
        first = critical_values(MOST, 12).copy()
        first[1:] = np.inf
        found = [claims(random, sweeps, [effect] * 12, first, delta, kind).false for effect, delta in TRUTHS]
        setting = f"12 variants, at 3 seeds, {kind}"
        yield {"what": "false claim, until=decided", "setting": setting, "found": max(found), "of": sweeps}
    yield from _released(random, sweeps)
    yield from _over_both(random, sweeps)
    for variants, most in ((1, 12), (4, 12), (12, 12), (1, 20), (4, 20), (12, 20), (12, 30)):
        for name in ("until=decided", "anytime-valid"):
            yield _saved(random, sweeps, variants, most, name)


def declared_late(sweeps: int) -> Iterator[Line]:
    """Any false claim where the rule was declared, or declared anew, after results that left a sweep undecided."""
    random = np.random.default_rng(2)
    rules = {
        "to 12 seeds, as declared": lambda variants: critical_values(12, variants),
        "to 12, then to 20": lambda variants: extended((12, 20), variants),
        "to 12, 20, then 30": lambda variants: extended((12, 20, 30), variants),
        "a t-test of 3 seeds, then to 12": lambda variants: after_a_test(3, 12, variants),
        "a t-test of 5 seeds, then to 12": lambda variants: after_a_test(5, 12, variants),
    }
    for name, rule in rules.items():
        for variants in (1, 4, 12):
            found = [
                claims(random, sweeps, [effect] * variants, rule(variants), delta).false for effect, delta in TRUTHS
            ]
            setting = f"{variants} variants, {name}"
            yield {
                "what": "false claim, declared late",
                "setting": setting,
                "found": max(found),
                "of": sweeps,
            }


def _released(random: np.random.Generator, sweeps: int) -> Iterator[Line]:
    """A rule that releases the shares of decided variants, where nothing differs: why it is not in use."""
    for variants, most in ((4, 12), (12, 12), (4, 20), (12, 20)):
        for has_own_baselines in (False, True):
            found = [
                claims_where_shares_are_released(
                    random, sweeps, [0.0] * variants, most, delta, has_own_baselines=has_own_baselines
                ).false
                for delta in (1.0, 1.3, 1.8)
            ]
            baselines = "own baselines" if has_own_baselines else "one baseline"
            setting = f"{variants} variants, to {most} seeds, {baselines}"
            yield {"what": "false claim, shares released", "setting": setting, "found": max(found), "of": sweeps}


def _over_both(random: np.random.Generator, sweeps: int) -> Iterator[Line]:
    """Intervals over seeds and images where a variant stopped, where they cover most rarely of effects and images."""
    for kind in KINDS[:-1]:
        for variants, most, delta in ((1, 12, None), (1, 12, 1.5), (4, 12, 1.5), (4, 20, 1.5)):
            found = [
                joint_coverage_at_the_stop(
                    random, sweeps // 4, effect, images, most=most, tests=variants, delta=delta, kind=kind
                )
                for effect in (0.0, 0.5, 1.0, 2.0)
                for images in (0.05, 0.2, 0.5, 1.0)
            ]
            margin = "no margin" if delta is None else f"margin {delta:g}"
            setting = f"{variants} variants, to {most} seeds, {margin}, {kind}"
            of = sweeps // 4
            lowest = min(one.valid_at_all_looks for one in found)
            yield {"what": "over both covers, at the stop", "setting": setting, "found": lowest, "of": of}
            lowest = min(one.students for one in found)
            yield {"what": "over both covers, Student's", "setting": setting, "found": lowest, "of": of}


def _saved(random: np.random.Generator, sweeps: int, variants: int, most: int, name: str) -> Line:
    """Seeds of half nulls and half effects, with a margin of 2 standard deviations, and of a fixed design."""
    effects = (
        [0.0] * 6 + [1.0, 1.5, 2.0] * 2 if variants == 12 else list(MIX) if variants == 1 else [0.0, 0.0, 1.5, 2.0]
    )
    critical = RULES[name](most, variants)
    if variants == 1:  # each of the mix alone
        results = [claims(random, sweeps, [effect], critical, 2.0) for effect in effects]
        seeds, decided = (float(np.mean([getattr(one, what) for one in results])) for what in ("seeds", "decided"))
    else:
        result = claims(random, sweeps, effects, critical, 2.0)
        seeds, decided = result.seeds, result.decided
    fixed = fixed_design(random, sweeps // 2, effects, decided, 2.0, variants)
    by_holm = {
        f"fixed_by_holm_{alpha:g}": fixed_design_by_holm(random, sweeps // 2, effects, decided, 2.0, alpha)
        for alpha in (0.025, 0.05)
        if variants > 1
    }
    setting = f"{variants} variants, to {most} seeds: {seeds:.1f} for {fixed}"
    return {
        "what": f"seeds saved, {name}", "setting": setting, "found": 1 - seeds / fixed, "seeds": seeds,
        "fixed": fixed, "decided": decided, **by_holm,
    }  # fmt: skip
