"""Gradients that are written by hand and have no derivative of their own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def once(gradients: tuple[Tensor, ...], *causes: Tensor) -> tuple[Tensor, ...]:
    """Return the gradients that a backward pass has made of its causes, such that a derivative of them raises.

    Where no graph is made of the backward pass they are returned as they are. `once_differentiable` is not enough: what
    it returns has no path to the causes, so `torch.autograd.grad` passes by its error and leaves their part out.
    """
    if not torch.is_grad_enabled():
        return gradients
    made: tuple[Tensor, ...] = _Once.apply(len(gradients), *gradients, *causes)
    return made


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.clone() for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError("the fused form has no second derivative: take the module with fused=False")
