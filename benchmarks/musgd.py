"""Seconds of a step of MuSGD over YOLO26's parameters: Ultralytics' own, and ours in each arithmetic.

    python benchmarks/musgd.py [--models n,s] [--threads 1,2] [--avx2] [--rounds 10] [--seconds 60]

Every optimizer steps once a round, in another order each round, on the same gradients; each model and number of threads
in a process of its own. --avx2 lets the libraries use no more than AVX2, as on most laptops; the line says so. Results
go to results/musgd.jsonl; `python benchmarks/modules.py --page` writes them into docs/speed.md. Takes at most --seconds
of rounds (but at least 3) for each process: with both models and 1 and 2 threads 5 minutes, 15 with --avx2.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import common
from instructions import FORCE_AVX2

LEAST_ROUNDS = 3
STOCK = "Ultralytics"
HEAD = {
    STOCK: "Ultralytics', ms",
    "bf16": "ours in bf16, ms",
    "emulated": "ours, bf16 emulated, ms",
    "fp32": "ours in fp32, ms",
}


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="n,s", help="scales of YOLO26, with commas between")
    parser.add_argument("--threads", default="1,2", help="numbers of threads, with commas between")
    parser.add_argument("--avx2", action="store_true", help="let the libraries use no more than AVX2")
    parser.add_argument("--rounds", type=int, default=10, help="at most")
    parser.add_argument("--seconds", type=float, default=60.0, help="of rounds, in a process")
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="folder of the results")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child:
        print(json.dumps(measure(asked.child, asked.rounds, asked.seconds)))
        return
    common.RESULTS = asked.results
    if asked.avx2:
        os.environ.update(FORCE_AVX2)
    for model in asked.models.split(","):
        for threads in asked.threads.split(","):
            load = round(os.getloadavg()[0], 2)
            words = ["--child", model, "--rounds", str(asked.rounds), "--seconds", str(asked.seconds)]
            environment = {**os.environ, "ABLATE_CPU_THREADS": threads, "OMP_NUM_THREADS": threads}
            done = subprocess.run([sys.executable, __file__, *words], env=environment, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])
            found = json.loads(done.stdout.splitlines()[-1])
            common.keep("musgd", {"device": "cpu", "model": f"yolo26{model}", "load": load, **found})


def measure(model: str, rounds: int, seconds: float) -> dict[str, Any]:
    """Step each optimizer once a round; return medians.

    Args:
        model: A scale of YOLO26.
        rounds: At most so many.
        seconds: After these no further round begins, but three are made.

    Returns:
        ``ms`` and ``processor_ms``: medians by optimizer. ``faster``: medians of how many times as fast as
        Ultralytics' it was within a round. ``auto``: what `optimizer.orthogonalise=auto` takes here.
    """
    from ablate.settings.environment import cpu_threads, prepare

    prepare()
    import torch

    from ablate.training.musgd import BF16, EMULATED, FP32, fast_arithmetic

    torch.set_num_threads(cpu_threads())
    optimizers = {name: _optimizer(model, name) for name in (STOCK, BF16, EMULATED, FP32)}
    for optimizer in optimizers.values():
        optimizer.step()
    names, order, began = list(optimizers), random.Random(0), time.perf_counter()
    wall: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for done in range(rounds):
        if done >= LEAST_ROUNDS and time.perf_counter() - began > seconds:
            break
        order.shuffle(names)
        for name in names:
            start, own = time.perf_counter(), time.process_time()
            optimizers[name].step()
            wall[name].append(1e3 * (time.perf_counter() - start))
            processor[name].append(1e3 * (time.process_time() - own))
    orthogonalised = [group for group in optimizers[STOCK].param_groups if group["use_muon"]]
    return {
        "threads": torch.get_num_threads(),
        "matrices": sum(len(group["params"]) for group in orthogonalised),
        "rounds": len(wall[STOCK]),
        "auto": fast_arithmetic(torch.device("cpu")),
        "ms": {name: round(median(times), 2) for name, times in wall.items()},
        "processor_ms": {name: round(median(times), 2) for name, times in processor.items()},
        "faster": {name: round(_ratio(wall[STOCK], times), 2) for name, times in wall.items()},
    }


def _ratio(stock: Sequence[float], own: Sequence[float]) -> float:
    return median(one / other for one, other in zip(stock, own, strict=True))


def _optimizer(model: str, arithmetic: str) -> Any:
    """Return an optimizer as a training builds it, with gradients in place."""
    import torch
    from ultralytics.models.yolo.detect import DetectionTrainer
    from ultralytics.nn.tasks import DetectionModel

    from ablate.training.musgd import MuSGD

    network = DetectionModel(f"yolo26{model}.yaml", nc=80, verbose=False)
    generator = torch.Generator().manual_seed(0)
    for parameter in network.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    trainer = SimpleNamespace(args=SimpleNamespace(lr0=0.01, warmup_bias_lr=0.0), data={"nc": 80})
    stock = DetectionTrainer.build_optimizer(trainer, network, name="MuSGD", lr=1e-4, momentum=0.9, decay=5e-4)
    return stock if arithmetic == STOCK else MuSGD.like(stock, arithmetic)


def rows(lines: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the rows of a table, of repeated measurements the last: setting, model, threads, milliseconds, ratio."""
    last = {(line["cpu"], line["instructions"], line["model"], line["threads"]): line for line in lines}
    return [
        [
            f"{cpu}, {instructions}",
            model.replace("yolo", "YOLO"),
            str(threads),
            *(f"{ms:.0f}" if (ms := line["ms"][name]) > 99.5 else f"{ms:.3g}" for name in HEAD),
            line["auto"],
            f"{line['faster'][line['auto']]:.1f}x",
        ]
        for (cpu, instructions, model, threads), line in sorted(last.items())
    ]


if __name__ == "__main__":
    main()
