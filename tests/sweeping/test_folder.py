"""A sweep's folder has a name that is safe as a folder and as a word of a tag, whatever the data file is called."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from ablate.execution.manifest import sweep_name


def trials(data: str) -> Any:
    factors = {"module": "hmha", "insertion": "c3k2", "optimizer": "sgd", "model": "yolo26n", "data": data}
    return [SimpleNamespace(identity=SimpleNamespace(signature="ab" * 32, factors=factors))]


@pytest.mark.parametrize("data", ["my data", "a\nb", "50% $x", "a#b?c", "x/../y", "[v2]", "'q'\""])
def test_odd_letters_of_a_data_file_do_not_get_into_the_name(data: str) -> None:
    assert re.fullmatch(r"hmha_[\w.+@=-]+_yolo26n_[0-9a-f]{6}", sweep_name(trials(data)))


def test_an_ordinary_name_is_as_it_was() -> None:
    assert sweep_name(trials("größe-1.v2")).startswith("hmha_größe-1.v2_yolo26n_")
