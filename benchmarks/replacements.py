"""Processor time of a training step of YOLO26n with each kind of layer in its own place, beside the stock network.

    python benchmarks/replacements.py [--imgsz 160] [--batch 4] [--rounds 30] [--points fuse,down]

The layers are the stock ones (`module=stock`), so any difference is that of what puts them there. One process, one
thread; each round runs every network once, in another order each round, and is compared with the stock network of the
same round. Beside the median ratio stands its 95 % interval (their range where rounds are few). Results go to
results/replacements.jsonl.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import common
import torch
from simulated.round_interval import median_interval
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from ablate.grafting.surgery import operate
from ablate.settings.graft import GraftSpec
from ablate.settings.points import POINTS, REPLACE_LAYER

STOCK = "stock network"
ALL = "all kinds"
EVERY = ("c3k2_block", "down", "up", "fuse", "sppf", "psa_attention", "detect")


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgsz", type=int, default=160, help="pixels")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--points", help="such as fuse,down; default: every point that replaces, and all kinds at once")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    points = [name for name, point in POINTS.items() if point.replaces and name != REPLACE_LAYER]
    names = asked.points.split(",") if asked.points else [*points, ALL]
    networks = {STOCK: _network(()), **{name: _network(EVERY if name == ALL else (name,)) for name in names}}
    times = measure(networks, asked.imgsz, asked.batch, asked.rounds)
    step = median(times[STOCK])
    print(f"step of the stock network: {1e3 * step:.1f} ms")
    for name in names:
        ratios = [ours / stock for ours, stock in zip(times[name], times[STOCK], strict=True)]
        low, high = _interval(ratios)
        row = {"point": name, "ratio": round(median(ratios), 5), "low": round(low, 5), "high": round(high, 5)}
        settings = {"stock_step_ms": round(1e3 * step, 2), "imgsz": asked.imgsz, "batch": asked.batch}
        common.keep("replacements", {**row, **settings, "rounds": asked.rounds})
        print(f"{name:16} x {row['ratio']:.4f} [{low:.4f}, {high:.4f}]")


def measure(networks: dict[str, DetectionModel], imgsz: int, batch: int, rounds: int) -> dict[str, list[float]]:
    """Return processor seconds of a step (forward, loss, backward) of each round by network."""
    noise = torch.Generator().manual_seed(0)
    boxes = torch.rand(5 * batch, 4, generator=noise) * 0.3 + 0.3
    images = {
        "img": torch.rand(batch, 3, imgsz, imgsz, generator=noise),
        "batch_idx": torch.arange(batch).repeat_interleave(5).float(),
        "cls": torch.zeros(5 * batch, 1),
        "bboxes": boxes,
    }
    times: dict[str, list[float]] = {name: [] for name in networks}
    order, names = random.Random(0), list(networks)
    for number in range(rounds + 2):  # the first two warm up
        order.shuffle(names)
        for name in names:
            network = networks[name]
            network.zero_grad()
            begin = time.process_time()
            network.loss(images)[0].sum().backward()
            if number >= 2:
                times[name].append(time.process_time() - begin)
    return times


def _network(points: tuple[str, ...]) -> DetectionModel:
    torch.manual_seed(0)
    network = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    if points:
        operate(network, [GraftSpec.from_text(f"stock@{point}") for point in points])
    network.args = get_cfg()
    return network.train()


def _interval(ratios: list[float]) -> tuple[float, float]:
    interval = median_interval([ratios]).interval
    return (min(ratios), max(ratios)) if interval is None else (interval.low, interval.high)


if __name__ == "__main__":
    main()
