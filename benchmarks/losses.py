"""Processor time of a training step of YOLO26n with each loss, and how much more that is than with the stock losses.

    python benchmarks/losses.py [--imgsz 320] [--batch 4] [--objects 20] [--rounds 30] [--losses box=siou,cls=focal]

One network, one batch, one process, one thread. Each round runs the stock losses and every other one, in another order
each round: the whole step (forward, losses, backward), and the losses alone, down to the gradient of the predictions.
The difference of the losses alone in parts of the stock step is what a replaced loss costs; `identity` computes what
the stock network does, so its difference is that of the path. Results go to results/losses.jsonl.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("OMP_NUM_THREADS", "1")

import common
import torch
from torch import Tensor
from ultralytics.cfg import get_cfg
from ultralytics.nn.tasks import DetectionModel

from ablate.settings.losses import LossSettings, loss_names
from ablate.training.criterion import ReplacedLosses

STOCK = "stock"


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imgsz", type=int, default=320, help="pixels")
    parser.add_argument("--batch", type=int, default=4, help="images")
    parser.add_argument("--objects", type=int, default=20, help="of each image")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--losses", help="such as box=siou,cls=focal; default: every loss")
    parser.add_argument("--results", type=Path, default=common.RESULTS, help="folder of the results")
    asked = parser.parse_args()
    common.RESULTS = asked.results
    torch.set_num_threads(1)
    every = [f"{part}={name}" for part in ("box", "cls", "assigner") for name in loss_names(part)]
    names = [STOCK, *(asked.losses.split(",") if asked.losses else every)]
    steps, alone = measure(names, asked.imgsz, asked.batch, asked.objects, asked.rounds)
    step = median(steps[STOCK])
    print(f"step of the stock network: {1e3 * step:.1f} ms, its losses {1e3 * median(alone[STOCK]):.2f} ms")
    for name in names[1:]:
        more = median(ours - stock for ours, stock in zip(alone[name], alone[STOCK], strict=True))
        whole = median(ours / stock for ours, stock in zip(steps[name], steps[STOCK], strict=True))
        row = {
            "loss": name,
            "losses_ms": round(1e3 * median(alone[name]), 3),
            "stock_losses_ms": round(1e3 * median(alone[STOCK]), 3),
            "stock_step_ms": round(1e3 * step, 2),
            "more_of_step": round(more / step, 5),
            "step_ratio": round(whole, 4),
            "imgsz": asked.imgsz,
            "batch": asked.batch,
            "objects": asked.objects,
            "rounds": asked.rounds,
        }
        common.keep("losses", row)
        print(f"{name:24} losses {row['losses_ms']:8.2f} ms, {100 * more / step:+.2f} % of a step; step x {whole:.3f}")


def measure(
    names: list[str], imgsz: int, batch: int, objects: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return processor seconds of each round by loss: of whole steps, and of the losses alone."""
    torch.manual_seed(0)
    network = DetectionModel("yolo26n.yaml", nc=3, verbose=False).train()
    network.args = get_cfg()
    criteria = {name: _criterion(network, name) for name in names}
    images = _images(imgsz, batch, objects)
    predictions = network(images["img"])
    fixed = {head: {key: _detached(value) for key, value in maps.items()} for head, maps in predictions.items()}
    steps: dict[str, list[float]] = {name: [] for name in names}
    alone: dict[str, list[float]] = {name: [] for name in names}
    order = random.Random(0)

    def step() -> None:
        network.zero_grad()
        network.loss(images)[0].sum().backward()

    for number in range(rounds + 2):  # the first two warm up
        for name in order.sample(names, len(names)):
            network.criterion = criteria[name]
            took = (
                _seconds(step),
                min(_seconds(lambda n=name: criteria[n](fixed, images)[0].sum().backward()) for _ in "123"),
            )
            if number > 1:
                steps[name].append(took[0])
                alone[name].append(took[1])
    return steps, alone


def _criterion(network: DetectionModel, name: str) -> Callable[..., tuple[Tensor, dict[str, Tensor]]]:
    network.criterion = network.init_criterion()
    if name != STOCK:
        ReplacedLosses(LossSettings.from_plain(dict([name.split("=", 1)]))).install(network)
    criterion: Callable[..., tuple[Tensor, dict[str, Tensor]]] = network.criterion
    return criterion


def _images(imgsz: int, batch: int, objects: int) -> dict[str, Tensor]:
    count = batch * objects
    sizes = 0.05 + 0.3 * torch.rand(count, 2)
    return {
        "img": torch.rand(batch, 3, imgsz, imgsz),
        "batch_idx": torch.arange(batch).repeat_interleave(objects).float(),
        "cls": torch.randint(0, 3, (count, 1)).float(),
        "bboxes": torch.cat((sizes / 2 + torch.rand(count, 2) * (1 - sizes), sizes), 1),
    }


def _detached(value: object) -> object:
    if isinstance(value, list):
        return [_detached(item) for item in value]
    return value.detach().requires_grad_() if isinstance(value, Tensor) else value


def _seconds(function: Callable[[], None]) -> float:
    begin = time.process_time()
    function()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
