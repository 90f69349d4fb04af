"""Records of a sweep -> one row per variant, with DESIGN's columns first.

The variants of a design of components are one comparison group, whose baseline has none of them. Each component is a
column behind all others: "true" or "false", empty for variants that are no part of the design. Controls stand among
what they control; they take no part in the correction for many tests.

What is not known is empty, and `notes` says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean, median
from typing import Any

import pandas as pd

from ablate.analysis.columns import COLUMNS, EXTRA_COLUMNS, baselines, components_of, frame_of, left_out, rows_of
from ablate.analysis.comparability import differences, disagreements
from ablate.analysis.image_intervals import KnownInterval, known_intervals
from ablate.analysis.measurements import evaluated, fill_measured, latency_rows, status
from ablate.analysis.pairing import Group, comparison_groups, differences_of, trial_pairs
from ablate.analysis.variants import Variant, is_measured, variants_of
from ablate.records.image_counts import shortfalls
from ablate.records.records import Design, Record, Sweep, number, sequence, value
from ablate.statistics.paired import (
    effect_size,
    holm,
    paired_differences,
    paired_t,
    sample_std,
    seeds_needed,
    smallest_detectable,
    t_interval,
)

__all__ = [
    "COLUMNS", "EXTRA_COLUMNS", "TO_FIND", "baselines", "comparison_table", "components_of", "left_out", "rows_of",
    "trial_table",
]  # fmt: skip

TO_FIND = 0.005  # half a point of mAP50-95: the difference for which `seeds_needed` says how many seeds would show it


def comparison_table(sweep: Sweep, *, strict: bool = False) -> pd.DataFrame:
    """The comparison of a sweep's variants: `COLUMNS`, `EXTRA_COLUMNS`, components; one row per variant.

    Comparison groups follow each other in the order of the sweep; in each, the baseline comes first
    and the others by falling difference to it, or in the order of the design. Never raises for what
    records lack: the reason is in `notes` and the value is empty.

    Args:
        sweep: What `load_sweep` read.
        strict: Leave out what may not be compared with its baseline; `left_out` tells what that was, and why.
    """
    groups = comparison_groups(sweep)
    names = {str(value(variant.records[0], "factors", "data") or "") for g in groups for variant in g.members}
    several_data = len(names - {""}) > 1
    images = known_intervals(sweep, groups)
    ordered: list[Variant] = []
    for group in groups:
        for variant in group.members:
            fill_measured(variant, sweep)
            if variant.marks is not None:
                variant.row |= {name: str(variant.marks[i]).lower() for name, i in _components(sweep.design).items()}
        for variant in group.members:
            _compare(variant, group.baseline, sweep)
            _fill_images(variant, images)
            if several_data and variant.measured:
                variant.notes.append(f"compare within data {value(variant.records[0], 'factors', 'data')} only")
            variant.row["notes"] = "; ".join(dict.fromkeys(variant.notes))
        ordered += sorted(group.members, key=lambda variant: _rank(variant, group, sweep.design))
    kept = [variant for variant in ordered if not strict or variant.row["comparable"] == "yes"]
    family = [variant.row for variant in kept if variant.control is None]
    for row, corrected in zip(family, holm([row.get("p_value") for row in family]), strict=True):
        row["p_holm"] = corrected
    table = frame_of([variant.row for variant in kept], list(_components(sweep.design)))
    table.attrs["left_out"] = {v.label: v.row["notes"] for v in ordered if v not in kept}
    return table


def trial_table(sweep: Sweep) -> pd.DataFrame:
    """One row per trial, in the order of the sweep: where the numbers of the comparison come from."""
    labels: dict[str, str] = {}
    for variant in variants_of(sweep):
        for record in variant.records:
            labels.setdefault(str(record["signature"]), variant.label)
    rows = [
        {
            "variant": labels[str(record["signature"])],
            "seed": record.get("seed"),
            "status": _status_with_message(record),
            "map50_95": number(record, "metrics", "map50_95") if is_measured(record) else None,
            "evaluated": evaluated([record]) if is_measured(record) else "",
            "train_minutes": number(record, "cost", "train_minutes"),
            "signature": str(record["signature"]),
            "mlflow_run": sweep.run_ids.get(str(record["signature"]), ""),
        }
        for record in sweep.records
    ]
    columns = ["variant", "seed", "status", "map50_95", "evaluated", "train_minutes", "signature", "mlflow_run"]
    frame = pd.DataFrame(rows, columns=columns)
    seeds = [row["seed"] if isinstance(row["seed"], int) else None for row in rows]
    frame["seed"] = pd.Series(seeds, dtype="Int64")
    return frame.astype({"map50_95": "float64", "train_minutes": "float64"})


def _components(design: Design | None) -> dict[str, int]:
    """Column -> index of the component that it tells of."""
    taken = {*COLUMNS, *EXTRA_COLUMNS}
    names = design.components if design else []
    return {f"{name} (component)" if name in taken else name: index for index, name in enumerate(names)}


def _status_with_message(record: Record) -> str:
    """How a trial ended, with what it said when it failed."""
    message = value(record, "failure", "message") if value(record, "status") == "failed" else None
    return f"{status(record)} ({message})" if message else status(record)


def _compare(variant: Variant, baseline: Variant | None, sweep: Sweep) -> None:
    """Fill in the difference to the baseline, its interval, and whether the two may be compared."""
    variant.row["comparable"] = "no"
    if not variant.measured:
        return
    reasons = disagreements(variant.measured)
    other_data = shortfalls(variant.measured)
    if variant is baseline:
        variant.row["comparable"] = "no" if reasons or other_data else "yes"
    elif baseline is None or not baseline.measured:
        problem = "no baseline in this sweep" if baseline is None else "the baseline has no finished trial"
        reasons.append(f"{problem}: no difference can be given")
    else:
        variant.row["baseline"] = baseline.label
        if variant.marks is not None or variant.control is not None:
            variant.row["latency_ratio"] = _latency_ratio(variant, baseline, sweep)
        reasons = _fill_difference(variant, baseline) or reasons
        variant.row["comparable"] = "no" if reasons or other_data else "yes"
    variant.notes += [*reasons, *other_data]


def _fill_difference(variant: Variant, baseline: Variant) -> list[str]:
    """Fill in the paired difference; returns why the two may not be compared."""
    seeds, paired = paired_differences(variant.accuracy(), baseline.accuracy())
    variant.row["shared_seeds"] = " ".join(map(str, seeds))
    if not seeds:
        mine, theirs = variant.row["seeds"] or "none", baseline.row["seeds"] or "none"
        return [f"no seed in common with the baseline (seeds {mine} against {theirs})"]
    _, last = differences_of(variant, baseline, "metrics_last", "map50_95")
    interval = t_interval(paired)
    variant.row |= {
        "delta_map50_95": fmean(paired),
        "delta_last": fmean(last) if len(last) == len(paired) else None,
    }
    if interval is not None:
        spread = sample_std(paired)
        variant.row |= {
            "delta_ci_low": interval.low,
            "delta_ci_high": interval.high,
            "p_value": paired_t(paired),
            "effect_size": effect_size(paired),
            "smallest_detectable": smallest_detectable(spread, len(paired)),
            "seeds_needed": seeds_needed(spread, TO_FIND),
        }
    elif len(paired) > 1:
        variant.notes.append("the same difference on every seed: no spread to judge by")
    if len(seeds) < max(len(variant.by_seed), len(baseline.by_seed)):
        plural = "s" if len(seeds) > 1 else ""
        variant.notes.append(f"difference over shared seed{plural} {', '.join(map(str, seeds))} only")
    mine, theirs = (list(side) for side in zip(*trial_pairs(variant, baseline), strict=True))
    return differences(mine, theirs, by_design=variant.marks is not None or _differs_by_design(variant))


def _differs_by_design(variant: Variant) -> bool:
    """Whether a variant is a control that is another network than the baseline, and so has other starting weights."""
    return variant.control is not None and variant.control.kind == "scale"


def _fill_images(variant: Variant, known: Mapping[tuple[str, str], KnownInterval]) -> None:
    """Fill in what the sampling of validation images leaves open, or say why that is not known."""
    found = known.get((variant.key, variant.group))
    if found is None:
        return
    if found.reason:
        variant.notes.append(f"no interval over images: {found.reason}")
    else:
        variant.row |= {"images_ci_low": found.low, "images_ci_high": found.high}


def _latency_ratio(variant: Variant, baseline: Variant, sweep: Sweep) -> float | None:
    """Median over rounds of the ratio to a group's baseline, which need not be the one known when measuring."""
    samples = {str(value(entry, "variant_key")): sequence(entry, "samples_ms") for entry in latency_rows(sweep)}
    mine, theirs = samples.get(variant.key, []), samples.get(baseline.key, [])
    pairs = [(a, b) for a, b in zip(mine, theirs, strict=False) if _is_time(a) and _is_time(b)]
    return median(a / b for a, b in pairs) if pairs and len(mine) == len(theirs) else None


def _is_time(found: object) -> bool:
    return isinstance(found, int | float) and not isinstance(found, bool) and 0 < found < math.inf


def _rank(variant: Variant, group: Group, design: Design | None) -> tuple[Any, ...]:
    """Baseline, then falling difference, then falling accuracy, controls last; unknown values last.

    The variants of a design come first, by rising number of components, as papers print them; where each lacks one
    component, in the order of what is lacking.
    """
    delta, accuracy = variant.row.get("delta_map50_95"), variant.row.get("map50_95")
    place: tuple[int, ...] = (1,)
    if variant.marks is not None:
        lacking_first = design is not None and design.name == "leave_one_out"
        place = (0, sum(variant.marks), *(mark == lacking_first for mark in variant.marks))
    return (
        variant is not group.baseline,
        variant.control is not None,
        place,
        delta is None,
        -(delta or 0.0),
        -(accuracy if accuracy is not None else -1.0),
        variant.label,
    )
