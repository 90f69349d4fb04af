"""A plain convolution block of any size, such as one with as many parameters as another module.

The residual bottleneck of He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv 1512.03385
(1x1, 3x3, 1x1), with the batch norm and the activation (SiLU) of the convolutions that surround it in YOLO. What a
module gains over it is not owed to its number of parameters.

Two hidden widths instead of one let the count come close: with one width a step is as large as 18 widths and 2 C.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Annotated, Any

import torch
from torch import Tensor, nn

NORM = {"eps": 1e-3, "momentum": 0.03}  # as Ultralytics sets them in the network around
SQUARE = 2  # neither hidden width is more than so many times the other


class ConvBlock(nn.Module):
    """x plus 1x1, 3x3 and 1x1 convolutions of it; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C.
        like: What it has as many parameters as: the dotted path of a class in ``_target_``, beside its options. The
            class is built with C channels, counted, and forgotten.
        width: Hidden channels, where there is no `like`; 0 is half of C.

    Attributes:
        widths: Hidden channels before and after the 3x3 convolution.

    Raises:
        ValueError: Both `like` and `width` are given, or what it shall be like cannot be built with C channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        like: Mapping[str, Any] | None = None,
        width: Annotated[int, ">= 0"] = 0,
    ) -> None:
        super().__init__()
        if channels < 1 or width < 0:
            raise ValueError(f"ConvBlock needs at least 1 channel and a width of at least 0; got {channels}, {width}")
        if like is not None and width:
            raise ValueError("ConvBlock takes its width from what it is like: give `like` or `width`, not both")
        self._wanted = None if like is None else count_parameters(like, channels)
        half = width or max(channels // 2, 1)
        self.widths = (half, half) if self._wanted is None else closest_widths(channels, self._wanted)
        before, after = self.widths
        self.layers = nn.Sequential(
            *_convolution(channels, before, 1),
            nn.SiLU(inplace=True),
            *_convolution(before, after, 3),
            nn.SiLU(inplace=True),
            *_convolution(after, channels, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        y: Tensor = x + self.layers(x)
        return y

    def describe(self) -> dict[str, Any]:
        """Return how close it came, for the record; empty where it is like nothing.

        ``params_error`` is (params - params_like) / params_like, None for a module without parameters. ``smallest``
        says that the module has fewer parameters than the smallest block.
        """
        if self._wanted is None:
            return {}
        params = sum(parameter.numel() for parameter in self.parameters())
        return {
            "widths": list(self.widths),
            "params": params,
            "params_like": self._wanted,
            "params_error": (params - self._wanted) / self._wanted if self._wanted else None,
            "smallest": self.widths == (1, 1) and params > self._wanted,
        }


def closest_widths(channels: int, params: int) -> tuple[int, int]:
    """Return the two hidden widths whose block has the number of parameters closest to `params`.

    Where several are as close, those that differ least; of these, those that are smaller first.
    """
    best = (1, 1)
    closest = _rank(channels, params, best)
    for before in range(1, _widest(channels, params) + 1):
        exact = (params - 2 * channels - before * (channels + 2)) / (9 * before + channels + 2)
        low, high = max(-(-before // SQUARE), 1), before * SQUARE
        for after in {min(max(math.floor(exact) + more, low), high) for more in (0, 1)}:
            rank = _rank(channels, params, (before, after))
            if rank < closest:
                best, closest = (before, after), rank
    return best


def count_parameters(module: Mapping[str, Any], channels: int) -> int:
    """Count the parameters of a module that takes `channels` first, and the options beside its ``_target_``.

    The global random state is left as it was.

    Raises:
        ValueError: There is no such class, or it refuses its options or channels.
    """
    target = str(module.get("_target_"))
    options = {name: value for name, value in module.items() if name not in ("name", "_target_", "insertion")}
    home, _, name = target.rpartition(".")
    try:
        build = getattr(import_module(home), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"ConvBlock like {target}: it cannot be imported: {error}") from error
    with torch.random.fork_rng(devices=[]):
        try:
            return sum(parameter.numel() for parameter in build(channels, **options).parameters())
        except (ValueError, TypeError) as error:
            raise ValueError(f"ConvBlock like {name}: {error}") from error


def _convolution(inputs: int, outputs: int, kernel: int) -> tuple[nn.Module, nn.Module]:
    layer = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False)
    return layer, nn.BatchNorm2d(outputs, eps=NORM["eps"], momentum=NORM["momentum"])


def _size(channels: int, widths: tuple[int, int]) -> int:
    """Parameters of a block: 1x1, 3x3, 1x1 without bias, and two for each channel of the three batch norms."""
    before, after = widths
    return channels * before + 9 * before * after + after * channels + 2 * (before + after + channels)


def _rank(channels: int, params: int, widths: tuple[int, int]) -> tuple[int, int, int]:
    return abs(_size(channels, widths) - params), abs(widths[0] - widths[1]), widths[0]


def _widest(channels: int, params: int) -> int:
    """The largest first width that can come close: with the smallest second one it has `params` already."""
    width = 1
    while _size(channels, (width, -(-width // SQUARE))) < params:
        width += 1
    return width
