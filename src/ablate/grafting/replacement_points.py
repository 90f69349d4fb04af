"""Points that replace: which layers of a built network each of them means, and what such a layer tells its replacement.

| point | layers |
|---|---|
| c3k2_block | whole C2f (with C3k2, C2fCIB, ...) and A2C2f layers |
| bottleneck | Bottleneck and CIB blocks inside of those |
| bottleneck_conv | second convolutions of the Bottleneck blocks |
| sppf | SPPF (and SPP) layers |
| c2psa | C2PSA layers (PSA in YOLOv10) |
| psa_attention | attentions of the PSA blocks inside of those |
| down_backbone, down_neck, down | layers that halve a map, but for the one that sees the image: Conv, SCDown, ... |
| down_stem | the layer that sees the image and halves it |
| up | layers that double a map |
| fuse | Concat layers |
| detect | the head |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from torch import nn

if TYPE_CHECKING:
    from ultralytics.nn.tasks import DetectionModel


class Ports(NamedTuple):
    """The maps that a layer receives and returns.

    Attributes:
        inputs: Channels of each map that it receives.
        input_stride: Input pixels per cell of those.
        channels: Of the map that it returns.
        stride: Input pixels per cell of that map.
    """

    inputs: tuple[int, ...]
    input_stride: int
    channels: int
    stride: int

    @property
    def kind(self) -> str:
        """What a module must be that takes the layer's place, of `ablate.settings.about.KINDS`."""
        if len(self.inputs) > 1:
            return "fuse"
        if self.stride == self.input_stride:
            return "block"
        return "downsample" if self.stride > self.input_stride else "upsample"


AllPorts = Mapping[str, Ports]  # by path, of the layers of `network.model` but the head


def _c3k2_blocks(network: DetectionModel, ports: AllPorts) -> list[str]:
    from ultralytics.nn.modules.block import A2C2f, C2f

    return _layers(network, (C2f, A2C2f))


def _bottlenecks(network: DetectionModel, ports: AllPorts) -> list[str]:
    from ultralytics.nn.modules.block import CIB, Bottleneck

    return [path for outer in _c3k2_blocks(network, ports) for path in _inside(network, outer, (Bottleneck, CIB))]


def _bottleneck_convs(network: DetectionModel, ports: AllPorts) -> list[str]:
    from ultralytics.nn.modules.block import Bottleneck

    blocks = [path for outer in _c3k2_blocks(network, ports) for path in _inside(network, outer, (Bottleneck,))]
    return [f"{path}.cv2" for path in blocks]


def _sppf(network: DetectionModel, ports: AllPorts) -> list[str]:
    from ultralytics.nn.modules.block import SPP, SPPF

    return _layers(network, (SPPF, SPP))


def _c2psa(network: DetectionModel, ports: AllPorts) -> list[str]:
    from ultralytics.nn.modules.block import C2PSA, PSA

    return _layers(network, (C2PSA, PSA))


def _psa_attentions(network: DetectionModel, ports: AllPorts) -> list[str]:
    from ultralytics.nn.modules.block import Attention

    return [path for outer in _c2psa(network, ports) for path in _inside(network, outer, (Attention,))]


def _halving(network: DetectionModel, ports: AllPorts, *, stem: bool, backbone: bool, neck: bool) -> list[str]:
    length = len(network.yaml["backbone"])
    parts = {
        path: "stem" if index == 0 else "backbone" if index < length else "neck"
        for index, path in enumerate(ports)
        if ports[path].kind == "downsample"
    }
    chosen = [name for name, of in (("stem", stem), ("backbone", backbone), ("neck", neck)) if of]
    return [path for path, part in parts.items() if part in chosen]


def _ups(network: DetectionModel, ports: AllPorts) -> list[str]:
    return [path for path, port in ports.items() if port.kind == "upsample"]


def _fusions(network: DetectionModel, ports: AllPorts) -> list[str]:
    from ultralytics.nn.modules.conv import Concat

    return [path for path in _layers(network, (Concat,)) if ports[path].kind == "fuse"]


REPLACEMENTS: dict[str, Callable[[DetectionModel, AllPorts], list[str]]] = {
    "c3k2_block": _c3k2_blocks,
    "bottleneck": _bottlenecks,
    "bottleneck_conv": _bottleneck_convs,
    "sppf": _sppf,
    "c2psa": _c2psa,
    "psa_attention": _psa_attentions,
    "down": lambda network, ports: _halving(network, ports, stem=False, backbone=True, neck=True),
    "down_backbone": lambda network, ports: _halving(network, ports, stem=False, backbone=True, neck=False),
    "down_neck": lambda network, ports: _halving(network, ports, stem=False, backbone=False, neck=True),
    "down_stem": lambda network, ports: _halving(network, ports, stem=True, backbone=False, neck=False),
    "up": _ups,
    "fuse": _fusions,
}


def facts_of(layer: nn.Module, kind: str) -> dict[str, object]:
    """Return what a replaced layer tells a constructor by name, besides its channels and itself."""
    from ultralytics.nn.modules.block import A2C2f, C2f

    facts: dict[str, object] = {"stride": 2 if kind == "downsample" else 1}
    kernel = _kernel(layer)
    if kernel is not None or kind == "downsample":
        facts["kernel_size"] = kernel or 3
    repeated = getattr(layer, "m", None)
    if isinstance(layer, C2f | A2C2f) or isinstance(repeated, nn.Sequential):
        facts["repeats"] = len(repeated)  # type: ignore[arg-type]
    shortcuts = [inner.add for inner in layer.modules() if isinstance(getattr(inner, "add", None), bool)]
    if shortcuts:
        facts["shortcut"] = shortcuts[0]
    short = {"stride": "s", "kernel_size": "k", "repeats": "n"}
    return {**facts, **{short[name]: value for name, value in facts.items() if name in short}}


def _kernel(layer: nn.Module) -> int | None:
    """Return the size of a convolution's kernel; None for a layer that is no single convolution."""
    own = [layer, getattr(layer, "conv", None), getattr(getattr(layer, "cv2", None), "conv", None)]
    convolutions = [part for part in own if isinstance(part, nn.Conv2d)]
    count = sum(isinstance(inner, nn.Conv2d) for inner in layer.modules())
    if not convolutions or count > 2 or (count == 2 and convolutions[0].stride == (1, 1)):  # 2: SCDown
        return None
    return int(convolutions[0].kernel_size[0])


def _layers(network: DetectionModel, types: tuple[type[nn.Module], ...]) -> list[str]:
    return [f"model.{index}" for index, layer in enumerate(network.model) if isinstance(layer, types)]


def _inside(network: DetectionModel, path: str, types: tuple[type[nn.Module], ...]) -> list[str]:
    """Return the paths of the outermost modules of some types inside of a layer."""
    named = network.get_submodule(path).named_modules()
    inner = [name for name, module in named if name and isinstance(module, types)]
    return [f"{path}.{name}" for name in inner if not any(name.startswith(f"{other}.") for other in inner)]
