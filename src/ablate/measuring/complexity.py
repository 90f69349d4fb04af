"""Parameters and FLOPs of a network, as it would be deployed and at the image size that it works on."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel


@dataclass(frozen=True)
class Complexity:
    """Size and arithmetic of one network.

    Attributes:
        params: Parameters of the deployed network (batch norms folded, the training-only head dropped).
        params_train: Parameters of the network as it is trained.
        gflops: 1e9 floating-point operations (2 x multiply-adds) for one image: what the dispatcher executes
            (convolutions, matrix products, attention) plus what modules declare that it cannot see.
        gflops_uncounted: The part of `gflops` that modules declared.
        gflops_ultralytics: Ultralytics' own figure, from a small proxy image; None where it fails.
    """

    params: int
    params_train: int
    gflops: float
    gflops_uncounted: float
    gflops_ultralytics: float | None

    def summary(self) -> dict[str, float | int | None]:
        """Return plain values, for a record."""
        return asdict(self)


def complexity(network: DetectionModel, imgsz: int) -> Complexity:
    """Count parameters and FLOPs for one square image of `imgsz` pixels; the network is left as it was."""
    from ultralytics.utils.torch_utils import get_flops

    params_train = sum(p.numel() for p in network.parameters())
    reported = get_flops(deepcopy(network).cpu().float(), imgsz) or None  # 0.0 is how it says that it failed
    deployed = deepcopy(network).cpu().float().eval().fuse(verbose=False)
    counted, declared = _flops(deployed, torch.zeros(1, network.yaml.get("channels", 3), imgsz, imgsz))
    return Complexity(
        params=sum(p.numel() for p in deployed.parameters()),
        params_train=params_train,
        gflops=(counted + declared) / 1e9,
        gflops_uncounted=declared / 1e9,
        gflops_ultralytics=reported,
    )


@torch.no_grad()
def _flops(network: nn.Module, image: Tensor) -> tuple[int, int]:
    """Return the FLOPs that the dispatcher executes and those that modules declare beside, for one image."""
    declared = 0

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal declared
        declared += module.uncounted_flops(*inputs[0].shape[-2:])  # type: ignore[operator]

    outermost = _outermost(network, "uncounted_flops")
    handles = [module.register_forward_hook(add) for module in outermost]
    try:
        with FlopCounterMode(display=False) as counter:
            network(image)
    finally:
        for handle in handles:
            handle.remove()
    return int(counter.get_total_flops()), int(declared)


def _outermost(module: nn.Module, method: str) -> list[nn.Module]:
    """Return the modules that have a method, without those inside another one that has it too."""
    if callable(getattr(module, method, None)):
        return [module]
    return [found for child in module.children() for found in _outermost(child, method)]
