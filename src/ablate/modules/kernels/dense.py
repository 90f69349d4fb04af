"""Linear layers and the residual MLP on maps with channels last, for the CPU: little memory, oneDNN's products.

In float32 oneDNN multiplies matrices at twice the speed of the library behind `F.linear` where that one does not use
all of the processor (MKL on AMD: 80 against 160 GFLOP/s). Without oneDNN, `F.linear` is taken.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.once import once

CHUNK = 2**18  # hidden values at once in the MLP: 1 MB, which stays in the cache and never meets a fresh page
ROWS = 1024  # pixels at once in the gradient of a weight, where oneDNN is at its best


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None = None) -> Tensor:
    """`F.linear`, (..., C) to (..., D), with gradients, and a map of the result's shape `added` to it."""
    if not _onednn(x, weight) or torch.is_autocast_enabled("cpu"):
        projected = F.linear(x, weight, bias)
        return projected if added is None else projected + added
    out: Tensor = _Linear.apply(x, weight, bias, added)
    return out


def add_normed_mlp(x: Tensor, norm: nn.LayerNorm, mlp: Any) -> Tensor:
    """Add MLP(LayerNorm(x)) to x, (..., C) to (..., C); keeps x alone for the backward pass.

    `mlp` has linear layers `fc1` and `fc2`, and GELU between them.
    """
    if x.device.type != "cpu" or torch.is_autocast_enabled("cpu"):
        out: Tensor = x + mlp(norm(x))
        return out
    weights = (norm.weight, norm.bias, mlp.fc1.weight, mlp.fc1.bias, mlp.fc2.weight, mlp.fc2.bias)
    out = _AddNormedMlp.apply(x, *weights, norm.eps)
    return out


class _Linear(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None) -> Tensor:
        x = x.contiguous()
        ctx.save_for_backward(x, weight)
        ctx.biased, ctx.added = bias is not None, added is not None
        if added is None:
            return _product(x, weight, bias)
        out = x.new_empty(*x.shape[:-1], len(weight))
        for part, other, into in _chunks(len(weight), x, added.contiguous(), out):
            torch.add(_product(part, weight, bias), other, out=into)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        with torch.no_grad():
            flat = grad.reshape(-1, grad.shape[-1])
            grad_weight = _outer(x.view(-1, x.shape[-1]), flat).t()
            found = (_product(grad, weight.t()), grad_weight, flat.sum(0))
        grad_x, grad_weight, grad_bias = once(found, grad, x, weight)
        return grad_x, grad_weight, grad_bias if ctx.biased else None, grad if ctx.added else None


class _AddNormedMlp(torch.autograd.Function):
    """Everything but the input is computed anew in the backward pass: one product more than six."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, *given: Any) -> Tensor:
        scale, shift, weight1, bias1, weight2, bias2, eps = given
        x = x.contiguous()
        ctx.save_for_backward(x, *given[:-1])
        ctx.eps = eps
        out = torch.empty_like(x)
        for part, into in _chunks(len(weight1), x, out):
            hidden = _product(F.layer_norm(part, scale.shape, scale, shift, eps), weight1, bias1)
            torch.add(part, _product(F.gelu(hidden), weight2, bias2), out=into)
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        given = ctx.saved_tensors  # once: checkpointing hands them out a single time
        with torch.no_grad():
            found = _gradients_of_mlp(grad.contiguous(), ctx.eps, *given)
        return *once(found, grad, *given), None


def _gradients_of_mlp(grad: Tensor, eps: float, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    scale, shift, weight1, bias1, weight2, _ = parameters
    grad_x = torch.empty_like(x)
    sums = [torch.zeros_like(p, dtype=_wide(p)) for p in parameters]
    for part, above, into in _chunks(len(weight1), x, grad, grad_x):
        normed, mean, rstd = torch.native_layer_norm(part, scale.shape, scale, shift, eps)
        hidden = _product(normed, weight1, bias1)
        below = torch.ops.aten.gelu_backward(_product(above, weight2.t()), hidden)
        inner = _product(below, weight1.t())
        further, grad_scale, grad_shift = torch.ops.aten.native_layer_norm_backward(
            inner, part, scale.shape, mean, rstd, scale, shift, [True, True, True]
        )
        torch.add(further, above, out=into)
        active = F.gelu(hidden)
        parts = (
            grad_scale,
            grad_shift,
            _outer(normed, below).t(),
            below.sum(0),
            _outer(above, active),
            above.sum(0),
        )
        for total, more in zip(sums, parts, strict=True):
            total += more
    return grad_x, *(s.to(p.dtype) for s, p in zip(sums, parameters, strict=True))


def _chunks(width: int, *maps: Tensor, budget: int = CHUNK) -> Iterator[tuple[Tensor, ...]]:
    """Pieces of maps (..., C), each (n, C), that belong together; `width` values each pixel fit the budget."""
    rows = max(budget // width, 1)
    flat = [m.view(-1, m.shape[-1]) for m in maps]
    for first in range(0, len(flat[0]), rows):
        yield tuple(m[first : first + rows] for m in flat)


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x @ weight.T + bias, without gradients."""
    if not _onednn(x, weight):
        return F.linear(x, weight, bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return out


def _outer(x: Tensor, y: Tensor) -> Tensor:
    """Return x.T @ y of (n, C) and (n, D), for gradients of weights. oneDNN copies x: let it be the smaller."""
    if not _onednn(x, y):
        return x.t() @ y
    total = x.new_zeros(x.shape[1], y.shape[1])
    for part, other in _chunks(1, x, y, budget=ROWS):
        total += torch.ops.mkldnn._linear_pointwise(part.t(), other.t(), None, "none", [], "")
    return total


def _onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        x.dtype == weight.dtype == torch.float32
        and x.device.type == "cpu"
        and x.numel() > 0
        and torch._C._has_mkldnn
        and bool(torch.backends.mkldnn.enabled)
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _wide(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)
