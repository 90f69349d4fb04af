"""Whole valid records to change and to write, made of the types that records are read as."""

from __future__ import annotations

from typing import Any

from ablate.records.json_struct import from_json
from ablate.records.metrics import ClassMetrics, EpochRow, Metrics
from ablate.records.realised import Git, Realised, Weights
from ablate.records.trial_record import (
    NO_METRICS,
    Artifacts,
    Cost,
    DataSummary,
    Failure,
    TrialHeader,
    TrialRecord,
    decode_record,
    encode_record,
)

SIGNATURE = "ab" * 32
CLASSES = ("circle", "square")

FINISHED = TrialRecord(
    signature=SIGNATURE,
    name="hmha@c3k2 musgd s0",
    variant="hmha@c3k2 musgd",
    variant_key="cd" * 8,
    comparison_key="ef" * 8,
    factors={"module": "hmha", "insertion": "c3k2", "optimizer": "musgd", "model": "yolo26n", "data": "shapes"},
    seed=0,
    config={
        "module": {"name": "hmha"},
        "insertion": {"name": "c3k2", "wiring": "plain"},
        "optimizer": {"name": "musgd", "lr0": 0.01},
        "model": {"name": "yolo26n", "architecture": "yolo26n.yaml", "weights": None},
        "data": {"name": "shapes", "path": None},
        "train": {"epochs": 2, "imgsz": 64, "batch": 4},
        "seed": 0,
    },
    data=DataSummary(
        name="shapes",
        classes=CLASSES,
        images={"train": 4, "val": 2},
        instances={"train": 9, "val": 5},
        warnings=(),
        fingerprint="f" * 64,
    ),
    status="finished",
    failure=None,
    metrics=Metrics(map50_95=0.25, map50=0.5, precision=0.6, recall=0.4, epoch=2, checkpoint="best", split="val"),
    per_class=tuple(ClassMetrics(name=name, map50_95=0.25, map50=0.5, map75=0.2, instances=2) for name in CLASSES),
    history=tuple(
        EpochRow({"epoch": e, "time": 1.79e9 + e, "seconds": 1.0, "map50_95": e / 8, "lr/pg0": 0.01}) for e in (1, 2)
    ),
    cost=Cost(params=10, gflops=0.5, train_minutes=0.1),
    realised=Realised(
        batch=4,
        amp=False,
        epochs=2,
        epochs_asked=2,
        early_stop=False,
        oom_retries=0,
        optimizer="MuSGD",
        lr0=0.01,
        imgsz=64,
        device="cpu",
        device_name="a processor",
        weights=Weights(expected=0, transferred=0),
        data_fingerprint="f" * 64,
        versions={"python": "3.11.7", "torch": "2.15.0"},
        git=Git(commit="f" * 40),
    ),
    samples=(),
    artifacts=Artifacts(best="train/weights/best.pt", plots=()),
    started="2026-01-01T10:00:00+00:00",
    finished="2026-01-01T10:05:00+00:00",
)


def make_record(**changes: Any) -> dict[str, Any]:
    """Return the JSON object of a finished trial's record, with fields replaced; ``LACKING`` leaves one out."""
    content = encode_record(FINISHED) | changes
    return {name: field for name, field in content.items() if field is not LACKING}


LACKING = object()


def make_failure(kind: str = "code", message: str = "it broke", **changes: Any) -> dict[str, Any]:
    """Return the JSON object of a failed trial's record."""
    failure = Failure(type=kind, message=message)
    record = TrialRecord(**header_fields(), status="failed", failure=failure, metrics=NO_METRICS)
    return encode_record(record) | changes


def header_fields() -> dict[str, Any]:
    """Return what is known of a trial before it runs, by name."""
    return {name: getattr(FINISHED, name) for name in TrialHeader.__struct_fields__}


def header(**changes: Any) -> TrialHeader:
    """Return what is known of a trial before it runs."""
    content = {name: field for name, field in make_record(**changes).items() if name in TrialHeader.__struct_fields__}
    return from_json(content, TrialHeader)


def decoded(**changes: Any) -> TrialRecord:
    """Return the record of a finished trial, with fields replaced as JSON has them."""
    return decode_record(make_record(**changes))


def rows(*numbers: dict[str, Any]) -> tuple[EpochRow, ...]:
    """Return lines of history.jsonl."""
    return tuple(map(EpochRow, numbers))
