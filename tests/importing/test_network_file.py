"""A network file is read as plain values, and one that cannot be built is refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.network_files import Content, replaced, stock, write

from ablate.errors import ConfigError
from ablate.importing.network_file import IMAGE, read_network_file


def test_sources_are_numbers_of_layers_and_literals_are_values(tmp_path: Path) -> None:
    network = read_network_file(write(tmp_path, stock()))

    assert network.layers[0].sources == (IMAGE,)
    assert network.layers[12].sources == (11, 6)
    assert network.layers[11].arguments == (None, 2, "nearest")
    assert (network.scale, network.backbone) == ("n", 11)
    assert network.settings == {"end2end": True, "reg_max": 1}


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ([30, 1, "Conv", [256, 3, 2]], "reads layer 30, which is not before it"),
        ([5, 1, "Conv", [256, 3, 2]], "reads layer 5, which is not before it"),
        ([-9, 1, "Conv", [256, 3, 2]], "reads layer -9"),
        ([[], 1, "Concat", [1]], "empty list"),
        (["a", 1, "Conv", [256]], "must be the number of a layer"),
        ([-1, 0, "Conv", [256]], "repeated 0 times"),
        ([-1, 10**9, "Conv", [256]], "repeated 1000000000 times"),
        ([-1, 1, "os.system", ["x"]], "no layer"),
        ([-1, 1, "Conv", [10**7, 3, 2]], "beyond any size"),
        ([-1, 1, "Conv", [256, 10**9]], "beyond any size"),
        ([-1, 1, "Conv"], "arguments] is needed"),
        ([-1, 1, "Conv", "256"], "list of plain values"),
    ],
)
def test_a_row_that_cannot_be_built_is_named(tmp_path: Path, row: list[Any], reason: str) -> None:
    path = write(tmp_path, replaced(stock(), {5: row}))

    with pytest.raises(ConfigError) as error:
        read_network_file(path)

    assert "layer 5" in str(error.value)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"backbone": []}, "backbone"),
        ({"head": None}, "head"),
        ({"activation": "__import__('os').system('true')"}, "activation"),
        ({"scales": {"n": [0.5, -1, 1024]}}, "above 0"),
        ({"scales": {"n": [0.5, 1e5, 1024]}}, "channels; at most"),
    ],
)
def test_a_file_that_is_no_network_is_refused(tmp_path: Path, change: Content, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        read_network_file(write(tmp_path, {**stock(), **change}))


@pytest.mark.parametrize(
    "text", ["backbone: [", "- 1\n- 2\n", "a: 1\na: 2\n", "x: !!python/object/apply:os.system [true]"]
)
def test_a_damaged_yaml_is_refused_in_one_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "yolo26n-mine.yaml"
    path.write_text(text, encoding="utf-8")

    with pytest.raises(ConfigError) as error:
        read_network_file(path)

    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_scale_that_the_file_has_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--scale=q: valid: n, s, m, l, x"):
        read_network_file(write(tmp_path, stock()), "q")
