"""A modified network's layers find their stock layers, wherever they stand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.fixtures.network_files import Content, insert, replaced, stock, write

from ablate.errors import ConfigError
from ablate.importing.alignment import Alignment
from ablate.importing.network_file import read_network_file
from ablate.importing.stock_networks import find_ancestor, stock_names


def aligned(folder: Path, content: Content, name: str = "my-yolo26n-mine.yaml", said: str | None = None) -> Alignment:
    return find_ancestor(read_network_file(write(folder, content, name)), name, said)


@pytest.mark.parametrize("at", [1, 5, 7, 11, 17, 20, 23])
def test_an_inserted_layer_moves_no_other_off_its_stock_layer(tmp_path: Path, at: int) -> None:
    alignment = aligned(tmp_path, insert(stock(), at, [-1, 1, "EMA", []]))

    assert alignment.stock.name == "yolo26n"
    assert alignment.pairs == (*range(at), None, *range(at, 24))


def test_several_changes_at_once_are_told_apart(tmp_path: Path) -> None:
    content = replaced(stock(), {5: [-1, 1, "ADown", [512]], 12: [[-1, 6], 1, "BiFPN_Concat", [1]]})
    content = insert(insert(content, 11, [-1, 1, "EMA", []]), 5, [-1, 1, "EMA", []])

    alignment = aligned(tmp_path, content)

    assert alignment.pairs == (*range(5), None, *range(5, 11), None, *range(11, 24))


def test_a_removed_layer_is_the_only_one_without_a_partner(tmp_path: Path) -> None:
    content = stock()
    del content["backbone"][10]
    content["head"] = [
        [[it - 1 if it > 10 else (9 if it == 10 else it) for it in f] if isinstance(f, list) else f, n, m, a]
        for f, n, m, a in content["head"]
    ]

    assert aligned(tmp_path, content).pairs == (*range(10), *range(11, 24))


@pytest.mark.parametrize(
    "name", ["yolo26", "yolo26-p2", "yolo26-p6", "yolo12", "yolo11", "yolov8", "yolov8-p2", "yolov5"]
)
def test_each_stock_network_is_its_own_ancestor_whatever_it_is_called(tmp_path: Path, name: str) -> None:
    alignment = aligned(tmp_path, stock(name), "network.yaml")

    assert alignment.pairs == tuple(range(len(alignment.stock.layers)))
    assert alignment.stock.name.replace("n-", "-").removesuffix("n") == name
    assert name in stock_names()


@pytest.mark.parametrize(("scale", "ancestor"), [("s", "yolo26s"), ("x", "yolo26x")])
def test_the_scale_of_the_file_is_that_of_its_ancestor(tmp_path: Path, scale: str, ancestor: str) -> None:
    alignment = aligned(tmp_path, insert(stock(), 5, [-1, 1, "EMA", []]), f"yolo26{scale}-EMA.yaml")

    assert alignment.stock.name == ancestor
    assert alignment.stock.scaling == alignment.other.scaling


def test_of_yolov10_the_file_of_the_scale_is_found(tmp_path: Path) -> None:
    alignment = aligned(tmp_path, insert(stock("yolov10s"), 5, [-1, 1, "EMA", []]), "yolov10s-EMA.yaml")

    assert alignment.stock.name == "yolov10s"
    assert alignment.pairs[6:] == tuple(range(5, len(alignment.stock.layers)))


def test_the_user_can_say_the_ancestor(tmp_path: Path) -> None:
    alignment = aligned(tmp_path, stock("yolo26-p2"), said="yolo26")

    assert alignment.stock.name == "yolo26n"
    assert len(alignment.stock_of) < len(alignment.other.layers)


def test_an_ancestor_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    rows = [[-1, 1, f"Block{index}", [64 + index]] for index in range(12)]
    content = {"nc": 80, "backbone": rows[:6], "head": [*rows[6:], [[3, 5, 11], 1, "Own", ["nc"]]]}

    with pytest.raises(ConfigError, match=r"--stock=\w+"):
        aligned(tmp_path, content, "network.yaml")


@pytest.mark.parametrize("said", ["yolo27", "resnet"])
def test_an_ancestor_that_does_not_exist_is_refused_with_those_that_do(tmp_path: Path, said: str) -> None:
    with pytest.raises(ConfigError, match=rf"--stock={said}: .*valid: .*yolo26"):
        aligned(tmp_path, stock(), said=said)


def test_a_network_of_another_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Segment26"):
        aligned(tmp_path, stock("yolo26-seg"))
