"""Linear layers and the residual MLP on maps with channels last, for the CPU, with little memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.matrix import onednn, outer, product
from ablate.modules.kernels.once import once
from ablate.modules.kernels.precision import wide_dtype

FEW = 4_000_000  # multiplications, under which a function of our own costs more than oneDNN gains
CHUNK = 2**18  # hidden values at once in the MLP: 1 MB, which stays in the cache and never meets a fresh page


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, added: Tensor | None = None) -> Tensor:
    """`F.linear`, (..., C) to (..., D), with gradients, and a map of the result's shape `added` to it."""
    if x.numel() * len(weight) < FEW or not onednn(x, weight) or torch.is_autocast_enabled("cpu"):
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
            return product(x, weight, bias)
        out = x.new_empty(*x.shape[:-1], len(weight))
        for part, other, into in _chunks(len(weight), x, added.contiguous(), out):
            torch.add(product(part, weight, bias), other, out=into)
        return out

    @staticmethod
    @once
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = saved
        flat = grad.reshape(-1, grad.shape[-1])
        grad_weight = outer(flat, x.view(-1, x.shape[-1]))
        return product(grad, weight.t()), grad_weight, flat.sum(0) if ctx.biased else None, grad if ctx.added else None


class _AddNormedMlp(torch.autograd.Function):
    """Everything but the input is computed anew in the backward pass: one product more than six."""

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def forward(ctx: Any, x: Tensor, *parameters: Any) -> Tensor:
        scale, shift, weight1, bias1, weight2, bias2, eps = parameters
        x = x.contiguous()
        ctx.save_for_backward(x, *parameters[:-1])
        ctx.eps = eps
        out = torch.empty_like(x)
        for part, into in _chunks(len(weight1), x, out):
            hidden = product(F.layer_norm(part, scale.shape, scale, shift, eps), weight1, bias1)
            torch.add(part, product(F.gelu(hidden), weight2, bias2), out=into)
        return out

    @staticmethod
    @once
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    def backward(ctx: Any, saved: tuple[Tensor, ...], grad: Tensor) -> tuple[Tensor | None, ...]:
        return *_gradients_of_mlp(grad.contiguous(), ctx.eps, *saved), None


def _gradients_of_mlp(grad: Tensor, eps: float, x: Tensor, *parameters: Tensor) -> tuple[Tensor, ...]:
    scale, shift, weight1, bias1, weight2, _ = parameters
    grad_x = torch.empty_like(x)
    sums = [torch.zeros_like(p, dtype=wide_dtype(p.dtype)) for p in parameters]
    for part, above, into in _chunks(len(weight1), x, grad, grad_x):
        normed, mean, rstd = torch.native_layer_norm(part, scale.shape, scale, shift, eps)
        hidden = product(normed, weight1, bias1)
        below = torch.ops.aten.gelu_backward(product(above, weight2.t()), hidden)
        inner = product(below, weight1.t())
        further, grad_scale, grad_shift = torch.ops.aten.native_layer_norm_backward(
            inner, part, scale.shape, mean, rstd, scale, shift, [True, True, True]
        )
        torch.add(further, above, out=into)
        active = F.gelu(hidden)
        parts = (
            grad_scale,
            grad_shift,
            outer(below, normed),
            below.sum(0),
            outer(above, active),
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
