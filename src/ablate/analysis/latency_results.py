"""The results of a sweep's latency benchmark, decoded once from `latency.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from ablate.analysis.number_format import plain_text
from ablate.records.latency_record import LatencyProtocol, LatencyReport, VariantLatency
from ablate.statistics.interval import Interval


@dataclass(frozen=True)
class Latency:
    """Latency of one variant in one setting, in ms; None where it was not measured.

    Attributes:
        interval: 95 % interval of the median.
        ratio: To the baseline that was measured in the same rounds.
        ratio_interval: The benchmark's own ratio with its interval.
        samples_ms: One for each round, NaN where the file holds no time.
        reason: Why there is no number.
    """

    median_ms: float | None = None
    p95_ms: float | None = None
    interval: Interval | None = None
    ratio: float | None = None
    ratio_interval: Interval | None = None
    samples_ms: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class LatencySetting:
    """One setting of the benchmark, with the latency of each variant by its key."""

    scope: str
    backend: str
    batch: str
    precision: str
    variants: dict[str, Latency] = field(default_factory=dict)

    @property
    def title(self) -> tuple[str, str]:
        """The setting in two short lines."""
        return f"{self.scope}, {self.backend}", f"batch {self.batch}, {self.precision}"


@dataclass(frozen=True)
class LatencyResults:
    """The benchmark of a sweep.

    Attributes:
        protocol: How the first setting was measured: name -> text.
        variants: Latency in the first setting, by variant key.
        settings: All settings, the first one among them.
        flags: What a reader must know of the measurement, in words.
    """

    protocol: dict[str, str]
    variants: dict[str, Latency]
    settings: tuple[LatencySetting, ...]
    flags: tuple[str, ...]


def latency_results(report: LatencyReport | None) -> LatencyResults | None:
    """Read the report of a benchmark; None where there is none."""
    if report is None:
        return None
    first = _first_setting(report.protocol, report.variants)
    settings = [
        LatencySetting(entry.scope, entry.backend, str(entry.batch), entry.precision, _by_key(entry.variants))
        for entry in report.settings
    ]
    if not any(setting.title == first.title for setting in settings):
        settings.insert(0, first)
    protocol = {name.replace("_", " "): plain_text(fact) for name, fact in report.protocol.content.items()}
    return LatencyResults(protocol, first.variants, tuple(settings), report.flags)


def ratio_in_rounds(variant: Latency, baseline: Latency) -> float | None:
    """Median over rounds of the ratio to a baseline, which need not be the one that was chosen when measuring."""
    if len(variant.samples_ms) != len(baseline.samples_ms):
        return None
    rounds = [(a, b) for a, b in zip(variant.samples_ms, baseline.samples_ms, strict=True) if a == a and b == b]
    return median(a / b for a, b in rounds) if rounds else None


def _first_setting(protocol: LatencyProtocol, variants: Sequence[VariantLatency]) -> LatencySetting:
    """The setting that the table shows; older versions did not record all of it."""
    batch, precision = (plain_text(protocol.content.get(name)) for name in ("batch", "precision"))
    scope, backend = protocol.text("scope") or "network", protocol.text("backend") or "eager"
    return LatencySetting(scope, backend, batch, precision, _by_key(variants))


def _by_key(variants: Sequence[VariantLatency]) -> dict[str, Latency]:
    return {entry.variant_key: _latency(entry) for entry in variants}


def _latency(entry: VariantLatency) -> Latency:
    return Latency(
        median_ms=entry.latency_ms,
        p95_ms=entry.latency_p95_ms,
        interval=_interval(entry.latency_ms, entry.latency_ci_low, entry.latency_ci_high),
        ratio=entry.latency_ratio,
        ratio_interval=_interval(entry.latency_ratio, entry.ratio_ci_low, entry.ratio_ci_high),
        samples_ms=tuple(sample if 0 < sample < math.inf else math.nan for sample in entry.samples_ms),
        reason=entry.reason or "",
    )


def _interval(estimate: float | None, low: float | None, high: float | None) -> Interval | None:
    return None if estimate is None or low is None or high is None else Interval(estimate, low, high)
