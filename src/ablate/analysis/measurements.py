"""What a variant's own trials and the latency benchmark say of it: the part of its row that needs no other variant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ablate.analysis.variant_names import FACTORS
from ablate.analysis.variants import Variant, fraction, is_measured
from ablate.records.records import SCHEMA, Record, Sweep, number, sequence, short, value
from ablate.statistics.paired import sample_std

ACCURACIES = (
    "map50_95",
    "map50",
    "precision",
    "recall",
    "map75",
    "map50_95_small",
    "map50_95_medium",
    "map50_95_large",
)
LIMIT = 1e15  # no cost is as large; a sum of such numbers would be no number
LATENCIES = ("latency_ms", "latency_p95_ms", "latency_ratio", "latency_ci_low", "latency_ci_high")


def fill_measured(variant: Variant, sweep: Sweep) -> None:
    """Fill the part of a variant's row that its own trials determine, and note what is wrong or thin with them."""
    first, measured = variant.records[0], variant.measured
    variant.row |= {"variant": variant.label, "control": variant.control.kind if variant.control else ""}
    variant.row |= {name: str(value(first, "factors", name) or "") for name in FACTORS}
    variant.row |= {name: _accuracy(measured, "metrics", name) for name in ACCURACIES}
    described = measured or variant.records
    variant.row |= {
        "replicates": len(measured),
        "trials": len(variant.records),
        "seeds": " ".join(str(seed) for seed in sorted(variant.by_seed)),
        "map50_95_std": sample_std([record["metrics"]["map50_95"] for record in measured]),
        "map50_95_last": _accuracy(measured, "metrics_last", "map50_95"),
        "params_m": _millions(mean(described, "cost", "params")),
        "params_added_m": _millions(mean(described, "cost", "params_added")),
        "gflops": mean(described, "cost", "gflops"),
        "gflops_ultralytics": mean(described, "cost", "gflops_ultralytics"),
        "train_minutes": mean(measured, "cost", "train_minutes"),
        "seconds_per_epoch": mean(measured, "cost", "seconds_per_epoch"),
        "energy_kwh": mean(measured, "cost", "energy_kwh"),
        "peak_memory_gb": max(numbers(measured, "cost", "peak_memory_gb"), default=None),
        "evaluated": evaluated(measured),
        "signatures": " ".join(short(record["signature"]) for record in variant.records),
        "mlflow_runs": " ".join(
            sweep.run_ids[record["signature"]] for record in variant.records if record["signature"] in sweep.run_ids
        ),
        "variant_key": variant.key,
        "comparison_key": variant.group,
    }
    variant.notes += _trial_notes(variant)
    _fill_latency(variant, sweep)


def latency_rows(sweep: Sweep) -> list[Any]:
    """What the latency benchmark says of each variant, as far as it is a list."""
    return sequence(sweep.latency, "variants")


def status(record: Record) -> str:
    """How a trial ended, in words that continue 'the trial ...'."""
    said, failure = str(value(record, "status") or "has no status"), value(record, "failure", "type")
    if said == "failed":
        return f"failed: {failure or 'unknown reason'}"
    if said == "damaged":
        return f"unreadable: {value(record, 'failure', 'message')}"
    if record.get("schema", SCHEMA) != SCHEMA:
        return f"recorded by another version: schema {record['schema']}, this one reads {SCHEMA}"
    if said == "finished" and not is_measured(record):
        return "finished without a number for mAP50-95"
    return said


def evaluated(records: Sequence[Record]) -> str:
    """Split and checkpoint that the accuracies were measured on, e.g. 'val, best'."""
    parts = [[value(record, "metrics", name) for name in ("split", "checkpoint")] for record in records]
    return " | ".join(sorted({", ".join(str(part) for part in pair if part) for pair in parts}))


def numbers(records: Sequence[Record], *path: str) -> list[float]:
    """The numbers under nested keys of records, as far as they have one that can have been measured."""
    found = [number(record, *path) for record in records]
    return [figure for figure in found if figure is not None and abs(figure) < LIMIT]


def mean(records: Sequence[Record], *path: str) -> float | None:
    """The mean of `numbers`, None where there is none."""
    found = numbers(records, *path)
    return fmean(found) if found else None


def _trial_notes(variant: Variant) -> list[str]:
    """What went wrong or is thin in a variant's own trials."""
    total, notes = len(variant.records), []
    troubles = Counter(status(record) for record in variant.records if not is_measured(record))
    for trouble, count in troubles.items():
        notes.append(f"{count} of {total} trials {trouble}" if total > 1 else f"trial {trouble}")
    again = len(variant.measured) - len(variant.by_seed)
    if again:
        notes.append(f"{again} more trials of a seed that was already there or has no number")
    if len(variant.measured) == 1:
        notes.append("one seed: no interval")
    return notes


def _fill_latency(variant: Variant, sweep: Sweep) -> None:
    """Fill in latency, or say why there is none."""
    if sweep.latency is None:
        return
    for entry in latency_rows(sweep):
        if value(entry, "variant_key") == variant.key:
            variant.row |= {name: mean([entry], name) for name in LATENCIES}
            break
    if variant.measured and variant.row.get("latency_ms") is None:
        variant.notes.append("latency not measured")


def _accuracy(records: Sequence[Record], *path: str) -> float | None:
    """The mean of a recorded accuracy."""
    found = [part for record in records if (part := fraction(record, *path)) is not None]
    return fmean(found) if found else None


def _millions(found: float | None) -> float | None:
    return None if found is None else found / 1e6
