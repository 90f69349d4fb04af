"""The least time that a pass can take on this machine: its arithmetic or its bytes, whichever takes longer.

Both rates are measured: a large product of matrices, and a copy that no cache holds. The arithmetic is counted
operation by operation (`ablate.measuring.arithmetic`) on the composed form: convolutions, matrix products and inner
products, without softmax, norms and activations. A backward pass has the arithmetic of two forward passes, one for the
gradient of each factor of a product. The bytes are those of input, output and parameters, once each; with a backward
pass those of their gradients too. Real passes need intermediate results besides, so no form reaches its floor.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from module_forms import autocast, build
from torch import Tensor

from ablate.modules.kernels.matrix import product

REPEATS = 7


def matrix_rate(device: torch.device, amp: bool = False, size: int | None = None) -> float:
    """Return the floating-point operations in a second of the fastest of several products of square matrices.

    On a CPU torch has two libraries for them, and which one is faster depends on the processor.
    """
    size = size or (8192 if device.type == "cuda" else 2048)
    a, b = torch.randn(2, size, size, device=device).unbind(0)

    def multiply() -> Tensor:
        with autocast(device, amp):
            return torch.mm(a, b)

    if amp:
        with autocast(device, amp):
            a, b = a.to(multiply().dtype), b.to(multiply().dtype)
    return 2 * size**3 / min(_fastest(multiply, device), _fastest(lambda: product(a, b), device))


def copy_rate(device: torch.device, megabytes: int = 256) -> float:
    """Return the bytes read and written in a second by the fastest of several copies of a large tensor."""
    source = torch.ones(megabytes * 250_000, device=device)
    copy = torch.empty_like(source)
    return 2 * source.nbytes / _fastest(lambda: copy.copy_(source), device)


def floor(
    module: str, form: str, shape: list[int], kind: str, *, flops: float, bytes: float, amp: bool = False
) -> dict[str, Any]:
    """Return the floor of a pass.

    Args:
        module: One of the four.
        form: ``composed`` for the work that the authors' code does, ``default`` for that of a trial.
        shape: (B, C, H, W) of the map.
        kind: The pass.
        flops: Operations a second.
        bytes: Bytes a second.
        amp: Whether maps and factors take two bytes a value.

    Returns:
        ``gflop``, ``megabytes``, ``ms``, and ``by``: arithmetic or bytes.
    """
    operations, values, parameters = _needs(module, form, shape)
    both = kind != "forward"
    work = operations * (3 if both else 1)
    moved = (values * (2 if amp else 4) + parameters * 4) * (2 if both else 1)
    least = {"arithmetic": work / flops, "bytes": moved / bytes}
    by = max(least, key=lambda name: least[name])
    return {"gflop": work / 1e9, "megabytes": moved / 1e6, "ms": 1e3 * least[by], "by": by}


def _needs(module: str, form: str, shape: list[int]) -> tuple[int, int, int]:
    """Return operations of a forward pass, values of input and output, and parameters."""
    from ablate.measuring.arithmetic import arithmetic
    from ablate.modules.kernels.switch import composed

    batch, channels, height, width = shape
    built = build(module, form, channels, height)
    with composed():
        counted = arithmetic(built, channels, height, width)
    operations = batch * (counted.dispatched + counted.products)
    return operations, 2 * batch * channels * height * width, sum(p.numel() for p in built.parameters())


def _fastest(work: Callable[[], object], device: torch.device) -> float:
    found = []
    for _ in range(REPEATS + 1):  # the first one warms up; the fastest counts
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.perf_counter() - started)
    return min(found)
