"""The results of a sweep's latency benchmark, decoded once from `latency.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from ablate.analysis.number_format import plain_text
from ablate.records.latency_record import LatencyProtocol, LatencyReport, VariantLatency
from ablate.statistics.interval import Interval
from ablate.statistics.process_interval import mean_over_processes, process_medians, process_ratios

OVER_PROCESSES = "95 % over processes: Student's t on the logarithms of their medians"
OTHERS = "other process"  # how flags of older versions name what else used the device


@dataclass(frozen=True)
class Latency:
    """Latency of one variant in one setting, in ms; None where it was not measured.

    Attributes:
        interval: 95 % interval of `median_ms`.
        ratio: To the baseline that was measured in the same rounds.
        ratio_interval: The ratio with its 95 % interval.
        over_processes: Whether intervals cover the differences between processes; else those between rounds only.
        samples_ms: One for each round, NaN where the file holds no time.
        processes: How many processes shared the rounds, one after the other, as many each; 1 where that is not known.
        reason: Why there is no number.
    """

    median_ms: float | None = None
    p95_ms: float | None = None
    interval: Interval | None = None
    ratio: float | None = None
    ratio_interval: Interval | None = None
    over_processes: bool = False
    samples_ms: tuple[float, ...] = ()
    processes: int = 1
    reason: str = ""

    @property
    def blocks(self) -> list[tuple[float, ...]]:
        """The rounds of each process."""
        each = len(self.samples_ms) // self.processes
        return [self.samples_ms[start : start + each] for start in range(0, len(self.samples_ms), max(each, 1))]


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
        under_load: Whether other processes used the device before or while it was measured.
    """

    protocol: dict[str, str]
    variants: dict[str, Latency]
    settings: tuple[LatencySetting, ...]
    flags: tuple[str, ...]
    under_load: bool = False


def latency_results(report: LatencyReport | None) -> LatencyResults | None:
    """Read the report of a benchmark; None where there is none."""
    if report is None:
        return None
    first = _first_setting(report.protocol, report.variants)
    settings = [
        LatencySetting(
            entry.scope, entry.backend, str(entry.batch), entry.precision, _by_key(entry.variants, entry.protocol)
        )
        for entry in report.settings
    ]
    if not any(setting.title == first.title for setting in settings):
        settings.insert(0, first)
    protocol = {name.replace("_", " "): plain_text(fact) for name, fact in report.protocol.content.items()}
    if any(latency.over_processes for latency in first.variants.values()):
        protocol["interval"] = OVER_PROCESSES
    loaded = report.under_load
    if loaded is None:
        loaded = any(OTHERS in flag for flag in report.flags)
    return LatencyResults(protocol, first.variants, tuple(settings), report.flags, loaded)


def against(variant: Latency, baseline: Latency) -> Latency:
    """Return a variant's latency with its ratio to a baseline, which need not be the one chosen when measuring.

    There is none where their rounds are not the same.
    """
    ratios: tuple[float, ...] = ()
    if len(variant.samples_ms) == len(baseline.samples_ms) and variant.processes == baseline.processes:
        ratios = process_ratios(variant.blocks, baseline.blocks)
    if not ratios:
        return replace(variant, ratio=None, ratio_interval=None)
    ratio, recorded = mean_over_processes(ratios), variant.ratio
    is_the_same = recorded is not None and math.isclose(recorded, ratio.estimate, rel_tol=1e-3)  # rounds are rounded
    interval = ratio.interval or (variant.ratio_interval if is_the_same else None)
    return replace(variant, ratio=ratio.estimate, ratio_interval=interval)


def _first_setting(protocol: LatencyProtocol, variants: Sequence[VariantLatency]) -> LatencySetting:
    """The setting that the table shows; older versions did not record all of it."""
    batch, precision = (plain_text(protocol.content.get(name)) for name in ("batch", "precision"))
    scope, backend = protocol.text("scope") or "network", protocol.text("backend") or "eager"
    return LatencySetting(scope, backend, batch, precision, _by_key(variants, protocol))


def _by_key(variants: Sequence[VariantLatency], protocol: LatencyProtocol) -> dict[str, Latency]:
    return {entry.variant_key: _latency(entry, protocol) for entry in variants}


def _latency(entry: VariantLatency, protocol: LatencyProtocol) -> Latency:
    """One variant's latency; of older versions too the mean over processes, where their rounds are known."""
    count, samples = protocol.content.get("processes"), entry.samples_ms
    processes = count if isinstance(count, int) and count > 0 and len(samples) % count == 0 and samples else 1
    latency = Latency(
        median_ms=entry.latency_ms,
        p95_ms=entry.latency_p95_ms,
        interval=_interval(entry.latency_ms, entry.latency_ci_low, entry.latency_ci_high),
        ratio=entry.latency_ratio,
        ratio_interval=_interval(entry.latency_ratio, entry.ratio_ci_low, entry.ratio_ci_high),
        over_processes=processes > 1,
        samples_ms=tuple(sample if 0 < sample < math.inf else math.nan for sample in samples),
        processes=processes,
        reason=entry.reason or "",
    )
    medians = () if entry.process_ms or processes == 1 else process_medians(latency.blocks)
    if not medians:
        return latency
    mean = mean_over_processes(medians)
    return replace(latency, median_ms=mean.estimate, interval=mean.interval)


def _interval(estimate: float | None, low: float | None, high: float | None) -> Interval | None:
    return None if estimate is None or low is None or high is None else Interval(estimate, low, high)
