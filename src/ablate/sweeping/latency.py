"""Latency of a sweep's variants, measured together after the training, in a process of its own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from ablate.launching.local import run_jobs
from ablate.tracking.records import Sweep, atomic_write_json, load_sweep


def measure_sweep(
    directory: Path, settings: Mapping[str, Any], console: Console, *, again: bool = False
) -> dict[str, Any] | None:
    """Measure every finished variant of a sweep, interleaved; write `latency.json`.

    Args:
        directory: The sweep's folder.
        settings: A trial's configuration; `latency` and `device` are used.
        console: Where to say what is done.
        again: Measure although the same checkpoints have been measured.

    Returns:
        What was written, or None where nothing had to be measured.
    """
    sweep = load_sweep(directory)
    chosen = _first_of_each_variant(sweep)
    if not chosen or (not again and _is_measured(sweep, chosen)):
        return None
    console.print(f"latency of {len(chosen)} variants, interleaved", markup=False, highlight=False)
    payload = {
        "checkpoints": {
            key: (str(sweep.trial_dir(record["signature"]) / record["artifacts"]["best"]), record["realised"]["imgsz"])
            for key, record in chosen.items()
        },
        "baseline": {key: _baseline_of(record, chosen) for key, record in chosen.items()},
        "device": _torch_device(next(iter(chosen.values()))["realised"]["device"]),
        "warmup": settings["latency"]["warmup"],
        "rounds": settings["latency"]["rounds"],
    }
    outcome = run_jobs("ablate.measuring.latency:measure_checkpoints", [payload])[0]
    if outcome.failure:
        console.print(f"latency was not measured: {outcome.message}", style="yellow", markup=False, highlight=False)
        return None
    measured: dict[str, Any] = {
        "protocol": outcome.result["protocol"],
        "variants": [
            {
                "variant_key": key,
                "variant": chosen[key]["variant"],
                "signature": chosen[key]["signature"],
                **figures,
            }
            for key, figures in outcome.result["variants"].items()
        ],
    }
    atomic_write_json(directory / "latency.json", measured)
    return measured


def _first_of_each_variant(sweep: Sweep) -> dict[str, dict[str, Any]]:
    """Return by variant key the finished record whose checkpoint stands for the variant."""
    chosen: dict[str, dict[str, Any]] = {}
    for record in sweep.records:
        if (
            record.get("status") == "finished"
            and (sweep.trial_dir(record["signature"]) / record["artifacts"]["best"]).is_file()
        ):
            chosen.setdefault(record["variant_key"], record)
    return chosen


def _is_measured(sweep: Sweep, chosen: Mapping[str, Mapping[str, Any]]) -> bool:
    measured = {item.get("signature") for item in (sweep.latency or {}).get("variants", [])}
    return measured == {record["signature"] for record in chosen.values()}


def _baseline_of(record: Mapping[str, Any], chosen: Mapping[str, Mapping[str, Any]]) -> str | None:
    for key, other in chosen.items():
        if other["comparison_key"] == record["comparison_key"] and other["factors"]["module"] == "none":
            return key
    return None


def _torch_device(device: str) -> str:
    return "cpu" if device == "cpu" else f"cuda:{device.removeprefix('cuda:').split(',')[0]}"
