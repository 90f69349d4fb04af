"""From the times that worker processes measured to the rows of latency.json. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from ablate.latency.measurement_job import NetworkTimes, SettingTimes
from ablate.records.latency_record import VariantLatency
from ablate.statistics.median_interval import median_interval, quantile

INTERVAL = "95 % for the median over rounds, from order statistics spread by the rounds' autocorrelation"
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
        Times in milliseconds for one batch; a ratio is the median over rounds of this round's ratio.
    """
    times = {key: [process.networks[key] for process in processes] for key in processes[0].networks}
    return {key: _latency(key, times[key], times.get(baseline.get(key) or "", [])) for key in times}


def _latency(key: str, times: Sequence[NetworkTimes], baseline: Sequence[NetworkTimes]) -> VariantLatency:
    reason = next((each.reason for each in times if each.reason), None)
    blocks, baseline_blocks = [each.totals for each in times], [each.totals for each in baseline]
    if reason is not None or not all(blocks):
        return VariantLatency(variant_key=key, samples_ms=(), reason=reason or "not measured")
    ratio = None
    if baseline_blocks and all(baseline_blocks):
        pairs = zip(blocks, baseline_blocks, strict=True)
        ratio = median_interval([[a / b for a, b in zip(block, base, strict=True)] for block, base in pairs])
    latency = median_interval(blocks)
    samples = [milliseconds for block in blocks for milliseconds in block]
    rounds = [parts for each in times for parts in each.parts]
    columns = zip(PARTS, zip(*rounds, strict=True), strict=True) if len(rounds[0]) == len(PARTS) else ()
    latency_interval, ratio_interval = latency.interval, ratio and ratio.interval
    return VariantLatency(
        variant_key=key,
        latency_ms=latency.estimate,
        latency_p95_ms=quantile(samples, 0.95),
        latency_ci_low=latency_interval and latency_interval.low,
        latency_ci_high=latency_interval and latency_interval.high,
        latency_ratio=ratio and ratio.estimate,
        ratio_ci_low=ratio_interval and ratio_interval.low,
        ratio_ci_high=ratio_interval and ratio_interval.high,
        samples_ms=tuple(round(milliseconds, 4) for milliseconds in samples),
        difference=max(each.difference or 0.0 for each in times),
        parts_ms={name: median(column) for name, column in columns},
    )
