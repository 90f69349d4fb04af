"""What a checkpoint carries comes back as it was; a file that cannot be continued from is told from one that can."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from ablate.training import checkpoint
from ablate.trial import _resumable


def whole(path: Path, **content: Any) -> Path:
    state = {"format": checkpoint.FORMAT, "epoch": 3, "epochs": 5, "resumed": 1, "weights": torch.rand(1000), **content}
    checkpoint.write(path, {"epoch": 2, checkpoint.KEY: state})
    return path


def test_tensors_come_back_with_values_types_and_memory_layout() -> None:
    convolution = nn.Conv2d(3, 8, 3).to(memory_format=torch.channels_last)
    tree = {
        "network": dict(convolution.state_dict()),
        "state": {0: {"step": torch.tensor(7.0), "buffer": torch.rand(4, 5).t(), "name": "x"}},
        "counts": [torch.tensor(3), torch.zeros(0, dtype=torch.int64), (1.5, None)],
        "half": torch.rand(3).half(),
        "expanded": torch.rand(3, 1).expand(3, 4),
    }

    back = checkpoint.split(checkpoint.join(tree))

    assert back["counts"][2] == (1.5, None)
    assert back["state"][0]["name"] == "x"
    for old, new in [
        (tree["network"]["weight"], back["network"]["weight"]),
        (tree["network"]["bias"], back["network"]["bias"]),
        (tree["state"][0]["step"], back["state"][0]["step"]),
        (tree["state"][0]["buffer"], back["state"][0]["buffer"]),
        (tree["counts"][0], back["counts"][0]),
        (tree["counts"][1], back["counts"][1]),
        (tree["half"], back["half"]),
    ]:
        assert torch.equal(old, new)
        assert (old.dtype, old.stride()) == (new.dtype, new.stride())
    assert torch.equal(tree["expanded"], back["expanded"])


def test_joined_tensors_are_copies() -> None:
    weight = torch.ones(3)

    joined = checkpoint.join({"weight": weight})
    weight.zero_()
    first, second = checkpoint.split(joined), checkpoint.split(joined)
    first["weight"].zero_()

    assert second["weight"].tolist() == [1, 1, 1]


def test_all_random_generators_go_on_where_they_were() -> None:
    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    states = checkpoint.random_states(torch.device("cpu"))
    first = draw()
    checkpoint.set_random_states(states, torch.device("cpu"))

    assert draw() == first


def test_a_whole_checkpoint_says_how_far_its_training_is(tmp_path: Path) -> None:
    assert checkpoint.resumable(whole(tmp_path / "last.pt")) == {"epoch": 3, "epochs": 5, "resumed": 1}


@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_checkpoint_that_was_cut_off_cannot_be_continued(tmp_path: Path, kept: float) -> None:
    path = whole(tmp_path / "last.pt")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])

    assert checkpoint.resumable(path) is None


def test_a_checkpoint_with_a_flipped_bit_cannot_be_continued(tmp_path: Path) -> None:
    path = whole(tmp_path / "last.pt")
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)

    assert checkpoint.resumable(path) is None


def test_what_is_no_checkpoint_of_ours_cannot_be_continued(tmp_path: Path) -> None:
    stock, text = tmp_path / "stock.pt", tmp_path / "text.pt"
    checkpoint.write(stock, {"epoch": 2, "model": None})
    text.write_text("not a checkpoint", encoding="utf-8")

    for path in (stock, text, tmp_path / "missing.pt", tmp_path, whole(tmp_path / "other.pt", format=-1)):
        assert checkpoint.resumable(path) is None


def test_a_training_that_an_earlier_version_ended_is_done_anew(tmp_path: Path) -> None:
    last = tmp_path / "train" / "weights" / "last.pt"
    last.parent.mkdir(parents=True)
    whole(last, stage="over")
    assert _resumable(last) is not None

    realised = tmp_path / "train" / "realised.json"
    realised.write_text('{"batch": 4}', encoding="utf-8")  # without the evaluations that are kept now
    assert _resumable(last) is None
    realised.write_text('{"batch": 4, "evaluations": {}}', encoding="utf-8")
    assert _resumable(last) is not None


def test_a_copy_without_state_keeps_the_rest(tmp_path: Path) -> None:
    source, target = whole(tmp_path / "last.pt"), tmp_path / "best.pt"

    checkpoint.write_without_state(source, target)

    assert torch.load(target, weights_only=False) == {"epoch": 2}
