"""Composing quickly gives exactly what Hydra gives, its errors included."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig
from omegaconf.errors import MissingMandatoryValue

from ablate.cli.hydra_bridge import complete, plain
from ablate.cli.hydra_compose import Cell, Composer
from ablate.settings.schema import conf_dir, schema_node

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
    ConfigStore.instance().store(name="ablate", node=schema_node())
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield


def load(cell: Cell) -> DictConfig:
    return compose("config", overrides=list(cell), return_hydra_config=True)


@pytest.fixture(scope="module")
def composer(hydra: None) -> Composer:
    return Composer(load, complete, CELLS)


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


class Counting:
    """Loads cells through Hydra, and keeps which."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, ...]] = []

    def __call__(self, cell: Cell) -> DictConfig:
        self.cells.append(tuple(cell))
        return load(cell)


def grid(*axes: Sequence[str]) -> list[tuple[str, ...]]:
    return list(itertools.product(*axes))


def some_of(cells: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return cells from all over a grid; Hydra takes a tenth of a second for each."""
    return [cells[0], *cells[1 :: max(len(cells) // 2, 1)], cells[-1]]


def test_a_grid_of_values_goes_through_hydra_once(hydra: None) -> None:
    counting = Counting()
    cells = grid(
        ["module=hmha", "module=sta"],
        [f"seed={seed}" for seed in range(5)],
        ["optimizer.lr0=0.1", "optimizer.lr0=0.2"],
    )
    composer = Composer(counting, complete, cells)
    configs = [composer(cell) for cell in cells]

    assert len(counting.cells) == 2
    assert len({repr(config) for config in configs}) == 20


GRIDS = {
    "three groups": grid(
        ["module=none", "module=hmha"],
        ["insertion=c3k2", "insertion=head"],
        ["optimizer=sgd", "optimizer=adamw"],
        ["seed=0", "seed=1"],
    ),
    "values that are lists, in one cell and not in the next": grid(
        ["module=hmha", "module=sta"],
        ["optimizer=sgd", "optimizer=adamw"],
        ["model=yolo26n", "model=yolo26s"],
        ["insertion.at=[4,6]", "insertion.at=null"],
        ["exclude=[{module: hat, model: yolo26x}]"],
    ),
    "an option that reaches into other sections": grid(
        ["train=demo", "train=smoke"],
        ["module=hmha", "module=sta"],
        ["optimizer=sgd", "optimizer=adamw"],
        ["model=yolo26n", "model=yolo26s"],
        ["optimizer.warmup_momentum=0.7"],
    ),
    "options of a module": grid(
        ["module=hmha"],
        ["insertion=c3k2", "insertion=head"],
        ["optimizer=sgd", "optimizer=adamw"],
        ["model=yolo26n", "model=yolo26s"],
        ["module.rerank=batch", "module.rerank=none"],
        ["++train.rect=true"],
    ),
    "one value refers to another": grid(
        ["module=hmha", "module=sta"],
        ["optimizer=sgd", "optimizer=adamw"],
        ["model=yolo26n", "model=yolo26s"],
        ["model.name=${data.name}"],
    ),
    "a key given twice": grid(
        ["module=hmha", "module=sta"],
        ["optimizer=sgd", "optimizer=adamw"],
        ["model=yolo26n", "model=yolo26s"],
        ["seed=1"],
        ["seed=2"],
    ),
}


@pytest.mark.parametrize("cells", GRIDS.values(), ids=list(GRIDS))
def test_a_grid_put_together_from_parts_is_what_hydra_composes(cells: list[tuple[str, ...]], hydra: None) -> None:
    composer = Composer(load, complete, cells)
    configs = {cell: composer(cell) for cell in cells}

    for cell in some_of(cells):
        assert configs[cell] == plain(load(cell)), cell


def test_groups_that_combine_are_composed_once_each(hydra: None) -> None:
    counting = Counting()
    cells = grid(
        [f"module={name}" for name in ("none", "hmha", "acmix", "sta", "hat")],
        [f"insertion={name}" for name in ("c3k2", "head", "psa")],
        [f"optimizer={name}" for name in ("sgd", "musgd", "adamw")],
        ["train=smoke"],
        [f"seed={seed}" for seed in range(3)],
    )
    composer = Composer(counting, complete, cells)
    for cell in cells:
        composer(cell)

    assert len(cells) == 135
    assert len(counting.cells) == len(set(counting.cells)) == 1 + 5 + 3 + 3


def test_no_part_of_one_configuration_is_one_of_another(hydra: None) -> None:
    cells = GRIDS["three groups"]
    composer = Composer(load, complete, cells)
    first, before = composer(cells[0]), composer(cells[1])
    for section in (first, *(value for value in first.values() if isinstance(value, dict))):
        section["spoilt"] = True
    first["latency"]["batch"].append(7)

    assert composer(cells[1]) == before


@pytest.fixture
def own_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A user's `conf` folder: an option with defaults of its own, one for the whole tree, one that refers to others."""
    written = {
        "optimizer/gentle.yaml": "name: SGD\nlr0: 0.001\n",
        "optimizer/after.yaml": "defaults:\n  - sgd\n  - _self_\nlr0: 0.003\n",
        "optimizer/global.yaml": "# @package _global_\noptimizer:\n  name: SGD\nmodel:\n  name: mine\n",
        "model/named.yaml": "name: ${module.name}\narchitecture: yolo26n.yaml\nweights: null\n",
        "data/late.yaml": "name: custom\npath: ???\n",
    }
    for name, text in written.items():
        (tmp_path / "conf" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "conf" / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    ConfigStore.instance().store(name="ablate", node=schema_node())
    other = GlobalHydra.instance().hydra  # that of the other tests here
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        yield tmp_path
    GlobalHydra.instance().hydra = other


def test_a_user_s_own_options_mix_with_ours(own_options: Path) -> None:
    cells = grid(
        ["module=hmha", "module=sta"],
        ["model=named", "model=yolo26n"],
        ["optimizer=after", "optimizer=global", "optimizer=gentle"],
        ["data=late"],
        ["data.path=mine.yaml"],
    )
    composer = Composer(load, complete, cells)
    configs = {cell: composer(cell) for cell in cells}

    for cell in some_of(cells):
        assert configs[cell] == plain(load(cell)), cell


def test_what_is_missing_is_hydra_s_to_tell(own_options: Path) -> None:
    cells = grid(["module=hmha", "module=sta"], ["optimizer=sgd", "optimizer=adamw"], ["data=late"])
    composer = Composer(load, complete, cells)

    with pytest.raises(MissingMandatoryValue, match="path"):
        composer(cells[0])
