"""Realistic sweeps on disk, made up from a seed: as a finished sweep leaves them, only faster."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

CLASSES = ["circle", "square", "triangle", "star"]
EFFECT = {"none": 0.0, "hmha": 0.018, "acmix": 0.006, "sta": 0.001, "hat": -0.012}
INSERTION = {"none": "none", "hmha": "c3k2", "acmix": "head", "sta": "head", "hat": "neck_p3"}
LATENCY = {"none": 1.0, "hmha": 1.31, "acmix": 1.12, "sta": 1.08, "hat": 1.74}


def digest(*parts: object, digits: int = 64) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:digits]


def slower(module: str) -> float:
    """How many times as long as the baseline a network with these modules takes."""
    return float(np.prod([LATENCY[part] for part in module.split("+")]))


def make_record(
    module: str = "hmha",
    optimizer: str = "musgd",
    seed: int = 0,
    *,
    data: str = "shapes",
    epochs: int = 40,
    options: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The record of one finished trial; `module` may be several, such as hmha+acmix."""
    parts = module.split("+")
    insertion = "+".join(INSERTION[part] for part in parts)
    options = options or {}
    grafts = "+".join(f"{part}@{INSERTION[part]}" for part in parts)
    variant = f"{grafts} {optimizer}" if module != "none" else f"none {optimizer}"
    comparison = (optimizer, "yolo26n", data)
    random = np.random.default_rng(int(digest(module, optimizer, data, seed, options, digits=8), 16))
    common = np.random.default_rng(seed).normal(0, 0.012)
    top = (
        0.34
        + (0.02 if optimizer == "musgd" else 0)
        + sum(EFFECT[part] for part in parts)
        + common
        + random.normal(0, 0.0009)
    )
    curve = top * (1 - np.exp(-np.arange(1, epochs + 1) / 9)) + random.normal(0, 0.004, epochs)
    curve = np.clip(curve, 0, 1)
    curve[-1] = top
    signature = digest(variant, data, options, seed)
    return {
        "schema": 1,
        "signature": signature,
        "status": "finished",
        "failure": None,
        "name": f"{variant} s{seed}",
        "variant": variant,
        "variant_key": digest(variant, data, options, digits=16),
        "comparison_key": digest(*comparison, digits=16),
        "factors": {
            "module": module,
            "insertion": insertion,
            "optimizer": optimizer,
            "model": "yolo26n",
            "data": data,
        },
        "seed": seed,
        "config": {
            "module": {"name": module, "fidelity": "corrected", **options},
            "insertion": {"name": insertion, "wiring": "plain"},
            "optimizer": {"name": optimizer, "lr0": 0.01},
            "train": {"epochs": epochs, "imgsz": 160, "batch": 16},
            "seed": seed,
        },
        "metrics": {
            "map50_95": float(top),
            "map50": float(top * 1.55),
            "precision": float(top * 1.7),
            "recall": float(top * 1.4),
            "epoch": epochs,
            "checkpoint": "best",
            "split": "val",
        },
        "per_class": [{"name": name, "map50_95": float(top), "map50": float(top * 1.5)} for name in CLASSES],
        "history": [
            {
                "epoch": epoch + 1,
                "time": 1.79e9 + 3 * epoch,
                "seconds": 3.0,
                "train/box_loss": 2 / (1 + 0.1 * epoch),
                "map50_95": float(value),
                "map50": float(value * 1.55),
                "lr/pg0": 0.01,
            }
            for epoch, value in enumerate(curve)
        ],
        "cost": {
            "params": 2_400_000 + 150_000 * len(parts) * (module != "none"),
            "gflops": 0.331 * slower(module),
            "gflops_ultralytics": 0.31,
            "train_minutes": 2.1 * slower(module) + random.normal(0, 0.05),
            "peak_memory_gb": 1.4 * slower(module),
        },
        "realised": {
            "batch": 16,
            "amp": False,
            "epochs": epochs,
            "early_stop": False,
            "oom_retries": 0,
            "optimizer": "MuSGD" if optimizer == "musgd" else "SGD",
            "lr0": 0.01,
            "device": "cpu",
            "device_name": "AMD EPYC 7763",
            "imgsz": 160,
            "weights": {"source": None, "expected": 0, "transferred": 0},
            "data_fingerprint": digest(data),
            "versions": {"python": "3.11.7", "torch": "2.15.0", "ultralytics": "8.4.190", "ablate": "0.1.0"},
        },
        "graft": {"wiring": "plain", "places": [{"place": "model.4.m.0.cv2", "channels": 64, "stride": 8}]},
        "data": {
            "name": data,
            "classes": list(CLASSES),
            "images": {"train": 480, "val": 160},
            "instances": {"train": 2012, "val": 698},
            "warnings": ["labels/12.txt: a box without area"],
        },
        "samples": [],
        "started": "2026-03-01T10:00:00+00:00",
        "finished": "2026-03-01T10:02:10+00:00",
        "artifacts": {"best": "train/weights/best.pt", "plots": []},
    }


def failed(record: dict[str, Any], kind: str = "out_of_memory") -> dict[str, Any]:
    """The same trial, had it failed: nothing after its config."""
    kept = (
        "schema",
        "signature",
        "name",
        "variant",
        "variant_key",
        "comparison_key",
        "factors",
        "seed",
        "config",
    )
    failure = {"type": kind, "message": "CUDA out of memory", "log": "train.log"}
    return {**{key: record[key] for key in kept}, "status": "failed", "failure": failure, "metrics": {}}


def draw_samples(trial: Path, record: dict[str, Any], count: int = 4, size: int = 160) -> None:
    """Draw the same few images for every trial, with predictions that differ by trial."""
    (trial / "samples").mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(int(record["signature"][:8], 16))
    record["samples"] = []
    for index in range(count):
        scene = np.random.default_rng(1000 + index)
        pixels = scene.normal(150, 25, (size, size, 3)).clip(0, 255).astype("uint8")
        image = Image.fromarray(pixels)
        pen = ImageDraw.Draw(image)
        truth: list[list[float]] = []
        predictions: list[list[float]] = []
        for _ in range(int(scene.integers(3, 7))):
            kind, side = int(scene.integers(0, 4)), int(scene.integers(22, 52))
            x, y = (int(v) for v in scene.integers(0, size - side, 2))
            box = [x, y, x + side, y + side]
            fill = tuple(int(v) for v in scene.integers(0, 255, 3))
            (pen.ellipse if kind == 0 else pen.rectangle)(box, fill=fill)
            truth.append([kind, *box])
            if random.random() < 0.8:
                moved = (np.array(box) + random.normal(0, 2.5, 4)).clip(0, size)
                guess = kind if random.random() < 0.9 else int(random.integers(0, 4))
                predictions.append([guess, float(random.uniform(0.3, 0.98)), *map(float, moved)])
        predictions.append([0, 0.08, 1.0, 1.0, 20.0, 20.0])
        image.save(trial / "samples" / f"{index}.jpg", quality=90)
        record["samples"].append(
            {
                "image": f"samples/{index}.jpg",
                "width": size,
                "height": size,
                "truth": truth,
                "predictions": predictions,
            }
        )


def write_sweep(
    root: Path,
    records: Sequence[dict[str, Any]],
    *,
    name: str = "shapes-attention",
    latency: bool = True,
    samples: bool = False,
    runs: bool = True,
    design: dict[str, Any] | None = None,
) -> Path:
    """Write records as a sweep below `root` (a multirun folder); returns the sweep's folder."""
    for record in records:
        trial = root / "trials" / record["signature"]
        trial.mkdir(parents=True, exist_ok=True)
        if samples and record["status"] == "finished":
            draw_samples(trial, record)
        (trial / "result.json").write_text(json.dumps(record))
        if runs:
            run = {"run_id": digest("run", record["signature"], digits=32), "uri": "sqlite:///mlflow.db"}
            (trial / "mlflow.json").write_text(json.dumps(run))
    sweep = root / "sweeps" / name
    sweep.mkdir(parents=True, exist_ok=True)
    head = {
        "name": name,
        "command": "python -m ablate module=hmha,acmix,sta,hat optimizer=sgd,musgd seed=range(0,3) -m",
        "signatures": [record["signature"] for record in records],
        "created": "2026-03-01T10:00:00+00:00",
        "mlflow_run_id": digest("parent", digits=32),
    }
    if design is not None:
        head["design"] = design
    (sweep / "sweep.json").write_text(json.dumps(head))
    if latency:
        (sweep / "latency.json").write_text(json.dumps(make_latency(records)))
    return sweep


def make_latency(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Latency of every variant that finished."""
    variants = {}
    for record in records:
        if record["status"] == "finished":
            factor = slower(record["factors"]["module"])
            random = np.random.default_rng(int(record["variant_key"][:8], 16))
            median = 7.1 * factor * random.uniform(0.99, 1.01)
            ratio = None if record["factors"]["module"] == "none" else factor
            variants[record["variant_key"]] = {
                "variant_key": record["variant_key"],
                "variant": record["variant"],
                "signature": record["signature"],
                "latency_ms": median,
                "latency_p95_ms": median * 1.12,
                "latency_ratio": ratio,
                "samples_ms": [median, median * 1.01],
            }
    protocol = {
        "device": "cpu",
        "device_name": "AMD EPYC 7763",
        "precision": "fp32",
        "batch": 1,
        "imgsz": 160,
        "warmup": 10,
        "rounds": 50,
        "order": "interleaved",
        "threads": 2,
    }
    return {"protocol": protocol, "variants": list(variants.values())}


def grid(
    modules: Sequence[str] = ("none", "hmha", "acmix", "sta", "hat"),
    optimizers: Sequence[str] = ("sgd", "musgd"),
    seeds: Sequence[int] = (0, 1, 2),
) -> list[dict[str, Any]]:
    """Records of a full grid: ten variants with three seeds each, unless told otherwise."""
    return [make_record(m, o, s) for o in optimizers for m in modules for s in seeds]


COMPONENTS = ["hmha@c3k2", "acmix@head", "musgd"]
SUBSETS = {
    "leave_one_out": ["...", "+++", ".++", "+.+", "++."],
    "add_one_in": ["...", "+..", ".+.", "..+", "+++"],
    "factorial": ["...", "+..", ".+.", "..+", "++.", "+.+", ".++", "+++"],
}


def make_study(
    design: str, seeds: Sequence[int] = (0, 1, 2), *, data: str = "shapes"
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Records of a study of three components, and what sweep.json says of its design."""
    found, marks = [], {}
    for subset in SUBSETS[design]:
        having = [mark == "+" for mark in subset]
        module = "+".join(name for name, there in zip(("hmha", "acmix"), having, strict=False) if there) or "none"
        found += [make_record(module, "musgd" if having[2] else "sgd", seed, data=data) for seed in seeds]
        marks[found[-1]["variant_key"]] = having
    reference = next(key for key, having in marks.items() if not any(having))
    return found, {"name": design, "components": COMPONENTS, "marks": marks, "reference": reference}


@pytest.fixture
def study() -> Callable[..., tuple[list[dict[str, Any]], dict[str, Any]]]:
    """How to make the records of a study of components, and its design."""
    return make_study


@pytest.fixture
def multirun(tmp_path: Path) -> Path:
    return tmp_path / "multirun"


@pytest.fixture
def records() -> Callable[..., list[dict[str, Any]]]:
    """How to make the records of a grid."""
    return grid


@pytest.fixture
def record() -> Callable[..., dict[str, Any]]:
    """How to make one finished record."""
    return make_record


@pytest.fixture
def as_failed() -> Callable[..., dict[str, Any]]:
    """How to turn a record into a failed one."""
    return failed


@pytest.fixture
def write(multirun: Path) -> Callable[..., Path]:
    """How to write records as a sweep; returns its folder."""

    def write_below(records: Sequence[dict[str, Any]], **options: Any) -> Path:
        return write_sweep(multirun, records, **options)

    return write_below
