"""The job of a worker: build YOLO26n with a module at a point, count it, and measure it against the stock network."""

from __future__ import annotations

import os
from copy import deepcopy
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import torch

from ablate.catalogue.figures import IMGSZ, MODEL, FigureJob, Figures
from ablate.errors import AblateError
from ablate.grafting.module_calls import is_of_user, limited, reason
from ablate.latency.backends import deploy
from ablate.latency.timing import Runner, Stopwatch, run_rounds
from ablate.measuring.complexity import Complexity, complexity
from ablate.settings.environment import output_to, prepare
from ablate.settings.graft import GraftSpec
from ablate.training.network import NetworkSettings, build_network

if TYPE_CHECKING:
    from torch import nn
    from ultralytics.nn.tasks import DetectionModel

CLASSES = 80
ROUNDS = 30
WARMUP = 5


def count(job: FigureJob) -> Figures:
    """Return the figures of a module; runs in a worker, for the module's code may do anything."""
    prepare()
    with output_to(Path(os.devnull)), limited(job.running):
        try:
            network, places = _built(job.graft)
            ratio = _latency_ratio(deepcopy(network)) if job.timed else None
            grafted, stock = complexity(network, IMGSZ, spend=True), _stock()
        except BaseException as error:
            if is_of_user(error):
                raise
            text = str(error) if isinstance(error, AblateError) else reason(error)
            return Figures(problem=" ".join(text.split()))
    return Figures(grafted.params - stock.params, grafted.gflops - stock.gflops, places, ratio)


def _built(graft: GraftSpec | None) -> tuple[DetectionModel, int]:
    """Return the network with a module in it, or the stock one, and at how many places the module is."""
    content = _architecture()
    if graft is not None:
        content |= NetworkSettings(grafts=(graft,)).to_yaml()
    network, report, _ = build_network(content, classes=CLASSES)
    return network, len(report.places)


def _architecture() -> dict[str, object]:
    from ultralytics.nn.tasks import yaml_model_load

    content: dict[str, object] = yaml_model_load(f"{MODEL}.yaml")
    return content


@cache
def _stock() -> Complexity:
    return complexity(_built(None)[0], IMGSZ, spend=True)


@cache
def _deployed_stock() -> nn.Module:
    return deploy(_built(None)[0], "one_to_one")


def _latency_ratio(network: nn.Module) -> float:
    """Return the latency of a network over that of the stock one: both run once a round, in shuffled order."""
    torch.set_num_threads(1)
    networks = {"stock": _deployed_stock(), "grafted": deploy(network, "one_to_one")}
    image = torch.rand(1, 3, IMGSZ, IMGSZ, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        runners = {name: _runner(each, image) for name, each in networks.items()}
        measured = run_rounds(runners, rounds=ROUNDS, warmup=WARMUP)
    if measured.failures:
        raise RuntimeError(next(iter(measured.failures.values())))
    return median(measured.totals("grafted")) / median(measured.totals("stock"))


def _runner(network: nn.Module, image: torch.Tensor) -> Runner:
    clock = Stopwatch("cpu")
    return lambda turn: (clock.time(lambda: network(image)),)
