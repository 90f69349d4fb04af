"""Latency, training time and energy in words."""

from __future__ import annotations

from collections.abc import Sequence

from ablate.analysis.columns import cell
from ablate.analysis.comparison import Comparison
from ablate.analysis.phrases import limited
from ablate.analysis.variant_row import Row

MOST_DATA = 3  # data sets whose costs are said


def latency_findings(comparison: Comparison) -> list[str]:
    """How much slower or faster than the baseline, with the interval of the ratio; and the benchmark's own flags."""
    if all(row.latency.median_ms is None for row in comparison.rows):
        return ["Latency was not measured."]
    sentences = []
    variants = [row for row in comparison.rows if not row.is_baseline and not row.is_control]
    ratios = _ends([(row.latency.ratio, row) for row in variants])
    if ratios:
        fastest, slowest = ratios[0][1], ratios[-1][1]
        loaded = comparison.latency is not None and comparison.latency.under_load
        lead = ", measured under the load of other processes, was" if loaded else " is"
        text = f"Latency relative to the baseline{lead} {_ratio(fastest)} for {fastest.label}"
        if len(ratios) > 1:
            text += f" (lowest) and {_ratio(slowest)} for {slowest.label} (highest)"
        sentences.append(text + ("; an idle device may give another." if loaded else "."))
    if comparison.latency is not None and comparison.latency.flags:
        sentences.append(f"Latency may be unreliable: {limited(comparison.latency.flags, 3)}.")
    return sentences


def training_findings(comparison: Comparison) -> list[str]:
    """What an epoch takes and what energy a trial took, of the least and of the most expensive variant of each data."""
    by_data: dict[str, list[Row]] = {}
    for row in comparison.rows:
        if not row.is_control:
            by_data.setdefault(row.data, []).append(row)
    sentences = []
    for data, rows in list(by_data.items())[:MOST_DATA]:
        on = f" on {data}" if len(by_data) > 1 and data else ""
        sentences += [text for text in (_epochs(rows, on), _energy(rows, on)) if text]
    return sentences


def _epochs(rows: Sequence[Row], on: str) -> str:
    times = _ends([(row.cost.seconds_per_epoch, row) for row in rows])
    if len(times) < 2:
        return ""
    (least, fastest), (most, slowest) = times
    low, high = (cell("seconds_per_epoch", seconds) for seconds in (least, most))
    took = (
        f"{low} s for each variant"
        if low == high
        else (f"{low} s for {fastest.label} (fastest) and {high} s for {slowest.label} (slowest)")
    )
    return f"An epoch of training{on} took {took}. Other load on the machine may have contributed."


def _energy(rows: Sequence[Row], on: str) -> str:
    energies = _ends([(row.cost.energy_kwh, row) for row in rows])
    if not energies:
        return ""
    text = f"The GPU used {cell('energy_kwh', energies[0][0])} kWh per trial{on} for {energies[0][1].label}"
    if len(energies) > 1:
        text += f" (lowest) and {cell('energy_kwh', energies[1][0])} kWh for {energies[1][1].label} (highest)"
    return f"{text}. This is the whole board, including other processes."


def _ends(costs: Sequence[tuple[float | None, Row]]) -> list[tuple[float, Row]]:
    """The lowest and the highest cost with their rows; one of a single row, none where no cost is recorded."""
    ranked = sorted(((cost, row) for cost, row in costs if cost is not None), key=lambda one: one[0])
    return ranked if len(ranked) < 2 else [ranked[0], ranked[-1]]


def _ratio(row: Row) -> str:
    """A ratio, with its interval and with what that is over."""
    text, interval = cell("latency_ratio", row.latency.ratio), row.latency.ratio_interval
    if interval is None:
        return text
    over = "processes" if row.latency.over_processes else "rounds of one process"
    ends = f"{cell('latency_ratio', interval.low)} to {cell('latency_ratio', interval.high)}"
    return f"{text} (95% CI over {over} {ends})"
