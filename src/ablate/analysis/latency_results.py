"""The results of a sweep's latency benchmark, decoded once from `latency.json`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from ablate.analysis.number_format import plain_text
from ablate.records.records import mapping, number, sequence, value
from ablate.statistics.interval import Interval


@dataclass(frozen=True)
class VariantLatency:
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
    variants: dict[str, VariantLatency] = field(default_factory=dict)

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
    variants: dict[str, VariantLatency]
    settings: tuple[LatencySetting, ...]
    flags: tuple[str, ...]


def latency_results(content: Mapping[str, object] | None) -> LatencyResults | None:
    """Decode the content of `latency.json`; what cannot be understood is left out. None where there is no file."""
    if content is None:
        return None
    protocol = mapping(content, "protocol")
    first = _setting(protocol, sequence(content, "variants"))
    entries = [entry for entry in sequence(content, "settings") if isinstance(entry, dict)]
    settings = [_setting(entry, sequence(entry, "variants")) for entry in entries]
    if not any(setting.title == first.title for setting in settings):
        settings.insert(0, first)
    return LatencyResults(
        {str(name).replace("_", " "): plain_text(entry) for name, entry in protocol.items()},
        first.variants,
        tuple(settings),
        tuple(str(flag) for flag in sequence(content, "flags")),
    )


def ratio_in_rounds(variant: VariantLatency, baseline: VariantLatency) -> float | None:
    """Median over rounds of the ratio to a baseline, which need not be the one that was chosen when measuring."""
    if len(variant.samples_ms) != len(baseline.samples_ms):
        return None
    rounds = [(a, b) for a, b in zip(variant.samples_ms, baseline.samples_ms, strict=True) if a == a and b == b]
    return median(a / b for a, b in rounds) if rounds else None


def _setting(entry: Mapping[str, object], variants: Sequence[object]) -> LatencySetting:
    by_key = {str(value(row, "variant_key")): _variant(row) for row in reversed(variants) if isinstance(row, dict)}
    return LatencySetting(
        str(value(entry, "scope") or "network"),
        str(value(entry, "backend") or "eager"),
        str(value(entry, "batch")),
        str(value(entry, "precision")),
        dict(reversed(by_key.items())),
    )


def _variant(entry: Mapping[str, object]) -> VariantLatency:
    middle, ratio = number(entry, "latency_ms"), number(entry, "latency_ratio")
    return VariantLatency(
        median_ms=middle,
        p95_ms=number(entry, "latency_p95_ms"),
        interval=_interval(middle, number(entry, "latency_ci_low"), number(entry, "latency_ci_high")),
        ratio=ratio,
        ratio_interval=_interval(ratio, number(entry, "ratio_ci_low"), number(entry, "ratio_ci_high")),
        samples_ms=tuple(_time(sample) for sample in sequence(entry, "samples_ms")),
        reason=str(value(entry, "reason") or ""),
    )


def _interval(estimate: float | None, low: float | None, high: float | None) -> Interval | None:
    return None if estimate is None or low is None or high is None else Interval(estimate, low, high)


def _time(sample: object) -> float:
    """A positive, finite number of ms; NaN for anything else."""
    if isinstance(sample, bool) or not isinstance(sample, int | float) or not 0 < sample < math.inf:
        return math.nan
    return float(sample)
