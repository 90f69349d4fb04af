"""Latency of a sweep's variants, `latency.json`: how it was measured, and what came out."""

from __future__ import annotations

from typing import Annotated

import msgspec

from ablate.records.json_struct import ABSENT, JsonStruct, OpenObject, written

UNLIKE = 1.1  # a ratio of latencies from which they are not the same
Positive = Annotated[float, msgspec.Meta(gt=0)]


class LatencyProtocol(OpenObject):
    """How and among what a latency was measured: facts by name, of which those of a GPU are there on a GPU only.

    What changes while measuring (loads, clocks) has one value for each process where there are several.
    """

    __slots__ = ()

    @property
    def device(self) -> str | None:
        """A torch device."""
        return self.text("device")

    @property
    def device_name(self) -> str | None:
        """The device as its maker calls it."""
        return self.text("device_name")


class VariantLatency(JsonStruct, frozen=True, kw_only=True):
    """A variant's latency in one setting, milliseconds for a batch; None where it was not measured.

    Attributes:
        variant_key, variant, signature: Whose checkpoint it is.
        latency_ms: Geometric mean of `process_ms`; before there was that, the median over all rounds.
        latency_p95_ms: 95th percentile over all rounds.
        latency_ci_low, latency_ci_high: 95 % interval of `latency_ms` over processes.
        latency_ratio, ratio_ci_low, ratio_ci_high: The same of the ratio to the baseline.
        samples_ms: Each round, one process after the other, as many rounds of each.
        process_ms: Median over the rounds of each process; older versions did not record it.
        process_ratios: Median over the rounds of each process of the ratio to the baseline in the same round.
        difference: Largest difference of the output to that of the network as it was trained, relative.
        parts_ms: Of a pipeline, the median of each part.
        reason: Why there is no number.
    """

    variant_key: str
    variant: str | None = None
    signature: str | None = None
    latency_ms: float | None = written(None)
    latency_p95_ms: float | None = written(None)
    latency_ci_low: float | None = written(None)
    latency_ci_high: float | None = written(None)
    latency_ratio: float | None = written(None)
    ratio_ci_low: float | None = written(None)
    ratio_ci_high: float | None = written(None)
    samples_ms: tuple[float, ...] = ABSENT
    process_ms: tuple[float, ...] = ()
    process_ratios: tuple[float, ...] = ()
    reason: str | None = None
    difference: float | None = None
    parts_ms: dict[str, float] = msgspec.field(default_factory=dict)


class SettingLatency(JsonStruct, frozen=True, kw_only=True):
    """The latencies in one setting (see `ablate.latency.latency_settings.Setting`)."""

    batch: int
    precision: str
    backend: str
    scope: str
    protocol: LatencyProtocol
    variants: tuple[VariantLatency, ...]


class LatencyRequest(JsonStruct, frozen=True, kw_only=True):
    """What identifies a measurement: with the same checkpoints and the same of this it need not be repeated."""

    batch: tuple[int, ...] = ABSENT
    precision: tuple[str, ...] = ABSENT
    backend: tuple[str, ...] = ABSENT
    pipeline: bool | None = written(None)
    head: str | None = written(None)
    warmup: int | None = written(None)
    warmup_max: int | None = written(None)
    rounds: int | None = written(None)
    processes: int | None = written(None)
    threads: int | None = written(None)
    device: str | None = written(None)


class LatencyReport(JsonStruct, frozen=True, kw_only=True):
    """A latency measurement.

    Attributes:
        protocol, variants: Of the first setting, which the table shows.
        settings: All settings.
        flags: In words, what is wrong with the numbers.
        asked: What was asked for; None in files of older versions.
        under_load: Whether other processes used the device before or while it was measured; None in older files.
    """

    protocol: LatencyProtocol
    variants: tuple[VariantLatency, ...]
    settings: tuple[SettingLatency, ...] = ABSENT
    flags: tuple[str, ...] = ABSENT
    asked: LatencyRequest | None = None
    under_load: bool | None = None


class LatencyRatio(JsonStruct, frozen=True, kw_only=True):
    """A ratio of two latencies that were measured in the same rounds.

    Attributes:
        ratio: Geometric mean over processes.
        low, high: Its 95 % interval over processes; None of one process.
    """

    ratio: Positive
    low: Positive | None = None
    high: Positive | None = None

    @property
    def is_uncertain(self) -> bool:
        """Whether the two latencies may differ by more than a tenth."""
        return self.low is None or self.high is None or self.low < 1 / UNLIKE or self.high > UNLIKE

    @property
    def interval_in_words(self) -> str:
        """Its interval."""
        if self.low is None or self.high is None:
            return "no CI"
        return f"95% CI {self.low:.2f} to {self.high:.2f}"

    @property
    def in_words(self) -> str:
        """The ratio with its interval."""
        return f"{self.ratio:.2f} ({self.interval_in_words})"
