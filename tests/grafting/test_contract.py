"""A grafted module's output is a finite tensor of its input's shape, dtype and device, at the sizes that it meets."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from ultralytics.nn.modules.head import Detect
from ultralytics.nn.tasks import DetectionModel

from ablate.grafting.contract import ContractError, check_grafts, check_output
from ablate.grafting.contract_findings import Findings
from ablate.grafting.insertion import GraftError
from ablate.grafting.surgery import Graft, operate
from ablate.settings.graft import GraftSpec, InsertionSpec, ModuleSpec

Forward = Any


class Block(nn.Module):
    """A convolution whose forward each case replaces."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = nn.Conv2d(channels, channels, 1)
        self.seen: Any = None


def block(forward: Forward) -> type[nn.Module]:
    return type("Mine", (Block,), {"forward": forward})


class Halves(Block):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.conv = nn.Conv2d(channels, channels, 3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


class Squeeze(nn.Module):
    """A batch norm over one value a channel: two images at least in train mode."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x).sigmoid()


class Fixed(Block):
    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + torch.zeros(1, 1, 4, 4)


class Idle(Block):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.extra = nn.Linear(2, 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def checked(
    module: type[nn.Module], place: str = "neck_p5", wiring: str = "plain", imgsz: int = 128, model: str = "yolo26n"
) -> Findings:
    """Graft a class where no dotted path leads, and check the network."""
    network = deepcopy(built(model))
    stand_in = ModuleSpec("ablate.modules.identity.Identity")
    done = operate(network, [GraftSpec(stand_in, InsertionSpec(place, wiring=wiring))])
    grafts = [graft for graft in network.modules() if isinstance(graft, Graft)]
    for graft, found in zip(grafts, done.places, strict=True):
        graft.module, graft.target = module(found.channels), "mine"
    return check_grafts(network, imgsz, {"mine": "mine"})


BREAKS: dict[str, tuple[Any, str]] = {
    "halves the map": (Halves, "mine at neck_p5: returned (1, 256, 2, 2) for (1, 256, 4, 4)"),
    "other channels": (block(lambda m, x: torch.cat([x, x], 1)), "returned (1, 512, 4, 4) for (1, 256, 4, 4)"),
    "a tuple": (block(lambda m, x: (m.conv(x), x)), "returned a tuple of 2 for (1, 256, 4, 4)"),
    "a list": (block(lambda m, x: [x]), "returned a list of 1 for (1, 256, 4, 4)"),
    "nothing": (block(lambda m, x: None), "returned None for (1, 256, 4, 4)"),
    "another dtype": (block(lambda m, x: m.conv(x).double()), "returned float64 for (1, 256, 4, 4) of float32"),
    "NaN": (block(lambda m, x: m.conv(x) * float("nan")), "returned 4096 values of 4096 that are not finite"),
    "infinite in train mode": (block(lambda m, x: x / (0 if m.training else 1)), "not finite for (2, 256, 4, 4)"),
    "one image for two": (block(lambda m, x: m.conv(x)[:1]), "returned (1, 256, 4, 4) for (2, 256, 4, 4)"),
    "a gate without its map": (block(lambda m, x: x.mean((2, 3), True)), "returned (1, 256, 1, 1) for (1, 256, 4, 4)"),
    "turned by 90 degrees": (block(lambda m, x: x.mT), "returned (1, 256, 4, 5) for (1, 256, 5, 4)"),
    "one size only": (Fixed, "raised RuntimeError for (1, 256, 5, 4): The size of tensor a (5)"),
    "even sizes only": (
        block(lambda m, x: x.unflatten(2, (-1, 2)).flatten(2, 3)),
        "raised RuntimeError for (1, 256, 5",
    ),
    "raises": (block(lambda m, x: m.nothing), "mine at neck_p5: raised AttributeError for (1, 256, 4, 4): 'Mine'"),
    "raises in train mode": (block(lambda m, x: m.nothing if m.training else x), "for (2, 256, 4, 4) in train mode"),
}


@pytest.mark.parametrize("case", BREAKS)
def test_a_module_that_breaks_the_contract_is_told_with_its_place(case: str) -> None:
    module, expected = BREAKS[case]

    with pytest.raises(ContractError) as refused:
        checked(module)
    assert expected in str(refused.value)
    assert str(refused.value).startswith("mine at neck_p5: ")
    assert "\n" not in str(refused.value)


def test_halves_on_the_inputs_of_the_head_is_refused() -> None:
    with pytest.raises(ContractError, match=r"mine at head: returned \(1, 64, 8, 8\) for \(1, 64, 16, 16\)"):
        checked(Halves, "head")


def test_a_network_too_large_to_run_at_its_size_is_checked_there_by_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    import ablate.grafting.contract as contract

    monkeypatch.setattr(contract, "BUDGET", 1.0)
    monkeypatch.setattr(contract, "GRADIENT_BUDGET", 1.0)

    with pytest.raises(ContractError, match=r"returned \(1, 256, 10, 10\) for \(1, 256, 20, 20\)"):
        checked(Halves, imgsz=640)
    assert checked(block(lambda m, x: m.conv(x)), imgsz=640) == Findings()


def test_a_gradient_that_cannot_be_computed_is_refused() -> None:
    def forward(module: Block, x: Tensor) -> Tensor:
        y = module.conv(x).sigmoid()
        y.mul_(2)  # what sigmoid kept for its gradient
        return y

    with pytest.raises(ContractError, match="mine at neck_p5: its gradient cannot be computed"):
        checked(block(forward))


KEEPS: dict[str, tuple[Any, list[str]]] = {
    "a convolution": (block(lambda m, x: m.conv(x)), []),
    "the input itself": (block(lambda m, x: x), ["conv.weight, conv.bias never get a gradient"]),
    "an idle parameter": (Idle, ["extra.weight never gets a gradient"]),
    "cut off": (block(lambda m, x: m.conv(x.detach())), ["no gradient reaches its input"]),
    "without gradient": (block(lambda m, x: m.conv(x).detach()), ["no gradient passes through it"]),
    "in place": (block(lambda m, x: m.conv(x.mul_(1))), ["changes its input in place"]),
    "keeps what it saw": (block(lambda m, x: setattr(m, "seen", m.conv(x)) or m.seen), []),
}


@pytest.mark.parametrize("case", KEEPS)
def test_what_is_odd_but_keeps_the_contract_is_a_note(case: str) -> None:
    module, notes = KEEPS[case]

    assert checked(module).notes == tuple(f"mine at neck_p5: {note}" for note in notes)


@pytest.mark.parametrize(("place", "wiring"), [("head", "plain"), ("neck_p5", "residual")])
def test_a_map_that_others_read_must_not_be_changed(place: str, wiring: str) -> None:
    with pytest.raises(ContractError, match="changes its input in place"):
        checked(KEEPS["in place"][0], place, wiring)


def test_a_batch_norm_over_one_value_needs_two_images() -> None:
    assert "for one image in train mode: Expected more than 1 value per channel" in str(checked(Squeeze).single)
    assert checked(KEEPS["a convolution"][0]).single is None


def test_what_fails_under_mixed_precision_only_is_told_apart() -> None:
    def forward(module: Block, x: Tensor) -> Tensor:
        y = module.conv(x)
        return y @ torch.eye(y.shape[-1]) if y.dtype == torch.float32 else module.nothing  # type: ignore[no-any-return]

    found = checked(block(forward))

    assert found.notes == ()
    assert "raised AttributeError" in str(found.mixed)
    assert checked(block(lambda m, x: m.conv(x).float())).mixed is None


def test_the_stock_network_has_nothing_to_check(monkeypatch: pytest.MonkeyPatch) -> None:
    network = DetectionModel("yolo26n.yaml", nc=3, verbose=False)
    monkeypatch.setattr(network, "forward", lambda *_: pytest.fail("it is run"))

    assert check_grafts(network, 640, {}) == Findings()


def test_the_output_s_device_is_part_of_the_contract() -> None:
    x = torch.zeros(1, 2, 3, 3)

    with pytest.raises(ContractError, match="on meta"):
        check_output(x.to("meta"), (1, 2, 3, 3), x)


class Returns(nn.Module):
    """A module that returns maps of a factor of its input's size, and of other channels."""

    def __init__(self, channels: Any, out_channels: int = 8, factor: float = 1.0) -> None:
        super().__init__()
        self.channels, self.factor = out_channels, factor
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Any) -> Tensor:
        x = x[0] if isinstance(x, list) else x
        size = [round(side * self.factor) for side in x.shape[-2:]]
        return self.scale * x.new_ones(x.shape[0], self.channels, *size)


class Adapter(nn.Module):
    """An adapter of the inputs of Detect that leaves one of them out where it is told to."""

    def __init__(self, channels: list[int], leave_out: bool = False) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(len(channels)))
        self.leave_out = leave_out

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [scale * x for scale, x in zip(self.scale, maps, strict=True)][self.leave_out :]


class Wider(Detect):
    """A head that returns another number of box values."""

    def __init__(self, nc: int, ch: Any, reg_max: int, more: int = 0, end2end: bool = True) -> None:
        super().__init__(nc, reg_max + more, end2end, ch)


@cache
def built(model: str = "yolo26n") -> DetectionModel:
    return DetectionModel(f"{model}.yaml", nc=3, verbose=False)


def checked_in_place(target: str, point: str, **options: Any) -> Findings:
    network = deepcopy(built())
    operate(network, [GraftSpec(ModuleSpec(f"{__name__}.{target}", options), InsertionSpec(point))])
    return check_grafts(network, 128, {f"{__name__}.{target}": "mine"})


PORTS: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "channels": ("Returns", "sppf", {"out_channels": 8}, "returned (1, 8, 4, 4) for (1, 256, 4, 4); (1, 256, 4, 4) is"),
    "size": ("Returns", "sppf", {"factor": 0.5}, "returned (1, 256, 2, 2) for (1, 256, 4, 4); (1, 256, 4, 4) is"),
    "not halved": ("Returns", "down_neck", {}, "returned (1, 64, 16, 16) for (1, 64, 16, 16); (1, 64, 8, 8) is needed"),
    "odd": ("Returns", "down_neck", {"factor": 0.45}, "returned (1, 64, 7, 7) for (1, 64, 16, 16)"),
    "not doubled": ("Returns", "up", {"out_channels": 256}, "(1, 256, 4, 4) for (1, 256, 4, 4); (1, 256, 8, 8) is"),
    "fused": ("Returns", "fuse", {"out_channels": 9},
              "returned (1, 9, 8, 8) for (1, 256, 8, 8) and (1, 128, 8, 8); (1, 384, 8, 8) is needed"),
    "too few maps": ("Adapter", "detect", {"leave_out": True}, "returned a list of 2 for (1, 64, 16, 16) and"),
    "another head": ("Wider", "detect", {"more": 1}, "forward: ValueError: returned {one2many: {boxes: (2, 8, "),
}  # fmt: skip


@pytest.mark.parametrize("case", PORTS)
def test_what_replaces_a_layer_returns_what_the_layer_would_have(case: str) -> None:
    target, point, options, expected = PORTS[case]
    with pytest.raises(GraftError) as refused:
        checked_in_place(target, point, **options)
    assert expected in str(refused.value)
    assert "\n" not in str(refused.value)


def test_what_keeps_the_contract_of_its_kind_has_no_findings() -> None:
    assert checked_in_place("Adapter", "detect") == Findings()
    assert checked_in_place("Wider", "detect") == Findings()
    assert checked_in_place("Returns", "fuse", factor=1.0).single is None
    network = deepcopy(built())
    operate(network, [GraftSpec.from_text(f"stock@{point}") for point in ("down", "up", "fuse", "c3k2_block", "c2psa")])
    assert check_grafts(network, 128, {}) == Findings()
