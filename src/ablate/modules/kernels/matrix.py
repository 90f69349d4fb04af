"""Matrix products without gradients, by the faster of the libraries that torch has on a CPU.

In float32 oneDNN multiplies matrices at twice the speed of the library behind `F.linear` where that one does not use
all of the processor (MKL on AMD: 80 against 160 GFLOP/s). Elsewhere, and without oneDNN, `F.linear` is taken.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

ROWS = 1024  # rows at once in `outer`, where oneDNN is at its best
SMALL = 2**13  # numbers in the result of `outer`; up to here oneDNN's copies cost more than it gains


def product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias, (..., C) and (D, C) to (..., D)."""
    if not onednn(x, weight):
        return F.linear(x, weight, bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def outer(x: Tensor, y: Tensor) -> Tensor:
    """Return x.T @ y, (n, C) and (n, D) to (C, D): the gradient of a weight."""
    if x.shape[1] * y.shape[1] <= SMALL or not onednn(x, y):
        return x.t() @ y
    if x.shape[1] > y.shape[1]:  # oneDNN copies the first one
        return outer(y, x).t()
    total = x.new_zeros(x.shape[1], y.shape[1])
    for first in range(0, len(x), ROWS):
        part, other = x[first : first + ROWS], y[first : first + ROWS]
        total += torch.ops.mkldnn._linear_pointwise(part.t(), other.t(), None, "none", [], "")
    return total


def onednn(x: Tensor, weight: Tensor) -> bool:
    """Tell whether oneDNN multiplies these."""
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and torch._C._has_mkldnn
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
