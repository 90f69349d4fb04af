"""FLOPs are those of the real image size, of the deployed network, with nothing hidden."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from ultralytics.nn.tasks import yaml_model_load

from ablate.grafting.construction import load_class
from ablate.measuring import complexity as measuring
from ablate.measuring.complexity import Complexity, complexity
from ablate.modules.kernels.switch import composed
from ablate.training.network import build_network


def network(target: str | None = None, insertion: str = "neck_p5", **options: Any) -> Any:
    content = yaml_model_load("yolo26n.yaml")
    if target:
        content["ablate"] = {
            "module": {"_target_": target, **options},
            "insertion": {"name": insertion, "at": None, "wiring": "plain"},
        }
    return build_network(content, classes=80)[0]


@cache
def counted(target: str | None = None, insertion: str = "neck_p5", *, imgsz: int) -> Complexity:
    """What is counted of a network, once."""
    return complexity(network(target, insertion), imgsz)


def multiply_adds_of(target: str, channels: int, size: int) -> float:
    """Count a module's own FLOPs by a second way: hooks on its layers, for those made of convolutions alone."""
    module = load_class(target)(channels)
    total = 0

    def add(layer: nn.Module, inputs: Any, output: torch.Tensor) -> None:
        nonlocal total
        weight = layer.weight
        assert isinstance(weight, torch.Tensor)
        total += 2 * weight[0].numel() * output.numel()

    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Conv1d):
            layer.register_forward_hook(add)
    module(torch.zeros(1, channels, size, size))
    return total


def test_yolo26n_is_as_large_as_its_makers_say() -> None:
    found = counted(imgsz=640)

    assert found.params_train == 2_572_280  # Ultralytics' yolo26.yaml
    assert found.gflops == pytest.approx(5.4, rel=0.05)  # the published table, deployed network at 640 px
    assert found.params == pytest.approx(2.4e6, rel=0.05)


def test_flops_grow_with_the_image() -> None:
    assert counted(imgsz=640).gflops == pytest.approx(counted(imgsz=320).gflops * 4, rel=0.02)


def test_a_graft_s_arithmetic_is_added_in_full() -> None:
    target = "ablate.modules.hmha.HMHA"
    module = load_class(target)(256)
    added = counted(target, imgsz=320).gflops - counted(imgsz=320).gflops

    convolutions = multiply_adds_of(target, 256, 10)
    heads = sum(2 * 2 * size * size * 100 for size in module.sizes)  # q k^T and its product with v
    assert added * 1e9 == pytest.approx(convolutions + heads + module.uncounted_flops(10, 10), rel=0.01)


def test_what_the_dispatcher_cannot_see_is_declared_and_shown_apart() -> None:
    found = counted("ablate.modules.acmix.ACmix", imgsz=320)
    declared = load_class("ablate.modules.acmix.ACmix")(256).uncounted_flops(10, 10)

    assert declared > 0
    assert found.gflops_uncounted == pytest.approx(declared / 1e9)


def test_window_attention_is_counted_where_ultralytics_proxy_hides_it() -> None:
    target = "ablate.modules.hat.RHAG"
    size = 256
    found, stock = counted(target, imgsz=size), counted(imgsz=size)

    module = load_class(target)(256)
    tokens, windows = 8 * 8, 1  # one 8x8 window at stride 32
    attention = 2 * windows * 2 * 2 * tokens * tokens * 256  # two blocks, q k^T and its product with v
    assert (found.gflops - stock.gflops) * 1e9 > multiply_adds_of(target, 256, 8) + attention
    assert sum(p.numel() for p in module.parameters()) == found.params - stock.params
    assert found.gflops_ultralytics is not None
    assert found.gflops_ultralytics != pytest.approx(found.gflops, rel=0.01)


@pytest.mark.parametrize("insertion", ["head", "c3k2"])
@pytest.mark.parametrize("target", ["ablate.modules.hmha.HMHA", "ablate.modules.hat.RHAG"])
def test_what_grafts_added_is_the_difference_to_the_deployed_stock_network(target: str, insertion: str) -> None:
    found, stock = counted(target, insertion, imgsz=64), counted(imgsz=64)

    assert found.params_added == found.params - stock.params > 0
    assert stock.params_added == 0


@pytest.mark.parametrize(
    ("target", "size"),
    [("ablate.modules.acmix.ACmix", 320), ("ablate.modules.sta.StokenAttention", 320)],
)
def test_ultralytics_number_hides_what_its_rules_and_its_small_image_do_not_see(target: str, size: int) -> None:
    """ACmix: its window loop is no layer. STA after P5: the proxy's map is smaller than what the tokens look at."""
    found, stock = counted(target, imgsz=size), counted(imgsz=size)
    assert found.gflops_ultralytics is not None
    assert stock.gflops_ultralytics is not None

    added, reported = found.gflops - stock.gflops, found.gflops_ultralytics - stock.gflops_ultralytics
    if "acmix" in target:
        assert reported == pytest.approx(added - found.gflops_uncounted, rel=0.01)
    else:
        assert reported < added / 5
    assert stock.gflops_ultralytics > stock.gflops  # it counts the head that is only trained


MODULES = {
    "none": None,
    "hmha": "ablate.modules.hmha.HMHA",
    "acmix": "ablate.modules.acmix.ACmix",
    "sta": "ablate.modules.sta.StokenAttention",
    "hat": "ablate.modules.hat.RHAG",
}


@pytest.mark.parametrize("module", MODULES)
def test_the_count_is_that_of_torch_s_own_counter(module: str) -> None:
    found = counted(MODULES[module], "head", imgsz=96)

    deployed = network(MODULES[module], "head").eval().fuse(verbose=False)
    with FlopCounterMode(display=False) as counter, torch.no_grad(), composed():
        deployed(torch.zeros(1, 3, 96, 96))
    assert (found.gflops - found.gflops_uncounted) * 1e9 == pytest.approx(counter.get_total_flops(), abs=0.5)


@pytest.mark.parametrize("module", MODULES)
def test_shapes_alone_give_the_same_count_as_running_the_network(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = counted(MODULES[module], "head", imgsz=96)

    monkeypatch.setattr(measuring, "QUICK_GFLOPS", 0.0)
    monkeypatch.setattr(torch, "zeros", _only_without_values(torch.zeros, 96))
    assert complexity(network(MODULES[module], "head"), 96) == ran


def _only_without_values(zeros: Any, imgsz: int) -> Any:
    def guarded(*shape: Any, **options: Any) -> torch.Tensor:
        assert shape != ((1, 3, imgsz, imgsz),) or options.get("device") == "meta", "the network is run after all"
        tensor: torch.Tensor = zeros(*shape, **options)
        return tensor

    return guarded


def test_a_module_that_must_see_values_is_counted_by_running_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "from torch import nn\nclass Looks(nn.Conv2d):\n"
    text += "    def __init__(self, channels):\n        super().__init__(channels, channels, 1)\n"
    text += "    def forward(self, x):\n        return super().forward(x) * float(x.mean() + 1)\n"
    (tmp_path / "looking.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(measuring, "QUICK_GFLOPS", 0.0)
    try:
        added = complexity(network("looking.Looks"), 64).gflops - counted(imgsz=64).gflops
    finally:
        sys.modules.pop("looking", None)

    assert added * 1e9 == pytest.approx(2 * 256 * 256 * 2 * 2)


def test_a_network_that_is_spent_has_the_same_numbers() -> None:
    model = network(MODULES["acmix"])

    assert complexity(model, 64) == complexity(model, 64, spend=True)


def test_counting_leaves_the_network_as_it_was() -> None:
    model = network("ablate.modules.acmix.ACmix").train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    complexity(model, 64)

    assert model.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
