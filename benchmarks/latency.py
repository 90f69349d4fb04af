"""The same latency table twice, each time in new processes: how far do the ratios to the baseline agree?

    python benchmarks/latency.py [--imgsz 320] [--rounds 50] [--batch 1] [--precision fp32] [--backend eager]

YOLO26n and YOLO26n with each of the four modules at its customary place, untrained: weights do not change how long a
network takes, except for post-processing, whose boxes they decide. Needs an otherwise idle machine to say much.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from common import keep


def main() -> None:
    """Measure twice, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--imgsz", type=int, default=320)
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--processes", type=int)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--backend", default="eager")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        _measure(asked.measure, json.loads((asked.measure / "sweep.json").read_text(encoding="utf-8"))["latency"])
        return
    from ablate.settings.schema import Config

    latency = {
        **asdict(Config().latency),
        "batch": [asked.batch],
        "precision": [asked.precision],
        "backend": [asked.backend],
        **{name: given for name in ("rounds", "processes") if (given := getattr(asked, name)) is not None},
    }
    root = Path(tempfile.mkdtemp(prefix="ablate-bench-"))
    try:
        folder = _sweep(root, asked.imgsz, latency)
        runs, seconds = [], []
        for _ in range(asked.runs):
            started = time.perf_counter()
            subprocess.run([sys.executable, __file__, "--measure", str(folder)], check=True)
            seconds.append(round(time.perf_counter() - started, 1))
            runs.append(json.loads((folder / "latency.json").read_text(encoding="utf-8")))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    _keep(asked, latency, runs, seconds)


def _sweep(root: Path, imgsz: int, latency: dict[str, Any]) -> Path:
    """Write a sweep's folder with a checkpoint and a record for each network, as trials leave them."""
    import torch
    from ultralytics.nn.tasks import DetectionModel

    from ablate.grafting.surgery import operate
    from ablate.records.loading import save_record
    from ablate.records.trial_record import decode_record
    from ablate.settings.environment import prepare
    from ablate.settings.graft import GraftSpec
    from ablate.settings.schema import CONTROL_MODULES, options
    from ablate.storage.files import atomic_write_json

    prepare()
    without = ("none", *CONTROL_MODULES)
    signatures = []
    for number, module in enumerate(["none", *(name for name in options("module") if name not in without)]):
        torch.manual_seed(0)
        network = DetectionModel("yolo26n.yaml", nc=6, verbose=False)
        if module != "none":
            operate(network, [GraftSpec.from_text(module)])
        signature = f"{number:x}" * 64
        trial = root / "trials" / signature
        trial.mkdir(parents=True)
        torch.save({"model": network}, trial / "untrained.pt")
        record = {
            "schema": 1,
            "signature": signature,
            "status": "finished",
            "failure": None,
            "name": module,
            "config": {},
            "variant": module,
            "variant_key": module,
            "comparison_key": "all",
            "factors": {"module": module},
            "seed": 0,
            "metrics": {"map50_95": 0.0},
            "realised": {"imgsz": imgsz, "device": "0" if torch.cuda.is_available() else "cpu"},
            "artifacts": {"best": "untrained.pt"},
        }
        save_record(trial, decode_record(record))
        signatures.append(signature)
    folder = root / "sweeps" / "latency"
    folder.mkdir(parents=True)
    atomic_write_json(folder / "sweep.json", {"name": "latency", "signatures": signatures, "latency": latency})
    return folder


def _measure(folder: Path, latency: dict[str, Any]) -> None:
    from rich.console import Console

    from ablate.latency.sweep_latency import measure_sweep
    from ablate.settings.schema import LatencySettings

    measure_sweep(folder, LatencySettings(**latency), Console(), again=True)


def _keep(asked: argparse.Namespace, latency: dict[str, Any], runs: list[dict[str, Any]], seconds: list[float]) -> None:
    """Print both runs side by side, and write them down."""
    results = {}
    for index, setting in enumerate(runs[0]["settings"]):
        print(f"\n{setting['scope']}, batch {setting['batch']}, {setting['precision']}, {setting['backend']}")
        rows = {}
        for place, row in enumerate(setting["variants"]):
            found = [run["settings"][index]["variants"][place] for run in runs]
            ratios = [one["latency_ratio"] for one in found]
            if None in ratios:
                print(f"{row['variant']:>8}  {row.get('reason')}")
                continue
            spread = max(ratios) / min(ratios) - 1 if len(ratios) > 1 else None  # one run agrees with nothing
            intervals = [[one["ratio_ci_low"], one["ratio_ci_high"]] for one in found]
            rows[row["variant"]] = {
                "latency_ms": [round(one["latency_ms"], 3) for one in found],
                "ratio": [round(ratio, 4) for ratio in ratios],
                "intervals of the ratio": [[end and round(end, 4) for end in pair] for pair in intervals],
                "deviation": None if spread is None else round(spread, 4),
            }
            shown = [f"{ratio:7.3f}" for ratio in ratios] + ([] if spread is None else [f" {spread:6.2%}"])
            print(f"{row['variant']:>8}  " + "  ".join(shown))
        results[setting["scope"]] = {
            "rows": rows,
            "greatest deviation": max(
                (row["deviation"] for row in rows.values() if row["deviation"] is not None), default=None
            ),
        }
    protocol = runs[0]["protocol"]
    keep(
        "latency",
        {
            "imgsz": asked.imgsz,
            "batch": asked.batch,
            "precision": asked.precision,
            "backend": asked.backend,
            "rounds": protocol["rounds"],
            "processes": protocol["processes"],
            "warmup": [run["protocol"]["warmup"] for run in runs],
            "threads": protocol["threads"],
            "others' share of the processor": [run["protocol"]["others_cpu_during"] for run in runs],
            "load": [[run["protocol"]["load_before"], run["protocol"]["load_after"]] for run in runs],
            "flags": [run["flags"] for run in runs],
            "seconds": seconds,
            **results,
        },
    )


if __name__ == "__main__":
    main()
