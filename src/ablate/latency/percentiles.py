"""From the times that worker processes measured to the rows of latency.json. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from ablate.latency.measurement_job import NetworkTimes, SettingTimes
from ablate.records.latency_record import VariantLatency
from ablate.statistics.process_interval import (
    ProcessMean,
    mean_over_processes,
    process_medians,
    process_ratios,
    quantile,
)

INTERVAL = "95 % over processes: Student's t on the logarithms of their medians; none of one process"
ORDER = "all variants once a round, order shuffled; every second round in reverse"
PARTS = ("preprocess", "network", "postprocess")


def variant_latencies(
    processes: Sequence[SettingTimes], baseline: Mapping[str, str | None]
) -> dict[str, VariantLatency]:
    """Return by key the latency in one setting, without names and signatures.

    Args:
        processes: What each process measured in this setting.
        baseline: For each key the key that its ratio refers to, or None.

    Returns:
        Times in milliseconds for one batch: means over processes of each one's median over rounds; the ratio of a
        process is the median over its rounds of this round's ratio.
    """
    times = {key: [process.networks[key] for process in processes] for key in processes[0].networks}
    return {key: _latency(key, times[key], times.get(baseline.get(key) or "", [])) for key in times}


def _latency(key: str, times: Sequence[NetworkTimes], baseline: Sequence[NetworkTimes]) -> VariantLatency:
    reason = next((each.reason for each in times if each.reason), None)
    blocks, baseline_blocks = [each.totals for each in times], [each.totals for each in baseline]
    if reason is not None or not all(blocks):
        return VariantLatency(variant_key=key, samples_ms=(), reason=reason or "not measured")
    ratios = process_ratios(blocks, baseline_blocks) if baseline_blocks and all(baseline_blocks) else ()
    medians = process_medians(blocks)
    latency, ratio = mean_over_processes(medians), mean_over_processes(ratios) if ratios else None
    samples = [milliseconds for block in blocks for milliseconds in block]
    rounds = [parts for each in times for parts in each.parts]
    columns = zip(PARTS, zip(*rounds, strict=True), strict=True) if len(rounds[0]) == len(PARTS) else ()
    (low, high), (ratio_low, ratio_high) = _ends(latency), _ends(ratio)
    return VariantLatency(
        variant_key=key,
        latency_ms=latency.estimate,
        latency_p95_ms=quantile(samples, 0.95),
        latency_ci_low=low,
        latency_ci_high=high,
        latency_ratio=ratio and ratio.estimate,
        ratio_ci_low=ratio_low,
        ratio_ci_high=ratio_high,
        samples_ms=tuple(round(milliseconds, 4) for milliseconds in samples),
        process_ms=tuple(round(milliseconds, 6) for milliseconds in medians),
        process_ratios=tuple(round(each, 6) for each in ratios),
        difference=max(each.difference or 0.0 for each in times),
        parts_ms={name: median(column) for name, column in columns},
    )


def _ends(mean: ProcessMean | None) -> tuple[float | None, float | None]:
    return (None, None) if mean is None or mean.interval is None else (mean.interval.low, mean.interval.high)
