"""From what worker processes measured to the rows of latency.json. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from ablate.records.latency_record import VariantLatency
from ablate.statistics.median_interval import median_interval, quantile

INTERVAL = "95 % for the median over rounds, from order statistics spread by the rounds' autocorrelation"
ORDER = "all variants once a round, order shuffled; every second round in reverse"
PARTS = ("preprocess", "network", "postprocess")


def setting_figures(
    measured: Sequence[Mapping[str, Any]], baseline: Mapping[str, str | None]
) -> dict[str, VariantLatency]:
    """Return by key the figures of one setting.

    Args:
        measured: What each process returned for this setting (see `checkpoints.measure_networks`).
        baseline: For each key the key that its ratio refers to, or None.

    Returns:
        Times in milliseconds for one batch; a ratio is the median over rounds of this round's ratio. Without names and
        signatures.
    """
    networks = [process["networks"] for process in measured]
    return {key: _figures(key, networks, baseline.get(key)) for key in networks[0]}


def _figures(key: str, networks: Sequence[Mapping[str, Any]], reference: str | None) -> VariantLatency:
    mine = _totals(key, networks)
    reason = next((found[key]["reason"] for found in networks if found[key]["reason"]), None)
    if reason is not None or mine is None:
        return VariantLatency(variant_key=key, samples_ms=(), reason=reason or "not measured")
    theirs = _totals(reference, networks) if reference is not None else None
    ratios = None
    if theirs is not None:
        ratios = [[a / b for a, b in zip(*pair, strict=True)] for pair in zip(mine, theirs, strict=True)]
    samples = [value for block in mine for value in block]
    parts = [parts for found in networks for parts in found[key]["parts"]]
    columns = zip(PARTS, zip(*parts, strict=True), strict=True) if len(parts[0]) == len(PARTS) else ()
    latency, ratio = median_interval(mine), median_interval(ratios) if ratios else None
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
        samples_ms=tuple(round(value, 4) for value in samples),
        difference=max((found[key]["difference"] or 0.0) for found in networks),
        parts_ms={name: median(values) for name, values in columns},
    )


def _totals(key: str, networks: Sequence[Mapping[str, Any]]) -> list[list[float]] | None:
    """Return each process's rounds in milliseconds; None where one has none."""
    totals = [[sum(parts) for parts in found[key]["parts"]] if key in found else [] for found in networks]
    return totals if all(totals) else None
