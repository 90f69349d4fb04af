"""Rows of coverage.py about sentences: false claims of whole reports, skew, the best of many, and pairs of variants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from simulated.known_truth import coverage_over_seeds
from simulated.many_variants import as_reported, bias_of_best, by_student, false_claims, false_pairs
from simulated.whole_reports import false_kinds, false_reports, uncorrected_claims

from ablate.findings.finding import Kind

Line = dict[str, Any]


def of_reports(count: int) -> Iterator[Line]:
    """Reports of sweeps in which nothing differs, and by which kinds of findings those err that do.

    The negative control takes each interval for a claim.
    """
    for variants in (1, 4, 12):
        for seeds in (1, 3, 5):
            reports = count if variants < 12 else count // 3
            reports = reports if seeds > 1 else count // 10  # one seed is never tested
            kinds = false_kinds(np.random.default_rng(1), reports, variants, seeds)
            result = float(np.mean([bool(each) for each in kinds]))
            by_kind = {kind: n / reports for kind in Kind if (n := sum(kind in each for each in kinds))}
            alone = float(np.mean([bool(each) and Kind.ACCURACY not in each for each in kinds]))
            setting = f"{variants} variants, {seeds} seeds, nothing differs"
            line = {"what": "reports with a false claim", "setting": setting, "found": result, "of": reports}
            yield {**line, "by_kind": by_kind, "without_one_of_the_table": alone}
    for variants in (4, 12):
        reports = count // 6 if variants < 12 else count // 12
        result = false_reports(np.random.default_rng(1), reports, variants, 3, claims=uncorrected_claims)
        setting = f"{variants} variants, 3 seeds, nothing differs"
        yield {"what": "reports, each interval a claim", "setting": setting, "found": result, "of": reports}


def of_skew(sweeps: int) -> Iterator[Line]:
    """One-sided skew and collapse: what the table claims, and Student's test with Holm's correction alone."""
    for seeds in (2, 3, 5, 10):
        result = coverage_over_seeds(np.random.default_rng(seeds), 20 * sweeps, seeds, "skewed")
        setting = f"{seeds} seeds, variant alone skewed"
        yield {"what": "t interval covers", "setting": setting, "found": result, "of": 20 * sweeps}
    for kind, name in (("skewed", "exponential differences"), ("collapse", "one training of ten collapses")):
        for variants in (1, 4, 12):
            for seeds in (3, 5, 10):
                count = sweeps * 4 if variants == 1 else sweeps
                for what, judge in (("false claim", as_reported), ("false claim, Student's test alone", by_student)):
                    result = false_claims(np.random.default_rng(seeds), count, variants, seeds, kind, judge)
                    setting = f"{variants} variants, {seeds} seeds, {name}"
                    yield {"what": what, "setting": setting, "found": result, "of": count}


def of_best(sweeps: int) -> Iterator[Line]:
    """Mean error of the best variant's difference, as measured and as shrunken; fractions of mAP."""
    for between in (0.0, 0.005):
        for variants in (4, 12):
            for seeds in (3, 5):
                measured, shrunken = bias_of_best(np.random.default_rng(1), sweeps, variants, seeds, between)
                setting = f"{variants} variants, {seeds} seeds, effects vary by {100 * between:g} points"
                yield {"what": "best of many, measured less true", "setting": setting, "found": measured}
                yield {"what": "best of many, shrunken less true", "setting": setting, "found": shrunken}


def of_pairs(sweeps: int) -> Iterator[Line]:
    """Any false claim about two variants, where none differs; the negative control does not correct."""
    for variants in (4, 12):
        for seeds in (3, 5, 10):
            for spread in (1.0, 3.0):
                result = false_pairs(np.random.default_rng(1), sweeps, variants, seeds, spread=spread)
                noise = "" if spread == 1 else f", one with {spread:g} times the noise"
                setting = f"{variants} variants, {seeds} seeds{noise}"
                yield {"what": "false pair after Holm", "setting": setting, "found": result, "of": sweeps}
        result = false_pairs(np.random.default_rng(1), sweeps, variants, 5, corrected=False)
        yield {"what": "false pair, no correction", "setting": f"{variants} variants, 5 seeds", "found": result,
               "of": sweeps}  # fmt: skip
