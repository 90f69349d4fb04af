"""Which form a module takes: what asks for the operations themselves gets the composed one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from ablate.modules.kernels.switch import check_fused, composed, fuses


class Asks(nn.Module):
    """Adds 1 in its fused form, 2 in its composed one."""

    def __init__(self, fused: bool | str) -> None:
        super().__init__()
        self.fused = fused

    def forward(self, x: Tensor) -> Tensor:
        return x + (1 if fuses(self.fused, x) else 2)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*")
@pytest.mark.parametrize("fused", ["auto", True])
def test_a_graph_is_made_of_the_composed_form(fused: bool | str) -> None:
    module, x = Asks(fused), torch.zeros(3)

    assert module(x).tolist() == [1.0] * 3
    assert torch.jit.trace(module, x, check_trace=False)(x).tolist() == [2.0] * 3
    assert torch.export.export(module, (x,)).module()(x).tolist() == [2.0] * 3
    assert module(x).tolist() == [1.0] * 3


def test_under_torch_compile_only_who_insists_gets_the_fused_form() -> None:
    x = torch.zeros(3)
    for fused, added in (("auto", 2.0), (True, 1.0), (False, 2.0)):
        assert torch.compile(Asks(fused), backend="eager")(x).tolist() == [added] * 3


def test_nothing_is_fused_where_there_are_no_values_and_where_it_is_forbidden() -> None:
    x = torch.zeros(3)

    assert not fuses(True, torch.zeros(3, device="meta"))
    assert not fuses(False, x)
    with composed():
        with composed():
            assert not fuses(True, x)
        assert not fuses(True, x)
    with pytest.raises(KeyError), composed():
        raise KeyError
    assert fuses(True, x)


@pytest.mark.parametrize("wrong", [1, 0, None, "true", "on"])
def test_the_switch_has_three_positions(wrong: object) -> None:
    for right in ("auto", True, False):
        check_fused(right)
    with pytest.raises(ValueError, match="fused must be one of auto, true, false"):
        check_fused(wrong)
