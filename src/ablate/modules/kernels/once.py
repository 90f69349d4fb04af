"""Gradients that are written by hand and have no derivative of their own."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor

Backward = Callable[..., tuple[Tensor | None, ...]]


def once(backward: Backward) -> Backward:
    """Decorate the `backward` of a `torch.autograd.Function` such that a derivative of its gradients raises.

    It is called without a graph, with the context, the saved tensors (which checkpointing hands out a single time) and
    the gradients. `once_differentiable` is not enough: what it returns has no path to the saved tensors, so
    `torch.autograd.grad` passes by its error and leaves their part out.
    """

    @wraps(backward)
    def guarded(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        saved = ctx.saved_tensors
        with torch.no_grad():
            made = backward(ctx, saved, *gradients)
        if not torch.is_grad_enabled():  # nobody makes a graph of this backward pass
            return made
        present = [t for t in made if t is not None]
        causes = [t for t in (*gradients, *saved) if t is not None]
        handed_on = iter(_Once.apply(len(present), *present, *causes))
        return tuple(None if t is None else next(handed_on) for t in made)

    return guarded


class _Once(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, count: int, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(t.clone() for t in tensors[:count])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> None:
        raise RuntimeError("the fused form has no second derivative: take the module with fused=False")
