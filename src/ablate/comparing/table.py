"""Records of a sweep -> one row per variant, with DESIGN's columns first.

The variants of a design of components are one comparison group, whose baseline has none of them. Each component is a
column behind all others: "true" or "false", empty for variants that are no part of the design.

Accuracies are fractions from 0 to 1, latency is in milliseconds, training time in minutes, memory in
GB, parameters in millions, FLOPs in units of 1e9 (one multiply-add = 2). What is not known is empty.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import pandas as pd

from ablate.comparing.comparability import differences, disagreements
from ablate.comparing.labels import FACTORS
from ablate.comparing.statistics import holm, paired_differences, paired_t, sample_std, t_interval
from ablate.comparing.variants import Variant, is_measured, variants_of
from ablate.tracking.records import Design, Record, Sweep, number, sequence, short, value

COLUMNS = (
    "variant", "module", "insertion", "optimizer", "model", "data", "replicates",
    "map50_95", "map50_95_std", "map50", "precision", "recall",
    "delta_map50_95", "delta_ci_low", "delta_ci_high", "p_value", "p_holm",
    "params_m", "gflops", "latency_ms", "latency_p95_ms", "latency_ratio",
    "train_minutes", "peak_memory_gb", "comparable", "notes", "signatures",
)  # fmt: skip
EXTRA_COLUMNS = (
    "trials", "seeds", "shared_seeds", "baseline", "evaluated", "gflops_ultralytics",
    "mlflow_runs", "variant_key", "comparison_key",
)  # fmt: skip
TEXT_COLUMNS = {
    "variant", *FACTORS, "comparable", "notes", "signatures", "seeds", "shared_seeds", "baseline",
    "evaluated", "mlflow_runs", "variant_key", "comparison_key",
}  # fmt: skip
COUNT_COLUMNS = {"replicates", "trials"}


def rows_of(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """The rows of a data frame, each as {column: value}."""
    return [{str(name): found for name, found in row.items()} for row in frame.to_dict("records")]


def components_of(table: pd.DataFrame) -> list[str]:
    """The columns of a comparison table that tell of components."""
    return [name for name in table.columns if name not in COLUMNS and name not in EXTRA_COLUMNS]


def baselines(table: pd.DataFrame) -> pd.Series:
    """For each row of a comparison table whether others are compared with it, shape (rows,)."""
    names = components_of(table)
    if not names:
        return table["module"] == "none"
    marked = table[names[0]] != ""
    return (marked & (table[names] == "false").all(axis=1)) | (~marked & (table["module"] == "none"))


def comparison_table(sweep: Sweep) -> pd.DataFrame:
    """The comparison of a sweep's variants: `COLUMNS`, `EXTRA_COLUMNS`, components; one row per variant.

    Comparison groups follow each other in the order of the sweep; in each, the baseline comes first
    and the others by falling difference to it, or in the order of the design. Never raises for what
    records lack: the reason is in `notes` and the value is empty.
    """
    variants = variants_of(sweep)
    several_data = len({str(value(v.records[0], "factors", "data") or "") for v in variants} - {""}) > 1
    groups: dict[str, list[Variant]] = {}
    for variant in variants:
        groups.setdefault(variant.group or variant.key, []).append(variant)
    ordered: list[Variant] = []
    for members in sorted(groups.values(), key=lambda members: not members[0].group):  # unknown ones last
        baseline = _baseline(members)
        for variant in members:
            _measure(variant, sweep)
        for variant in members:
            _compare(variant, baseline, sweep)
            if several_data and variant.measured:
                variant.notes.append(f"compare within data {value(variant.records[0], 'factors', 'data')} only")
            variant.row["notes"] = "; ".join(dict.fromkeys(variant.notes))
        ordered += sorted(members, key=lambda variant: _rank(variant, baseline, sweep.design))
    rows = [variant.row for variant in ordered]
    for row, corrected in zip(rows, holm([row.get("p_value") for row in rows]), strict=True):
        row["p_holm"] = corrected
    return _frame(rows, list(_columns(sweep.design)))


def trial_table(sweep: Sweep) -> pd.DataFrame:
    """One row per trial, in the order of the sweep: where the numbers of the comparison come from."""
    variants = {record["signature"]: variant.label for variant in variants_of(sweep) for record in variant.records}
    rows = []
    for record in sweep.records:
        signature = str(record["signature"])
        rows.append(
            {
                "variant": variants[signature],
                "seed": record.get("seed"),
                "status": _status_with_message(record),
                "map50_95": number(record, "metrics", "map50_95") if is_measured(record) else None,
                "evaluated": _evaluated([record]) if is_measured(record) else "",
                "train_minutes": number(record, "cost", "train_minutes"),
                "signature": signature,
                "mlflow_run": sweep.run_ids.get(signature, ""),
            }
        )
    columns = [
        "variant",
        "seed",
        "status",
        "map50_95",
        "evaluated",
        "train_minutes",
        "signature",
        "mlflow_run",
    ]
    frame = pd.DataFrame(rows, columns=columns)
    seeds = [row["seed"] if isinstance(row["seed"], int) else None for row in rows]
    frame["seed"] = pd.Series(seeds, dtype="Int64")
    return frame.astype({"map50_95": "float64", "train_minutes": "float64"})


def _columns(design: Design | None) -> dict[str, int]:
    """Column -> index of the component that it tells of."""
    taken = {*COLUMNS, *EXTRA_COLUMNS}
    names = design.components if design else []
    return {f"{name} (component)" if name in taken else name: index for index, name in enumerate(names)}


def _baseline(members: Sequence[Variant]) -> Variant | None:
    """The baseline of a comparison group: the one with most measured trials if there are several."""
    found = [variant for variant in members if variant.is_baseline]
    return max(found, key=lambda variant: len(variant.measured)) if found else None


def _measure(variant: Variant, sweep: Sweep) -> None:
    """Fill the part of the row that the variant's own trials determine."""
    first, measured = variant.records[0], variant.measured
    variant.row |= {"variant": variant.label}
    if variant.marks is not None:
        variant.row |= {name: str(variant.marks[i]).lower() for name, i in _columns(sweep.design).items()}
    variant.row |= {name: str(value(first, "factors", name) or "") for name in FACTORS}
    for name in ("map50_95", "map50", "precision", "recall"):
        variant.row[name] = _mean(measured, "metrics", name)
    described = measured or variant.records
    params = _mean(described, "cost", "params")
    variant.row |= {
        "replicates": len(measured),
        "trials": len(variant.records),
        "seeds": " ".join(str(seed) for seed in sorted(variant.by_seed)),
        "map50_95_std": sample_std([record["metrics"]["map50_95"] for record in measured]),
        "params_m": None if params is None else params / 1e6,
        "gflops": _mean(described, "cost", "gflops"),
        "gflops_ultralytics": _mean(described, "cost", "gflops_ultralytics"),
        "train_minutes": _mean(measured, "cost", "train_minutes"),
        "peak_memory_gb": max(_numbers(measured, "cost", "peak_memory_gb"), default=None),
        "evaluated": _evaluated(measured),
        "signatures": " ".join(short(record["signature"]) for record in variant.records),
        "mlflow_runs": " ".join(
            sweep.run_ids[record["signature"]] for record in variant.records if record["signature"] in sweep.run_ids
        ),
        "variant_key": variant.key,
        "comparison_key": variant.group,
    }
    variant.notes += _trial_notes(variant)
    _add_latency(variant, sweep)


def _trial_notes(variant: Variant) -> list[str]:
    """What went wrong or is thin in a variant's own trials."""
    total, notes = len(variant.records), []
    troubles = Counter(_status(record) for record in variant.records if not is_measured(record))
    for trouble, count in troubles.items():
        notes.append(f"{count} of {total} trials {trouble}" if total > 1 else f"trial {trouble}")
    again = len(variant.measured) - len(variant.by_seed)
    if again:
        notes.append(f"{again} more trials of a seed that was already there or has no number")
    if len(variant.measured) == 1:
        notes.append("one seed: no interval")
    return notes


def _status(record: Record) -> str:
    """How a trial ended, in words that continue 'the trial ...'."""
    status, failure = str(value(record, "status") or "has no status"), value(record, "failure", "type")
    if status == "failed":
        return f"failed: {failure or 'unknown reason'}"
    if status == "damaged":
        return f"unreadable: {value(record, 'failure', 'message')}"
    if status == "finished" and not is_measured(record):
        return "finished without a number for mAP50-95"
    return status


def _status_with_message(record: Record) -> str:
    """How a trial ended, with what it said when it failed."""
    message = value(record, "failure", "message") if value(record, "status") == "failed" else None
    return f"{_status(record)} ({message})" if message else _status(record)


def _add_latency(variant: Variant, sweep: Sweep) -> None:
    """Fill in latency, or say why there is none."""
    if sweep.latency is None:
        return
    for entry in _latencies(sweep):
        if value(entry, "variant_key") == variant.key:
            for name in ("latency_ms", "latency_p95_ms", "latency_ratio"):
                variant.row[name] = number(entry, name)
            break
    if variant.measured and variant.row.get("latency_ms") is None:
        variant.notes.append("latency not measured")


def _compare(variant: Variant, baseline: Variant | None, sweep: Sweep) -> None:
    """Fill in the difference to the baseline, its interval, and whether the two may be compared."""
    variant.row["comparable"] = "no"
    if not variant.measured:
        return
    reasons = disagreements(variant.measured)
    if variant is baseline:
        variant.row["comparable"] = "no" if reasons else "yes"
    elif baseline is None or not baseline.measured:
        problem = "no baseline in this sweep" if baseline is None else "the baseline has no finished trial"
        reasons.append(f"{problem}: no difference can be given")
    else:
        variant.row["baseline"] = baseline.label
        if variant.marks is not None:
            variant.row["latency_ratio"] = _latency_ratio(variant, baseline, sweep) or variant.row.get("latency_ratio")
        reasons = _difference(variant, baseline) or reasons
        variant.row["comparable"] = "no" if reasons else "yes"
    variant.notes += reasons


def _difference(variant: Variant, baseline: Variant) -> list[str]:
    """Fill in the paired difference; returns why the two may not be compared."""
    seeds, paired = paired_differences(variant.accuracy(), baseline.accuracy())
    variant.row["shared_seeds"] = " ".join(map(str, seeds))
    if not seeds:
        mine, theirs = variant.row["seeds"] or "none", baseline.row["seeds"] or "none"
        return [f"no seed in common with the baseline (seeds {mine} against {theirs})"]
    variant.row["delta_map50_95"] = fmean(paired)
    interval = t_interval(paired)
    if interval is not None:
        variant.row |= {
            "delta_ci_low": interval.low,
            "delta_ci_high": interval.high,
            "p_value": paired_t(paired),
        }
    elif len(paired) > 1:
        variant.notes.append("the same difference on every seed: no spread to judge by")
    if len(seeds) < max(len(variant.by_seed), len(baseline.by_seed)):
        plural = "s" if len(seeds) > 1 else ""
        variant.notes.append(f"difference over shared seed{plural} {', '.join(map(str, seeds))} only")
    mine, theirs = ([v.by_seed[seed] for seed in seeds] for v in (variant, baseline))
    return differences(mine, theirs, by_design=variant.marks is not None)


def _latency_ratio(variant: Variant, baseline: Variant, sweep: Sweep) -> float | None:
    """Median over rounds of the ratio to a study's baseline, which need not be the one known when measuring."""
    samples = {value(entry, "variant_key"): sequence(entry, "samples_ms") for entry in _latencies(sweep)}
    mine, theirs = samples.get(variant.key, []), samples.get(baseline.key, [])
    pairs = [(a, b) for a, b in zip(mine, theirs, strict=False) if isinstance(a, int | float) and b]
    return median(a / b for a, b in pairs) if pairs and len(mine) == len(theirs) else None


def _latencies(sweep: Sweep) -> list[Any]:
    return sequence(sweep.latency, "variants")


def _rank(variant: Variant, baseline: Variant | None, design: Design | None) -> tuple[Any, ...]:
    """Baseline, then falling difference, then falling accuracy; unknown values last.

    The variants of a design come first, by rising number of components, as papers print them; where each lacks one
    component, in the order of what is lacking.
    """
    delta, accuracy = variant.row.get("delta_map50_95"), variant.row.get("map50_95")
    place: tuple[int, ...] = (1,)
    if variant.marks is not None:
        lacking_first = design is not None and design.name == "leave_one_out"
        place = (0, sum(variant.marks), *(mark == lacking_first for mark in variant.marks))
    return (
        variant is not baseline,
        place,
        delta is None,
        -(delta or 0.0),
        -(accuracy if accuracy is not None else -1.0),
        variant.label,
    )


def _evaluated(records: Sequence[Record]) -> str:
    """Split and checkpoint that the accuracies were measured on, e.g. 'val, best'."""
    found = {(value(r, "metrics", "split"), value(r, "metrics", "checkpoint")) for r in records}
    return " | ".join(sorted(", ".join(str(part) for part in pair if part) for pair in found))


def _numbers(records: Sequence[Record], *path: str) -> list[float]:
    return [found for record in records if (found := number(record, *path)) is not None]


def _mean(records: Sequence[Record], *path: str) -> float | None:
    found = _numbers(records, *path)
    return fmean(found) if found else None


def _frame(rows: list[dict[str, Any]], components: list[str]) -> pd.DataFrame:
    """Rows -> data frame with text, whole numbers and floats; empty text is '' and empty numbers NaN."""
    frame = pd.DataFrame(rows, columns=[*COLUMNS, *EXTRA_COLUMNS, *components])
    for name in frame.columns:
        if name in TEXT_COLUMNS or name in components:
            frame[name] = frame[name].astype("object").where(frame[name].notna(), "").astype(str)
        elif name in COUNT_COLUMNS:
            frame[name] = frame[name].astype("int64")
        else:
            frame[name] = pd.to_numeric(frame[name], errors="coerce").astype("float64")
    return frame
