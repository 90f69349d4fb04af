"""The settings in which latency is measured, and what identifies a measurement. No torch."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from ablate.records.json_struct import from_json
from ablate.records.latency_record import LatencyRequest
from ablate.settings.schema import LatencySettings


@dataclass(frozen=True)
class Setting:
    """One way to run all networks.

    Attributes:
        batch: Images in one pass.
        precision: fp32, fp16 or bf16: of the weights and of the input.
        backend: eager, compile, torchscript or onnx.
        scope: "network" (one forward pass), or "pipeline" (an image in memory to its boxes).
    """

    batch: int = 1
    precision: str = "fp32"
    backend: str = "eager"
    scope: str = "network"

    def __str__(self) -> str:
        return f"{self.scope}, batch {self.batch}, {self.precision}, {self.backend}"


def settings_of(latency: LatencySettings) -> list[Setting]:
    """Return every combination of `latency.batch`, `precision`, `backend` and `pipeline`; networks first."""
    return [
        Setting(batch, precision, backend, scope)
        for scope in (["network", "pipeline"] if latency.pipeline else ["network"])
        for backend in dict.fromkeys(latency.backend)
        for precision in dict.fromkeys(latency.precision)
        for batch in dict.fromkeys(latency.batch)
    ]


def latency_request(latency: LatencySettings, device: str) -> LatencyRequest:
    """Return what identifies a measurement: with the same checkpoints and the same request it is not repeated."""
    return from_json({**asdict(latency), "device": device}, LatencyRequest)
