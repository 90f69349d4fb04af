"""Composing quickly gives exactly what Hydra gives, its errors included."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import DictConfig

from ablate.app import plain
from ablate.composing import Cell, Composer
from ablate.config import Config, conf_dir

CELLS: list[list[str]] = [
    [],
    ["seed=3"],
    ["module=hmha", "seed=1"],
    ["module=hmha", "module.rerank=batch", "seed=1"],
    ["module=hmha", "seed=2"],
    ["module=acmix", "insertion=c3k2", "insertion.wiring=rezero", "optimizer=sgd", "optimizer.lr0=0.1"],
    ["train=smoke", "train.imgsz=96", "train.epochs=2"],
    ["train=demo", "optimizer.warmup_epochs=2"],
    ["train=demo"],
    ["insertion.at=[4,6]", "module=sta"],
    ["++train.rect=true"],
    ["device='0,1'", "sweep=abc", "root=elsewhere"],
    ["exclude=[{module: hat, model: yolo26x}]", "grafts=[hmha@c3k2]"],
    ["model=yolo26s", "model.name=${data.name}", "seed=1"],
    ["tracking.uri=http://127.0.0.1:5000"],
]


@pytest.fixture(scope="module")
def hydra() -> Iterator[None]:
    ConfigStore.instance().store(name="ablate", node=Config)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def load(cell: Cell) -> DictConfig:
    return compose("config", overrides=list(cell), return_hydra_config=True)


@pytest.fixture(scope="module")
def composer(hydra: None) -> Composer:
    return Composer(load, plain)


@pytest.mark.parametrize("cell", CELLS, ids=[" ".join(cell) for cell in CELLS])
def test_a_cell_is_what_hydra_composes(cell: list[str], composer: Composer) -> None:
    assert composer(cell) == plain(load(cell))


def test_one_cell_leaves_no_trace_in_the_next(composer: Composer) -> None:
    before: dict[str, Any] = composer(["module=hmha"])
    composer(["module=hmha", "module.rerank=batch", "optimizer.lr0=0.5", "seed=9"])

    assert composer(["module=hmha"]) == before


@pytest.mark.parametrize("cell", [["seed=x"], ["train.epohcs=3"], ["module=hmha", "module.rerak=batch"], ["sed=1"]])
def test_errors_are_those_of_hydra(cell: list[str], composer: Composer) -> None:
    with pytest.raises(HydraException) as expected:
        load(cell)
    with pytest.raises(HydraException) as found:
        composer(cell)

    assert str(found.value) == str(expected.value)


def test_a_grid_of_values_goes_through_hydra_once(hydra: None) -> None:
    asked = []

    def counting(cell: Cell) -> DictConfig:
        asked.append(cell)
        return load(cell)

    composer = Composer(counting, plain)
    configs = [
        composer([f"module={m}", f"seed={s}", f"optimizer.lr0={r}"])
        for m in ("hmha", "sta")
        for s in range(5)
        for r in (0.1, 0.2)
    ]

    assert len(asked) == 2
    assert len({repr(config) for config in configs}) == 20
