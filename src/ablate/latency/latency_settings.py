"""What a measurement can be asked for, as plain values that travel between processes. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ablate.records.json_struct import from_json
from ablate.records.latency_record import LatencyRequest

# Which of the asked-for values change what is measured; the rest is about when and whether.
MEANING = (
    "batch",
    "precision",
    "backend",
    "pipeline",
    "head",
    "warmup",
    "warmup_max",
    "rounds",
    "processes",
    "threads",
)


@dataclass(frozen=True)
class Setting:
    """One way to run all networks.

    Attributes:
        batch: Images in one pass.
        precision: fp32, fp16 or bf16: of the weights and of the input.
        backend: eager, compile, torchscript or onnx.
        scope: "network" (one forward pass), or "pipeline" (a picture in memory to boxes on it).
    """

    batch: int = 1
    precision: str = "fp32"
    backend: str = "eager"
    scope: str = "network"

    def __str__(self) -> str:
        return f"{self.scope}, batch {self.batch}, {self.precision}, {self.backend}"

    def plain(self) -> dict[str, Any]:
        """Return it as plain values."""
        return asdict(self)


def settings_of(latency: Mapping[str, Any]) -> list[Setting]:
    """Return every setting that `latency.batch`, `precision`, `backend` and `pipeline` ask for; networks first."""
    scopes = ["network", "pipeline"] if latency["pipeline"] else ["network"]
    return [
        Setting(int(batch), str(precision), str(backend), scope)
        for scope in scopes
        for backend in dict.fromkeys(latency["backend"])
        for precision in dict.fromkeys(latency["precision"])
        for batch in dict.fromkeys(latency["batch"])
    ]


def asked(latency: Mapping[str, Any], device: str) -> LatencyRequest:
    """Return what identifies a measurement: the same checkpoints and the same of this need no second one."""
    return from_json({**{name: latency[name] for name in MEANING}, "device": device}, LatencyRequest)
