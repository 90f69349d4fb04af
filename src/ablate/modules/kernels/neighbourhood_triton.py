"""Window attention on GPUs, in Triton: each query attends to the kernel x kernel positions of its window.

Nothing the size of all windows is ever stored: for the backward pass q, k, v, the output and one number per query are.
Triton is imported with the first call, not with this file. Its interpreter (TRITON_INTERPRET=1 in the
environment, before the first call) runs the same kernels on the CPU.

The passes are operators of torch (`torch.library.custom_op`) rather than an `autograd.Function` or `triton_op`:
`torch.compile` and autocast take them as they are, whatever the version of Triton, and compiling can be tested without
a GPU. A compiler would find nothing to fuse them with.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
HEAD_DIM = 256  # the most channels of a head that a block of few pixels keeps in registers
PLANES = 65535  # images x heads; the limit of a CUDA grid's second axis
INDICES = 2**31  # offsets within an image's head are 32-bit numbers

_FOUND = importlib.util.find_spec("triton") is not None  # looks for it, without importing it


def available(q: Tensor, k: Tensor, v: Tensor, kernel: int, dilation: int = 1, stride: int = 1) -> bool:
    """Tell whether `neighbourhood_attention` takes these; imports Triton only where all else allows it."""
    tensors = (q, k, v)
    if not _FOUND or any(t.dim() != 5 or t.dtype not in DTYPES or t.device != q.device for t in tensors):
        return False
    if q.device.type == "cuda":
        if torch.version.hip is not None or torch.cuda.get_device_capability(q.device) < (7, 0):
            return False
    elif q.device.type != "cpu" or os.environ.get("TRITON_INTERPRET") != "1":
        return False
    if min(kernel, dilation, stride) < 1 or not 1 <= q.shape[2] <= HEAD_DIM or q.numel() == 0:
        return False
    if q.shape[0] * q.shape[1] > PLANES or any(_reach(t) >= INDICES for t in tensors):
        return False
    return _importable()


def neighbourhood_attention(q: Tensor, k: Tensor, v: Tensor, kernel: int, dilation: int = 1, stride: int = 1) -> Tensor:
    """Attend from each query to its window; (B, m, d, H', W'), in the dtype of v.

    The window of the query (i, j) are the padded positions (i stride + a dilation, j stride + b dilation) for
    0 <= a, b < kernel. Logits q . k, softmax and sums are in float32. Gradients are deterministic; there is no double
    backward, which raises.

    Args:
        q: (B, m, d, H', W'), scaled already; H' = ceil(H / stride).
        k: (B, m, d, H + p, W + p) with p = dilation (kernel - 1), padded already. Strides and dtypes are free.
        v: as k.
        kernel: side of the window.
        dilation: distance between neighbours in the window.
        stride: step from one query's window to the next one's.

    Raises:
        ValueError: the shapes do not belong together.
    """
    _check(q, k, v, kernel, dilation, stride)
    out: Tensor = _attend(q, k, v, kernel, dilation, stride)[0]
    return out


@torch.library.custom_op(
    "ablate::neighbourhood_attention",
    mutates_args=(),
    schema="(Tensor q, Tensor k, Tensor v, int kernel, int dilation, int stride) -> (Tensor, Tensor)",
)
def _attend(q: Tensor, k: Tensor, v: Tensor, kernel: int, dilation: int, stride: int) -> tuple[Tensor, Tensor]:
    """Output and, of each query, the logarithm of its softmax's denominator."""
    from . import neighbourhood_kernels

    out, lse = _results(q, k, v, kernel, dilation, stride)
    height, width = q.shape[3:]
    grid, sizes = _blocks(q, height * width)
    with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]
        neighbourhood_kernels.forward[grid](
            q, k, v, out, lse, *q.stride(), *k.stride(), *v.stride(), *out.stride(), q.shape[1], height, width,
            KERNEL=kernel, DILATION=dilation, STRIDE=stride, **sizes,
        )  # fmt: skip
    return out, lse


@torch.library.custom_op(
    "ablate::neighbourhood_attention_backward",
    mutates_args=(),
    schema=(
        "(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, int kernel, int dilation, int stride, "
        "bool[] needed) -> (Tensor, Tensor, Tensor)"
    ),
)
def _differentiate(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    kernel: int,
    dilation: int,
    stride: int,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; those that are not needed are empty."""
    from . import neighbourhood_kernels

    grad_q, grad_k, grad_v = _gradients(grad, q, k, v, out, lse, kernel, dilation, stride, needed)
    window = {"KERNEL": kernel, "DILATION": dilation, "STRIDE": stride}
    height, width = q.shape[3:]
    heads = q.shape[1]
    delta = torch.empty_like(lse)
    with torch.cuda.device_of(q):  # type: ignore[no-untyped-call]
        if needed[0] or needed[1]:
            grid, sizes = _blocks(q, height * width)
            neighbourhood_kernels.backward_queries[grid](
                q, k, v, out, lse, grad, delta, grad_q,
                *q.stride(), *k.stride(), *v.stride(), *out.stride(), *grad.stride(), *grad_q.stride(),
                heads, height, width, NEEDED=needed[0], **window, **sizes,
            )  # fmt: skip
        if needed[1] or needed[2]:
            grid, sizes = _blocks(q, k.shape[3] * k.shape[4])
            neighbourhood_kernels.backward_keys[grid](
                q, k, v, lse, grad, delta, grad_k, grad_v,
                *q.stride(), *k.stride(), *v.stride(), *grad.stride(), *grad_k.stride(), *grad_v.stride(),
                heads, *k.shape[3:], height, width, NEEDED_K=needed[1], NEEDED_V=needed[2], **window, **sizes,
            )  # fmt: skip
    return grad_q, grad_k, grad_v


@_attend.register_fake
def _results(q: Tensor, k: Tensor, v: Tensor, kernel: int, dilation: int, stride: int) -> tuple[Tensor, Tensor]:
    """Room for the output, in the layout of q, and for the logarithms."""
    out = torch.empty_like(q, dtype=v.dtype)
    return out, q.new_empty((*q.shape[:2], *q.shape[3:]), dtype=torch.float32)


@_differentiate.register_fake
def _gradients(
    grad: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    out: Tensor,
    lse: Tensor,
    kernel: int,
    dilation: int,
    stride: int,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Room for the gradients that are needed."""
    made = [
        torch.empty_like(t) if wanted else t.new_empty((0,) * 5) for t, wanted in zip((q, k, v), needed, strict=True)
    ]
    return made[0], made[1], made[2]


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, ctx.kernel, ctx.dilation, ctx.stride = inputs
    ctx.save_for_backward(q, k, v, *output)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: None) -> tuple[Tensor | None, ...]:
    needed = list(ctx.needs_input_grad[:3])
    if grad is None:
        return (None,) * 6
    made = _differentiate(grad, *ctx.saved_tensors, ctx.kernel, ctx.dilation, ctx.stride, needed)
    return *(t if wanted else None for t, wanted in zip(made, needed, strict=True)), None, None, None


_attend.register_autograd(_backward, setup_context=_keep)


def _blocks(q: Tensor, positions: int) -> tuple[tuple[int, int], dict[str, Any]]:
    """Grid and block sizes for so many positions per image and head.

    A thread holds 16 numbers of each operand, such as all 16 channels of a pixel: with 32, the backward kernels spill
    registers. From 32 channels on, lanes share a pixel, down to 8 pixels (a 32-byte sector of memory in float32)
    per block, and then warps do. A rule rather than a search, which would cost its time at each start and could choose
    differently from run to run.
    """
    d = q.shape[2]
    block_d = 1 << (d - 1).bit_length()
    block = min(128, max(8, 512 // block_d))
    warps = max(1, block * block_d // 512, block // 32)
    grid = (-(-positions // block), q.shape[0] * q.shape[1])
    return grid, {"D": d, "BLOCK_D": block_d, "BLOCK": block, "num_warps": warps, "enable_fp_fusion": True}


def _check(q: Tensor, k: Tensor, v: Tensor, kernel: int, dilation: int, stride: int) -> None:
    """The kernels read wherever the sizes say, so these must be right."""
    if q.dim() != 5 or k.shape != v.shape or k.shape[:3] != q.shape[:3]:
        raise ValueError(f"q, k and v do not belong together: {_shapes(q, k, v)}")
    for queries, padded in zip(q.shape[3:], k.shape[3:], strict=True):
        least = (queries - 1) * stride + 1 + dilation * (kernel - 1)
        if not least <= padded < least + stride:
            window = f"kernel {kernel}, dilation {dilation} and stride {stride}"
            raise ValueError(f"k and v are not padded for {window}: {_shapes(q, k, v)}")


def _shapes(*tensors: Tensor) -> str:
    return ", ".join(str(tuple(t.shape)) for t in tensors)


def _reach(t: Tensor) -> int:
    """The largest offset within an image's head, of the tensor itself or of a dense one of its shape."""
    strided = sum((size - 1) * step for size, step in zip(t.shape[2:], t.stride()[2:], strict=True))
    return max(strided, t.numel() // max(t.shape[0], 1))


def _importable() -> bool:
    try:
        import triton  # type: ignore[import-untyped]  # noqa: F401  a statement, which the compiler can follow
    except ImportError:
        return False
    return True
