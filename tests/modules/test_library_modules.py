"""Modules of timm, torchvision, Ultralytics and PyTorch that a file names: each builds, runs and trains as its kind."""

from __future__ import annotations

import inspect
from importlib import import_module

import pytest
import torch
from tests.modules.library_page import PAGE, names, rows
from torch import Tensor, nn

from ablate.settings.graft import ModuleSpec
from ablate.settings.option_files import about_module, module_file
from ablate.settings.points import point_of
from ablate.verifying.registry import registry

NAMES = names()
OUTPUTS = ("c2", "out_chs", "out_channels", "oup")
KEEPS = (
    "ultralytics/psa",
    "ultralytics/c2fpsa",
    "ultralytics/ghostbottleneck",
)  # refuse other channels behind than before
SIZE = (5, 9)


def build(name: str, before: int, behind: int, stride: int) -> nn.Module:
    """Build a module as at a place with these channels and this stride; a test of a missing package is skipped."""
    spec = ModuleSpec.from_plain(module_file(name))
    home, _, leaf = spec.target.rpartition(".")
    pytest.importorskip(home.partition(".")[0], reason="the package of this module is not installed")
    function = getattr(import_module(home), leaf)
    parameters = inspect.signature(function).parameters
    facts = {"stride": stride, "s": stride, "k": 3, "kernel_size": 3} if _is_convolution(name) else {"stride": 1}
    named = {key: value for key, value in facts.items() if key in parameters} | spec.arguments
    named |= {key: behind for key in OUTPUTS if key in parameters}
    first = next(iter(parameters))
    takes_channels = first not in named and first not in ("size", "kernel_size")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module: nn.Module = function(*([before] if takes_channels else []), **named)
    return module.train()


def _is_convolution(name: str) -> bool:
    return "downsample" in about_module(name).kinds or module_file(name)["insertion"] == "bottleneck_conv"


def cases(name: str) -> list[tuple[int, int, int]]:
    """Channels before and behind and stride (halves: 2, doubles: -1) of every kind that a module can be."""
    kinds = about_module(name).kinds
    block = [(64, 64, 1)] if name in KEEPS else [(64, 64, 1), (64, 128, 1)]
    each = {
        "insert": [(32, 32, 1)],
        "block": block,
        "downsample": [(32, 64, 2)],
        "upsample": [(32, 32, -1)],
    }
    return [case for kind in kinds for case in each[kind]]


def size_behind(height: int, width: int, stride: int) -> tuple[int, int]:
    if stride == -1:
        return 2 * height, 2 * width
    return -(-height // stride), -(-width // stride)


@pytest.mark.parametrize("name", NAMES)
def test_a_library_s_module_has_the_ports_of_its_kind_and_trains(name: str) -> None:
    for before, behind, stride in cases(name):
        module = build(name, before, behind, stride)
        x = torch.randn(2, before, *SIZE).requires_grad_()
        y: Tensor = module(x)
        assert tuple(y.shape) == (2, behind, *size_behind(*SIZE, stride))
        y.square().sum().backward()
        assert x.grad is not None
        assert [key for key, p in module.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_the_file_of_each_says_what_it_is_and_goes_where_its_kind_fits() -> None:
    assert len(NAMES) >= 60
    for name in NAMES:
        about, point = about_module(name), point_of(module_file(name)["insertion"])
        assert about.family, name
        assert point is not None, name
        assert point.takes(about.kinds), name


@pytest.mark.slow
def test_the_options_of_each_are_those_of_its_class() -> None:
    assert sorted(spec.title for spec in registry(NAMES).values()) == sorted(NAMES)


def test_the_page_says_of_each_module_what_its_file_says() -> None:
    listed = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    assert len(listed) >= 60
    assert set(listed) <= set(rows()), "run python tests/modules/library_page.py"
