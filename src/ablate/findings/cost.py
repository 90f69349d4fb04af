"""Latency, training time and energy in words."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ablate.analysis.columns import baselines, rows_of
from ablate.analysis.measurements import latency_rows
from ablate.analysis.number_format import cell
from ablate.analysis.phrases import names
from ablate.records.records import Sweep, number, sequence, value


def latency_findings(sweep: Sweep, table: pd.DataFrame) -> list[str]:
    """How much slower or faster than the baseline, with the interval of the ratio; and what was wrong in measuring."""
    if table["latency_ms"].isna().all():
        return ["Latency was not measured, so nothing is said about speed."]
    ratios = table[~baselines(table) & (table["control"] == "") & table["latency_ratio"].notna()]
    said = []
    if len(ratios):
        intervals = _intervals(sweep)
        by_ratio = rows_of(ratios.sort_values("latency_ratio"))
        quick, slow = by_ratio[0], by_ratio[-1]
        line = f"Latency is {_ratio(quick, intervals)} times the baseline's for {quick['variant']}"
        if len(ratios) > 1:
            line += f" (least) and {_ratio(slow, intervals)} times for {slow['variant']} (most)"
        said.append(line + ".")
    flags = [str(flag) for flag in sequence(sweep.latency, "flags")]
    if flags:
        said.append(f"Take latency with care: {names(flags, 3)}.")
    return said


def training_findings(table: pd.DataFrame) -> list[str]:
    """What an epoch takes and what energy a trial took, of the least and of the most expensive variant."""
    said = []
    shown = table[table["control"] == ""]
    times = rows_of(shown[shown["seconds_per_epoch"].notna()].sort_values("seconds_per_epoch"))
    if len(times) > 1:
        quick, slow = times[0], times[-1]
        said.append(
            f"An epoch of training took {cell('seconds_per_epoch', quick['seconds_per_epoch'])} s for "
            f"{quick['variant']} (least) and {cell('seconds_per_epoch', slow['seconds_per_epoch'])} s for "
            f"{slow['variant']} (most), with whatever else ran beside it."
        )
    energy = rows_of(shown[shown["energy_kwh"].notna()].sort_values("energy_kwh"))
    if energy:
        least, most = energy[0], energy[-1]
        line = f"The GPU took {cell('energy_kwh', least['energy_kwh'])} kWh a trial for {least['variant']}"
        if len(energy) > 1:
            line += f" (least) and {cell('energy_kwh', most['energy_kwh'])} kWh for {most['variant']} (most)"
        said.append(line + ": the whole board's, with whatever else ran on it.")
    return said


def _intervals(sweep: Sweep) -> dict[str, tuple[float, float, float]]:
    """By variant key the latency benchmark's own ratio with its interval, of those that have one."""
    found = {}
    for entry in latency_rows(sweep):
        ratio, low, high = (number(entry, name) for name in ("latency_ratio", "ratio_ci_low", "ratio_ci_high"))
        if ratio is not None and low is not None and high is not None:
            found[str(value(entry, "variant_key"))] = (ratio, low, high)
    return found


def _ratio(row: dict[str, Any], intervals: dict[str, tuple[float, float, float]]) -> str:
    """A ratio, with its interval where that is of the ratio to this very baseline."""
    shown = cell("latency_ratio", row["latency_ratio"])
    ratio, low, high = intervals.get(row["variant_key"], (None, 0.0, 0.0))
    if ratio is None or cell("latency_ratio", ratio) != shown:
        return shown
    return f"{shown} (95% interval {cell('latency_ratio', low)} to {cell('latency_ratio', high)})"
