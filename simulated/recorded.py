"""Made-up records of a large sweep, as real trials leave them: for measuring how long a report takes.

Every record says that it is made up (`generated`), and its numbers are drawn from a seed.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

MODULES = {"hmha": 0.010, "acmix": 0.004, "sta": 0.000, "hat": -0.006}
PLACES = ("c3k2", "head", "psa", "backbone_p3", "backbone_p4", "backbone_p5", "neck_p3", "neck_p4")
OPTIMIZERS = ("sgd", "musgd", "adamw")
IMAGES = 6


def write_recorded(root: Path, *, seeds: int = 10, epochs: int = 100, classes: int = 80) -> Path:
    """Write a sweep of 100 variants (three baselines, 96 grafts, an identity control) with so many seeds each.

    Args:
        root: A multirun folder.
        seeds: Trials of each variant.
        epochs: Rows of each trial's history.
        classes: Rows of each trial's accuracy by class.

    Returns:
        The sweep's folder.
    """
    names = [f"class {index}" for index in range(classes)]
    picture = _picture()
    signatures, latencies, control = [], [], {}
    for number, (module, place, optimizer) in enumerate(_variants()):
        for seed in range(seeds):
            record = trial_content(module, place, optimizer, seed, epochs, names)
            folder = root / "trials" / record["signature"]
            (folder / "samples").mkdir(parents=True)
            for sample in record["samples"]:
                (folder / sample["image"]).write_bytes(picture)
            (folder / "result.json").write_text(json.dumps(record, indent=1))
            run = {"run_id": _digest("run", record["signature"])[:32], "uri": "sqlite:///mlflow.db"}
            (folder / "mlflow.json").write_text(json.dumps(run))
            signatures.append(record["signature"])
        latencies.append(_latency(record, number))
        if module == "identity":
            control = {record["variant_key"]: {"kind": "identity", "comparison_key": record["comparison_key"]}}
    sweep = root / "sweeps" / "generated"
    sweep.mkdir(parents=True)
    head = {
        "name": "generated",
        "command": "python benchmarks/report.py",
        "signatures": signatures,
        "created": "2026-03-01T10:00:00+00:00",
        "mlflow_run_id": _digest("parent")[:32],
        "controls": control,
    }
    (sweep / "sweep.json").write_text(json.dumps(head, indent=1))
    protocol = {"device_name": "made up", "precision": "fp32", "batch": 1, "imgsz": 640, "warmup": 10, "rounds": 50}
    latency = {"protocol": protocol, "variants": latencies, "settings": [], "flags": []}
    (sweep / "latency.json").write_text(json.dumps(latency, indent=1))
    return sweep


def _variants() -> Iterator[tuple[str, str, str]]:
    for optimizer in OPTIMIZERS:
        yield "none", "none", optimizer
        yield from ((module, place, optimizer) for module in MODULES for place in PLACES)
    yield "identity", "c3k2", OPTIMIZERS[0]


def trial_content(module: str, place: str, optimizer: str, seed: int, epochs: int, names: list[str]) -> dict[str, Any]:
    """One finished trial with all that a real one records."""
    plain = module in ("none", "identity")
    random = np.random.default_rng(int(_digest("none" if plain else module + place, optimizer, seed)[:8], 16))
    common = np.random.default_rng(seed).normal(0, 0.004)
    top = float(0.37 + MODULES.get(module, 0.0) + common + random.normal(0, 0.003))
    curve = np.clip(top * (1 - np.exp(-np.arange(1, epochs + 1) / 15)) + random.normal(0, 0.003, epochs), 0, 1)
    curve[-1] = top
    slower = 1.0 if plain else 1.0 + 0.1 * (1 + list(MODULES).index(module)) + 0.01 * PLACES.index(place)
    variant = f"{'baseline' if module == 'none' else f'{module}@{place}'} {optimizer}"
    key, group = _digest(variant)[:16], _digest(optimizer)[:16]
    metrics = _metrics(top)
    return {
        "generated": "made up by simulated/recorded.py: no network was trained",
        "schema": 1,
        "signature": _digest(variant, seed),
        "name": f"{variant} s{seed}",
        "variant": variant,
        "variant_key": key,
        "comparison_key": group,
        "factors": {"module": module, "insertion": place, "optimizer": optimizer, "model": "yolo26n", "data": "coco"},
        "seed": seed,
        "config": {
            "module": {"name": module, "heads": 8, "fidelity": "corrected"},
            "insertion": {"name": place, "at": None, "wiring": "plain"},
            "optimizer": {"name": optimizer, "lr0": 0.01, "lrf": 0.01, "momentum": 0.9, "weight_decay": 0.0005},
            "train": {"epochs": epochs, "imgsz": 640, "batch": 16, **{f"argument_{n}": n / 10 for n in range(80)}},
            "model": {"name": "yolo26n", "architecture": "yolo26n.yaml", "weights": None},
            "seed": seed,
        },
        "data": {
            "name": "coco",
            "classes": names,
            "images": {"train": 118287, "val": 5000},
            "instances": {"train": 860001, "val": 36335},
            "warnings": [],
            "fingerprint": _digest("coco"),
            "root": "/data/coco",
        },
        "status": "finished",
        "failure": None,
        "metrics": {**metrics, "epoch": epochs, "checkpoint": "best", "split": "val"},
        "metrics_last": {**_metrics(float(curve[-2:].mean())), "epoch": epochs, "checkpoint": "last", "split": "val"},
        "per_class": _per_class(names, top, random),
        "per_class_last": _per_class(names, top, random),
        "history": [_epoch(number, float(value), slower) for number, value in enumerate(curve, start=1)],
        "cost": {
            "params": round(2_400_000 * (1 + (slower - 1) / 3)),
            "params_added": round(2_400_000 * (slower - 1) / 3),
            "params_train": round(2_500_000 * (1 + (slower - 1) / 3)),
            "gflops": 5.4 * slower,
            "gflops_ultralytics": 5.3,
            "gflops_uncounted": 0.1,
            "train_minutes": 95.0 * slower,
            "seconds_per_epoch": 57.0 * slower,
            "energy_kwh": 0.31 * slower,
            "peak_memory_gb": 6.2 * slower,
        },
        "graft": {
            "wiring": "plain",
            "places": [{"place": f"model.{n}.m.0.cv2", "channels": 64, "stride": 8} for n in range(6)],
        },
        "realised": {
            "batch": 16, "amp": True, "epochs": epochs, "epochs_asked": epochs, "early_stop": False, "oom_retries": 0,
            "optimizer": optimizer, "lr0": 0.01, "imgsz": 640, "accumulate": 4, "device": "cuda:0",
            "device_name": "made up", "threads": 8, "workers": 8, "resumed": 0, "resume_exact": None,
            "weights": {"source": None, "expected": 0, "transferred": 0},
            "data_fingerprint": _digest("coco"),
            "versions": {"python": "3.11.7", "ablate": "0.1.0", "torch": "2.15.0", "ultralytics": "8.4.190"},
            "git": {"commit": _digest("git")[:40], "dirty": False},
        },
        "samples": [_sample(index, random) for index in range(IMAGES)],
        "artifacts": {"best": "train/weights/best.pt", "plots": [f"train/plot_{n}.png" for n in range(20)]},
        "started": "2026-03-01T10:00:00+00:00",
        "finished": "2026-03-01T11:35:00+00:00",
        "tries": [{"started": "2026-03-01T10:00:00+00:00", "host": "made-up", "pid": 1, "device": "0"}],
    }  # fmt: skip


def _metrics(top: float) -> dict[str, float]:
    return {
        "map50_95": top, "map50": top * 1.45, "precision": top * 1.6, "recall": top * 1.35, "map75": top * 1.05,
        "map50_95_small": top * 0.5, "map50_95_medium": top * 1.1, "map50_95_large": top * 1.4,
    }  # fmt: skip


def _per_class(names: list[str], top: float, random: np.random.Generator) -> list[dict[str, Any]]:
    found = np.clip(top + random.normal(0, 0.08, len(names)), 0.01, 1)
    return [
        {"name": name, "map50_95": float(value), "map50": float(value * 1.4), "map75": float(value), "instances": 400}
        for name, value in zip(names, found, strict=True)
    ]


def _epoch(number: int, value: float, slower: float) -> dict[str, float]:
    losses = {f"{split}/{name}_loss": 2 / (1 + 0.1 * number) for split in ("train", "val") for name in ("box", "cls")}
    rates = {f"lr/pg{group}": 0.01 / number for group in range(4)}
    scores = {"map50_95": value, "map50": value * 1.45, "precision": value * 1.6, "recall": value * 1.35}
    return {"epoch": number, "time": 1.79e9 + 57 * number, "seconds": 57.0 * slower, **losses, **scores, **rates}


def _sample(index: int, random: np.random.Generator) -> dict[str, Any]:
    scene = np.random.default_rng(index)
    boxes = [[x, y, x + 60, y + 60] for x, y in scene.integers(0, 250, (8, 2)).tolist()]
    return {
        "image": f"samples/{index}.jpg", "width": 320, "height": 320,
        "truth": [[number % 80, *box] for number, box in enumerate(boxes)],
        "predictions": [
            [number % 80, float(random.uniform(0.3, 1)), *map(float, box)] for number, box in enumerate(boxes)
        ],
    }  # fmt: skip


def _latency(record: dict[str, Any], number: int) -> dict[str, Any]:
    random = np.random.default_rng(number)
    ratio = record["cost"]["gflops"] / 5.4
    samples = (7.0 * ratio * random.normal(1, 0.01, 50)).tolist()
    middle = float(np.median(samples))
    return {
        "variant": record["variant"], "variant_key": record["variant_key"], "signature": record["signature"],
        "latency_ms": middle, "latency_p95_ms": float(np.quantile(samples, 0.95)),
        "latency_ci_low": middle * 0.99, "latency_ci_high": middle * 1.01,
        "latency_ratio": None if record["factors"]["module"] == "none" else ratio,
        "ratio_ci_low": ratio * 0.99, "ratio_ci_high": ratio * 1.01, "samples_ms": samples,
    }  # fmt: skip


def _picture() -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    pixels = np.random.default_rng(0).normal(150, 25, (320, 320, 3)).clip(0, 255).astype("uint8")
    Image.fromarray(pixels).save(stream, "JPEG", quality=80)
    return stream.getvalue()


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
