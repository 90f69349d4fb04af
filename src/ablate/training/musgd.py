"""MuSGD in the arithmetic that the device does fast.

Ultralytics' MuSGD orthogonalises in bfloat16. A GPU or a processor with matrix instructions does that fast; on any
other processor a step takes up to tens of times as long as in float32, longer than the whole rest of a batch.

What bfloat16 rounds away is not nothing: the iteration lifts small singular values hundreds of times, and the rounding
with them. So that a training does not depend on what its processor is fast at, bfloat16 is emulated where it is slow:
float32 products of values that are rounded as Ultralytics' are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor
from ultralytics.optim import muon

from ablate.training.newton_schulz import Geometry, Plan

BF16, EMULATED, FP32 = "bf16", "emulated", "fp32"
WORTH_THREADS = 4_000_000  # parameters; YOLO26n has 2.5 million, whose step takes 1.4 times as long with two threads
ONEDNN_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")


def fast_arithmetic(device: torch.device) -> str:
    """Return in which arithmetic MuSGD's step, with values rounded to bfloat16, is fastest: "bf16" or "emulated".

    By what the device can do, not by a measurement: all trials of a sweep on one kind of machine must take the same.
    On processors, bfloat16 as Ultralytics has it (in padded groups) is faster than its emulation here only with AMX:
    the bfloat16 instructions of AVX-512 give twice the products a second. Where oneDNN must not
    use AMX, it is not there.
    """
    if device.type != "cpu":
        return BF16
    limit = next((os.environ[name].upper() for name in ONEDNN_LIMITS if os.environ.get(name)), "DEFAULT")
    allowed = limit in ("DEFAULT", "ALL") or "AMX" in limit
    with_onednn = bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]
    return BF16 if _has_amx() and allowed and with_onednn else EMULATED


def _has_amx() -> bool:
    """Tell whether the processor has matrix instructions for bfloat16."""
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # from torch 2.10 on
    if capabilities is None:
        return bool(torch.cpu._is_amx_tile_supported())
    return bool(capabilities().get("amx_bf16", False))


class _Rates(NamedTuple):
    """The numbers of a parameter group that a step reads."""

    lr: float
    momentum: float
    weight_decay: float
    nesterov: bool


class MuSGD(muon.MuSGD):
    """Ultralytics' MuSGD with a choice of arithmetic; the update rule, the groups and the state are the same.

    Args:
        params: Parameters or groups, as for Ultralytics'.
        arithmetic: Of the orthogonalisation. "bf16" is Ultralytics' own step; "emulated" has its values up to the
            order of sums, by float32 products; "fp32" rounds nothing and makes fewer products (see `newton_schulz`).
        options: What else Ultralytics' takes.

    Raises:
        ValueError: There is no such arithmetic.
    """

    def __init__(self, params: Iterable[Any], *, arithmetic: str, **options: Any) -> None:
        if arithmetic not in (BF16, EMULATED, FP32):
            raise ValueError(f"arithmetic={arithmetic}: valid are {BF16}, {EMULATED} and {FP32}")
        super().__init__(params, **options)
        self.arithmetic = arithmetic
        self._plans: dict[tuple[Any, ...], Plan] = {}

    @classmethod
    def like(cls, stock: muon.MuSGD, arithmetic: str) -> MuSGD:
        """Return an optimizer with the groups of one of Ultralytics' that has not made a step yet."""
        return cls([dict(group) for group in stock.param_groups], arithmetic=arithmetic, muon=stock.muon, sgd=stock.sgd)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make a step; parameters without a gradient stay.

        Returns:
            What the closure returns, if there is one.
        """
        if self.arithmetic == BF16:
            return super().step(closure)
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with _few_threads(sum(p.numel() for group in self.param_groups for p in group["params"])):
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                rates = _Rates(group["lr"], group["momentum"], group["weight_decay"], group["nesterov"])
                if params and group["use_muon"]:
                    self._orthogonalised(params, rates)
                elif params:
                    buffers = [self._buffer(p, "momentum_buffer") for p in params]
                    _sgd(params, [p.grad.clone() for p in params], buffers, rates, rates.lr)
        return loss

    def _buffer(self, parameter: Tensor, name: str) -> Tensor:
        state = self.state[parameter]
        if name not in state:
            state[name] = torch.zeros_like(parameter)
        buffer: Tensor = state[name]
        return buffer

    def _orthogonalised(self, params: list[Tensor], rates: _Rates) -> None:
        """Step a group's parameters by the orthogonalised momentum, and by SGD with a momentum of its own."""
        lr, beta = rates.lr, rates.momentum
        for chunk in self._plan(params).chunks:
            parameters = [params[index] for index in chunk.indices]
            grads: list[Any] = [p.grad for p in parameters]
            momenta = [self._buffer(p, "momentum_buffer") for p in parameters]
            torch._foreach_mul_(momenta, beta)
            torch._foreach_add_(momenta, grads, alpha=1 - beta)
            torch._foreach_copy_(chunk.inputs, momenta)
            if rates.nesterov:
                torch._foreach_mul_(chunk.inputs, beta)
                torch._foreach_add_(chunk.inputs, grads, alpha=1 - beta)
            chunk.orthogonalise()
            torch._foreach_add_(parameters, chunk.outputs, alpha=-(lr * self.muon))
            spare = chunk.inputs if chunk.single else [torch.empty_like(p) for p in parameters]
            torch._foreach_copy_(spare, grads)
            _sgd(parameters, spare, [self._buffer(p, "momentum_buffer_SGD") for p in parameters], rates, lr * self.sgd)

    def _plan(self, params: Sequence[Tensor]) -> Plan:
        """Return the plan for these parameters: made once, and again where others have a gradient."""
        geometries = [Geometry.of(p) for p in params]
        key = (params[0].device, *geometries)
        if key not in self._plans:
            if len(self._plans) > 2 * len(self.param_groups):
                self._plans.clear()
            self._plans[key] = Plan(geometries, params[0].device, rounded=self.arithmetic == EMULATED)
        return self._plans[key]


@contextmanager
def _few_threads(values: int) -> Iterator[None]:
    """Work with one thread while the block runs, where a network is so small that more of them only wait."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if values < WORTH_THREADS else threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _sgd(params: list[Tensor], grads: list[Tensor], buffers: list[Tensor], rates: _Rates, lr: float) -> None:
    """Step by SGD with momentum and weight decay, as Ultralytics' MuSGD does; `grads` are copies to work on."""
    if rates.weight_decay != 0:
        torch._foreach_add_(grads, params, alpha=rates.weight_decay)
    torch._foreach_mul_(buffers, rates.momentum)
    torch._foreach_add_(buffers, grads)
    if rates.nesterov:
        torch._foreach_add_(grads, buffers, alpha=rates.momentum)
    torch._foreach_add_(params, grads if rates.nesterov else buffers, alpha=-lr)
