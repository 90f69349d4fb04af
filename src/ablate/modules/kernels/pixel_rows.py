"""Maps pixel by pixel, (b, N, c) with N = H W, and the convolutions of them that HMHA's fused form is made of.

Convolutions are done without gradients; what these need stands beside them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.modules.kernels.matrix import outer, product


def is_channels_last(x: Tensor) -> bool:
    """Tell whether the channels of (b, c, H, W) are next to each other in memory, and nothing else is."""
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


def empty_map(shape: Sequence[int], like: Tensor, channels_last: bool) -> Tensor:
    """Return an uninitialised map of a shape (b, c, H, W), with dtype and device of `like`."""
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=layout)


def to_rows(x: Tensor) -> Tensor:
    """(b, c, H, W) as (b, N, c), contiguous."""
    return x.flatten(2).mT.contiguous() if x.is_contiguous() else x.permute(0, 2, 3, 1).contiguous().flatten(1, 2)


def to_map(rows: Tensor, height: int) -> Tensor:
    """(b, N, c) as (b, c, H, W), a view."""
    return rows.view(len(rows), height, -1, rows.shape[2]).permute(0, 3, 1, 2)


def write_rows(target: Tensor, rows: Tensor) -> None:
    """Write (b, N, c) into a map (b, c, H, W) of any memory format."""
    if target.is_contiguous():
        target.flatten(2).copy_(rows.mT)
    else:
        target.copy_(to_map(rows, target.shape[2]))


def pointwise_convolution(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution of (b, N, c) by (C', c, 1, 1) or (C', c, 1) to (b, N, C')."""
    return product(rows, weight.flatten(1), bias)


def pointwise_gradient(gradient: Tensor, rows: Tensor) -> Tensor:
    """The gradient of a 1x1 convolution's weight, (C', c)."""
    return outer(gradient.flatten(0, 1), rows.flatten(0, 1))


def depthwise_convolution(rows: Tensor, weight: Tensor, bias: Tensor | None, height: int) -> Tensor:
    """3x3 convolution of each channel of (b, N, c) by itself, with a weight (c, 1, 3, 3)."""
    return to_rows(F.conv2d(to_map(rows, height), weight, bias, padding=1, groups=len(weight)))


def depthwise_gradients(
    gradient: Tensor, rows: Tensor, weight: Tensor, bias: Tensor | None, height: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradients of a depthwise convolution's input, weight and bias."""
    maps = to_map(gradient, height), to_map(rows, height)
    outputs = [True, True, bias is not None]
    sizes = None if bias is None else list(bias.shape)
    dt, dw, db = torch.ops.aten.convolution_backward(
        *maps, weight, sizes, [1, 1], [1, 1], [1, 1], False, [0, 0], len(weight), outputs
    )
    return to_rows(dt), dw, db


def sum_of_rows(rows: Tensor) -> Tensor:
    """(b, N, c) to (b, c); faster than `sum`, above all for a slice of wider rows."""
    return torch.bmm(rows.new_ones(1, 1, 1).expand(len(rows), 1, rows.shape[1]), rows)[:, 0]


def bias_gradient(rows: Tensor, bias: Tensor | None) -> Tensor | None:
    """The gradient of a convolution's bias, if it has one."""
    return None if bias is None else sum_of_rows(rows).sum(0)
