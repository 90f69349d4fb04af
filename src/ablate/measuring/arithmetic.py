"""Count the arithmetic of a module operation by operation, to see what the dispatcher's formulas leave out.

Torch has formulas for convolutions, matrix products and attention. What a module computes by other means falls into
two kinds. Inner products that are written as a multiplication and a sum (a window loop, a norm) are work of the same
kind as a matrix product, and a module declares them in `uncounted_flops`. All else (activations, softmax, batch and
layer norms, biases, gates, residual sums, means) is left out of a network's FLOPs by custom, in stock networks too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ablate.measuring.flop_counter import FlopCounter
from ablate.modules.kernels.switch import composed

aten = torch.ops.aten

SOFTMAX = 5  # operations an element: maximum, difference, exponential, sum, quotient
NORM = 6  # mean, difference, square, sum, scale and shift of a normalisation layer

_PRODUCTS = (aten.mul, aten.pow, aten.square)
_SUMS = (aten.sum, aten.mean)
_NORMS = (aten.linalg_vector_norm, aten.norm)
_VIEWS = (aten.view, aten._unsafe_view, aten.reshape, aten.permute, aten.transpose, aten.unsqueeze, aten.squeeze,
          aten.expand, aten.clone, aten.contiguous, aten._to_copy, aten.alias, aten.detach)  # fmt: skip
_ZEROS = (aten.zeros, aten.zeros_like, aten.new_zeros, aten.full)
_POINTWISE = (aten.add, aten.sub, aten.rsub, aten.mul, aten.div, aten.neg, aten.abs, aten.pow, aten.square, aten.sqrt,
              aten.rsqrt, aten.reciprocal, aten.exp, aten.log, aten.sigmoid, aten.tanh, aten.relu, aten.silu,
              aten.gelu, aten.hardtanh, aten.leaky_relu, aten.clamp, aten.clamp_min, aten.clamp_max, aten.where,
              aten.maximum, aten.minimum, aten.masked_fill, aten.gt, aten.ge, aten.lt, aten.le, aten.ne, aten.eq,
              aten.addcmul, aten.lerp, aten.rms_norm)  # fmt: skip
_REDUCTIONS = (*_SUMS, aten.amax, aten.amin, aten.max, aten.min, aten.cumsum, aten.col2im, aten.avg_pool2d,
               aten._adaptive_avg_pool2d, aten.max_pool2d_with_indices)  # fmt: skip


@dataclass(frozen=True)
class Arithmetic:
    """Floating-point operations of one forward pass.

    Attributes:
        dispatched: What torch's formulas count: convolutions, matrix products, attention.
        products: Inner products and norms that they do not see, 2 for each multiplication with its addition.
        pointwise: One an element of everything else, 5 of a softmax, 6 of a normalisation layer.
    """

    dispatched: int
    products: int
    pointwise: int


@torch.no_grad()
def arithmetic(module: nn.Module, channels: int, height: int, width: int) -> Arithmetic:
    """Count the operations of a module on one random map (1, channels, height, width), in eval mode.

    A product counts as one of `products` where both factors are at least as large as the map is high and wide, and it
    is summed over a dimension or added up with other products.
    """
    x = torch.randn(1, channels, height, width, generator=torch.Generator().manual_seed(0))
    weights = {id(tensor) for tensor in [*module.parameters(), *module.buffers()]}
    training = module.training
    module.eval()
    try:
        with composed(), _ProductCounter(height * width, weights) as counter:
            module(x)
    finally:
        module.train(training)
    return Arithmetic(counter.flops, counter.products, counter.pointwise)


class _ProductCounter(FlopCounter):  # type: ignore[no-untyped-call]
    """Follows products to the sums that they enter.

    Args:
        pixels: Smaller tensors are no factors of an inner product over a map.
        weights: Ids of the module's own tensors: with these a product is a scale, not an inner product.
    """

    def __init__(self, pixels: int, weights: set[int]) -> None:
        super().__init__(decompose=False)
        self._pixels = pixels
        self._weights = weights
        self._fresh: dict[int, int] = {}  # products that no sum has taken yet: id of the tensor -> operations
        self._sums: set[int] = set()  # of products, or zeros that such a sum starts from
        self._alive: list[Tensor] = []  # as long as they live no other tensor has their id
        self.products = 0
        self.pointwise = 0

    def without_formula(self, operation: Any, inputs: Sequence[Tensor], output: Tensor) -> None:
        """Count an operation that torch has no formula for."""
        self._alive += [output, *inputs]
        if operation in _VIEWS:
            self._pass_on(inputs[0], output)
        elif operation in _ZEROS:
            self._sums.add(id(output))
        elif operation in _NORMS:
            self.products += 2 * inputs[0].numel()
        elif operation in (aten._softmax, aten._log_softmax):
            self.pointwise += SOFTMAX * output.numel()
        elif operation in (aten.native_layer_norm, aten.native_batch_norm, aten.native_group_norm):
            self.pointwise += NORM * output.numel()
        elif operation in _PRODUCTS and self._is_inner(inputs, operation):
            self._fresh[id(output)] = output.numel()
            self.pointwise += output.numel()  # until a sum takes it
        elif operation in _SUMS and id(inputs[0]) in self._fresh:
            self._take(inputs[0], inputs[0].numel())
        elif operation is aten.add and self._adds_up(inputs):
            for operand in inputs:
                self._take(operand, output.numel())
            self._sums.add(id(output))
        elif operation in _REDUCTIONS:
            self.pointwise += max(inputs[0].numel(), output.numel())
        elif operation in _POINTWISE:
            self.pointwise += output.numel()

    def _is_inner(self, inputs: Sequence[Tensor], operation: Any) -> bool:
        factors = inputs if operation is aten.mul else [*inputs, *inputs]  # a square has itself for a factor
        return len(factors) == 2 and all(
            factor.numel() >= self._pixels and id(factor) not in self._weights for factor in factors
        )

    def _adds_up(self, inputs: Sequence[Tensor]) -> bool:
        """Whether at least one is a product, and the other a product too or a sum of products."""
        kinds = [id(operand) in self._fresh or id(operand) in self._sums for operand in inputs]
        return len(inputs) == 2 and all(kinds) and any(id(operand) in self._fresh for operand in inputs)

    def _take(self, product: Tensor, additions: int) -> None:
        """Move a product from the pointwise operations to the inner products, with the additions of its sum."""
        multiplications = self._fresh.pop(id(product), 0)
        if multiplications:
            self.pointwise -= multiplications
            self.products += multiplications + additions

    def _pass_on(self, source: Tensor, view: Tensor) -> None:
        if id(source) in self._fresh:
            self._fresh[id(view)] = self._fresh.pop(id(source))
        if id(source) in self._sums:
            self._sums.add(id(view))
        if id(source) in self._weights:
            self._weights.add(id(view))
