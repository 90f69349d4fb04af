"""What a module declares beside the dispatcher's count is what an operation-by-operation count finds."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ablate.grafting.construction import load_class
from ablate.measuring.arithmetic import Arithmetic, arithmetic
from ablate.settings.option_files import RESERVED
from ablate.settings.schema import option_file

CASES: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in ("acmix", "convblock", "hat", "hmha", "identity", "sta")),
    ("hmha", {"rerank": "none"}),
    ("hmha", {"rerank": "batch", "cache": "paper"}),
    ("acmix", {"kernel_att": 3}),
    ("acmix", {"kernel_att": 4, "dilation": 2, "heads": 2}),
    ("sta", {"n_iter": 2}),
    ("sta", {"stoken_size": [2, 3]}),
    ("hat", {"depth": 1, "window_size": 4}),
]
SHAPES = ((32, 16, 16), (64, 20, 12), (32, 9, 13))


def build(name: str, channels: int, **changes: Any) -> Any:
    given = {**option_file("module", name), **changes}
    kept = {key: value for key, value in given.items() if key not in RESERVED}
    return load_class(given["_target_"])(channels, **kept)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize(("name", "changes"), CASES, ids=str)
def test_what_is_declared_is_what_is_computed(name: str, changes: dict[str, Any], shape: tuple[int, int, int]) -> None:
    module = build(name, shape[0], **changes)
    declare = getattr(module, "uncounted_flops", None)

    assert arithmetic(module, *shape).products == (declare(*shape[1:]) if declare else 0)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_acmix_s_window_loop_by_hand(shape: tuple[int, int, int]) -> None:
    """For each of 7 x 7 places of the window C H W products of queries and keys, summed over a head's channels; and as
    many of attention and values, added to what the places before gave.
    """
    channels, height, width = shape
    assert arithmetic(build("acmix", channels), *shape).products == 49 * channels * height * width * (2 + 2)


def test_hmha_s_norms_and_ranking_by_hand() -> None:
    """With N = H W, each C N products with as many additions: the lengths of queries and of keys; for the ranking the
    lengths of the centred channels, those of the channels as they are (to tell a constant one), and each channel's
    product with the sum of all.
    """
    assert arithmetic(build("hmha", 32), 32, 16, 16).products == (2 + 3) * 2 * 32 * 256


class Known(nn.Module):
    """Each kind of operation once, on (1, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.convolution(x)
        similarity = (x * y).sum(1, keepdim=True)  # an inner product of each pixel
        gated = x * similarity.sigmoid()  # a gate
        return (gated + x) * self.scale + y.softmax(1)


def test_each_operation_is_counted_once_and_in_its_kind() -> None:
    pixels, channels = 6 * 5, 8
    every = pixels * channels

    assert arithmetic(Known(channels), channels, 6, 5) == Arithmetic(
        dispatched=2 * channels * every,
        products=2 * every,
        # the sigmoid once a pixel; the gate, the sum, the scale and the last sum once an element; the softmax
        pointwise=pixels + 4 * every + 5 * every,
    )


class Weighted(nn.Module):
    """Adds up maps by weights that come from the maps."""

    def forward(self, x: Tensor) -> Tensor:
        weights = x.softmax(1)
        y = torch.zeros_like(x)
        for shift in range(3):
            y = y + weights * x.roll(shift, 2)
        return y


class Unseeded(Weighted):
    """The same without zeros to begin with."""

    def forward(self, x: Tensor) -> Tensor:
        weights = x.softmax(1)
        return weights * x + weights * x.roll(1, 2) + weights * x.roll(2, 2)


@pytest.mark.parametrize("module", [Weighted, Unseeded])
def test_a_weighted_sum_that_is_added_up_step_by_step_is_an_inner_product(module: type[nn.Module]) -> None:
    found = arithmetic(module(), 4, 6, 6)

    assert found == Arithmetic(dispatched=0, products=3 * 2 * 144, pointwise=5 * 144)


def test_counting_needs_no_luck_and_changes_nothing() -> None:
    module = build("hat", 32)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)

    arithmetic(module, 32, 8, 8)  # HAT makes its masks once
    assert arithmetic(module, 32, 8, 8) == arithmetic(module, 32, 8, 8)
    assert module.training
    assert torch.equal(torch.rand(2), expected)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
