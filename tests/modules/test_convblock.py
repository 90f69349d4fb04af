"""The plain block has the size that it is asked for, and says how close it came."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from ablate.grafting.construction import load_class
from ablate.modules import ConvBlock
from ablate.modules.convblock import closest_widths, count_parameters
from ablate.settings.option_files import RESERVED
from ablate.settings.schema import option_file

PAPERS = ("acmix", "hat", "hmha", "sta")


def like(module: str, **changes: Any) -> dict[str, Any]:
    content = {name: value for name, value in option_file("module", module).items() if name != "about"}
    return {**content, **changes}


def size(module: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("channels", [8, 16, 32, 64, 128, 192, 256, 384])
@pytest.mark.parametrize("module", PAPERS)
def test_it_has_as_many_parameters_as_the_module(module: str, channels: int) -> None:
    block = ConvBlock(channels, like=like(module))
    given = option_file("module", module)
    kept = {name: value for name, value in given.items() if name not in RESERVED}
    wanted = size(load_class(given["_target_"])(channels, **kept))
    told = block.describe()

    one_width = 9 * min(block.widths) + channels + 2  # what one hidden channel more or less comes to
    assert abs(size(block) - wanted) <= max(0.01 * wanted, one_width / 2)
    assert (told["params"], told["params_like"]) == (size(block), wanted)
    assert told["params_error"] == (size(block) - wanted) / wanted
    assert told["smallest"] is False


def test_no_other_pair_of_widths_comes_closer() -> None:
    for channels, wanted in ((16, 900), (16, 2012), (64, 17_806), (24, 5000)):
        pairs = [(a, b) for a in range(1, 90) for b in range(1, 90) if max(a, b) <= 2 * min(a, b)]
        sizes = {
            (a, b): channels * (a + b) + 9 * a * b + 2 * (a + b + channels)  # three convolutions, three batch norms
            for a, b in pairs
        }
        found = closest_widths(channels, wanted)

        assert abs(sizes[found] - wanted) == min(abs(size - wanted) for size in sizes.values())


def test_widths_are_of_like_size() -> None:
    for channels in (8, 64, 256):
        for wanted in (500, 5_000, 50_000, 5_000_000):
            before, after = closest_widths(channels, wanted)
            assert max(before, after) <= 2 * min(before, after)


def test_a_module_smaller_than_the_smallest_block_gets_that_and_it_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from torch import nn\nclass Few(nn.Conv1d):\n    def __init__(self, channels, count=3):\n"
    text += "        super().__init__(1, 1, count, bias=False)\n"
    text += "class None_(nn.Identity):\n    def __init__(self, channels):\n        super().__init__()\n"
    (tmp_path / "few_block.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        few = ConvBlock(16, like={"_target_": "few_block.Few", "count": 5}).describe()
        none = ConvBlock(16, like={"_target_": "few_block.None_"}).describe()
    finally:
        sys.modules.pop("few_block", None)

    assert (few["widths"], few["params"], few["params_like"], few["smallest"]) == ([1, 1], 77, 5, True)
    assert few["params_error"] == pytest.approx(72 / 5)
    assert (none["params_like"], none["params_error"], none["smallest"]) == (0, None, True)


def test_it_starts_the_same_whatever_it_is_like() -> None:
    torch.manual_seed(3)
    block = ConvBlock(32, like=like("sta"))
    torch.manual_seed(3)
    by_hand = ConvBlock(32, like=like("sta"))
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    count_parameters(like("hat"), 32)

    assert torch.equal(torch.rand(4), expected), "counting another module draws random numbers"
    assert all(torch.equal(a, b) for a, b in zip(block.parameters(), by_hand.parameters(), strict=True))


def test_by_hand_it_has_the_width_that_is_given_or_half_of_its_channels() -> None:
    assert ConvBlock(32).widths == (16, 16)
    assert ConvBlock(1).widths == (1, 1)
    assert ConvBlock(32, width=5).widths == (5, 5)
    assert ConvBlock(32).describe() == {}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"like": like("sta"), "width": 4}, "not both"),
        ({"like": like("hmha"), "channels": 20}, "like HMHA: .*8"),
        ({"like": {"_target_": "nowhere.Block"}}, "nowhere.Block: it cannot be imported"),
        ({"like": like("sta", unknown=1)}, "like StokenAttention: .*unknown"),
        ({"width": -1}, "at least 0"),
        ({"channels": 0}, "at least 1 channel"),
    ],
)
def test_what_it_cannot_be_is_refused_in_words(given: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ConvBlock(**{"channels": 32, **given})


def test_a_trained_norm_folds_away_into_what_the_network_around_has() -> None:
    norms = [layer for layer in ConvBlock(8).modules() if isinstance(layer, torch.nn.BatchNorm2d)]

    assert {(norm.eps, norm.momentum) for norm in norms} == {(1e-3, 0.03)}
