"""Parameters and FLOPs of a network, as it would be deployed and at the image size that it works on."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ablate.grafting.folding import fold_norms
from ablate.grafting.module_calls import calling
from ablate.grafting.replaced_layer import Replaced, replaced_names, stock_name
from ablate.grafting.surgery import Graft
from ablate.measuring.flop_counter import FlopCounter
from ablate.modules.kernels.switch import composed

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel

# Up to here it is quicker to run a network than to reason about its shapes, for which torch imports its compiler.
QUICK_GFLOPS = 15.0


@dataclass(frozen=True)
class Complexity:
    """Size and arithmetic of one network.

    Attributes:
        params: Parameters of the deployed network (batch norms folded, the training-only head dropped).
        params_added: Those of them that grafts brought; the others are the deployed stock network's.
        params_train: Parameters of the network as it is trained.
        gflops: 1e9 floating-point operations (2 x multiply-adds) for one image: what the dispatcher executes
            (convolutions, matrix products, attention) plus what modules declare that it cannot see.
        gflops_uncounted: The part of `gflops` that modules declared.
        gflops_ultralytics: Ultralytics' own figure, from a small proxy image; None where it fails.
    """

    params: int
    params_added: int
    params_train: int
    gflops: float
    gflops_uncounted: float
    gflops_ultralytics: float | None


def complexity(network: DetectionModel, imgsz: int, *, spend: bool = False) -> Complexity:
    """Count parameters and FLOPs for one square image of `imgsz` pixels.

    Args:
        network: The network as it is trained; it is left as it was.
        imgsz: Height and width of the image.
        spend: The network is not needed any more: change it, and save the time of a copy.
    """
    from ultralytics.utils.torch_utils import get_flops

    work = (network if spend else deepcopy(network)).cpu().float()
    params_train = sum(p.numel() for p in work.parameters())
    with composed():  # the count is of the formulas in the paper, not of what a fused implementation does
        reported = get_flops(work, imgsz) or None  # 0.0 means that it failed
        replaced = replaced_names(work)
        deployed = work.eval().fuse(verbose=False)
        fold_norms(deployed)
        counted, declared = _count(deployed, imgsz, quick=reported is not None and reported < QUICK_GFLOPS)
    return Complexity(
        params=sum(p.numel() for p in deployed.parameters()),
        params_added=sum(p.numel() for name, p in deployed.named_parameters() if _is_brought(name, replaced)),
        params_train=params_train,
        gflops=(counted + declared) / 1e9,
        gflops_uncounted=declared / 1e9,
        gflops_ultralytics=reported,
    )


def _is_brought(parameter: str, replaced: Mapping[str, str | None]) -> bool:
    """Tell whether a graft, or what replaces a layer, brought a parameter; a folded norm leaves a bias."""
    if stock_name(parameter, replaced) is not None:
        return False
    return replaced.get(f"{parameter.removesuffix('bias')}weight") is None


def _count(network: DetectionModel, imgsz: int, quick: bool) -> tuple[int, int]:
    """Return counted and declared FLOPs: from shapes alone where the network is large, else by running it."""
    shape = (1, network.yaml.get("channels", 3), imgsz, imgsz)
    if not quick:
        with suppress(Exception):  # a module that must see values, such as one that asks for an item of a tensor
            return _flops(_without_values(network), torch.zeros(shape, device="meta"))
    return _flops(network, torch.zeros(shape))


def _without_values(network: DetectionModel) -> DetectionModel:
    """Return a copy on the meta device, where operations know shapes only and take no time, whatever the image."""
    copied = deepcopy(network)
    strides = copied.model[-1].stride
    copied = copied.to("meta")
    copied.model[-1].stride = strides  # Detect makes numbers of them
    return copied


@torch.no_grad()
def _flops(network: nn.Module, image: Tensor) -> tuple[int, int]:
    """Return the FLOPs that the dispatcher executes and those that modules declare beside, for one image."""
    declared = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal declared
        first = inputs[0][0] if isinstance(inputs[0], list | tuple) else inputs[0]  # of what joins several maps
        height, width = first.shape[-2:]
        target, insertion = owners.get(module, (type(module).__name__, "its place"))
        with calling(target, f"at {insertion}: uncounted_flops({height}, {width})"):
            declared += int(module.uncounted_flops(height, width))  # type: ignore[operator]

    owners = {
        inner: (graft.target, graft.insertion)
        for graft in network.modules()
        if isinstance(graft, Graft | Replaced)
        for inner in graft.modules()
    }
    outermost = _outermost(network, "uncounted_flops")
    handles = [module.register_forward_hook(add) for module in outermost]
    try:
        with FlopCounter() as counter:
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return counter.flops, int(declared)


def _outermost(module: nn.Module, method: str) -> list[nn.Module]:
    """Return the modules that have a method, without those inside another one that has it too."""
    if callable(getattr(module, method, None)):
        return [module]
    return [inner for child in module.children() for inner in _outermost(child, method)]
