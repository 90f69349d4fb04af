"""Triton kernels of window attention: forward, gradient of the queries, gradient of the keys and values.

Every program takes a block of positions of one image and head, walks the window's places and keeps one vector of d
channels per position in registers. Needs Triton to be imported; `neighbourhood_triton` launches them.

What decides their speed:

- Loads. A query reads kernel^2 x d keys and as many values, two multiply-adds for two loads: the limit is the L1
  cache (32 lanes a cycle and multiprocessor), not the arithmetic (128 lanes) and not main memory, which sees each key
  about once: the programs of a block's neighbours read the same rows, out of L1 and L2.
- Coalescing. Where pixels are contiguous (NCHW), 32 neighbouring pixels of one channel are one access. Where channels
  are (channels_last), each thread reads some channels of its pixel at once, whatever the shift. Triton sees which from
  the stride that is 1, and lays the block out so; nothing is copied.
- Blocks are runs of the flattened map: on 20 x 20 and 40 x 40 pixels, tiles of two dimensions waste lanes at the
  borders. What the blocks of a multiprocessor read, some rows of keys and values, stays in its L1 cache.
- Instructions. One step for 16 channels is 32 loads, 32 address computations, 77 of arithmetic: at four
  instructions a cycle hardly more than the loads' own 32 cycles. Hence pointers per channel plus 32-bit offsets per
  pixel, positions clamped rather than masked (lanes beyond the end repeat the last pixel and store nothing), and
  masks on channels only where d is no power of two.
- Registers. Compiled for compute capability 9.0, float32, NCHW: 128, 168 and 200 a thread in the three kernels, none
  spilled, for d = 16 to 128; see `neighbourhood_triton._blocks`. At least ten warps a multiprocessor, each with 32
  loads under way.

ESTIMATE, NOT MEASURED: float32, maps (4, 64, 80, 80), 4 heads, kernel 7: 16 x 6400 x 49 x 2 x 16 = 161 million
lane loads, 22 us on 132 multiprocessors at 1.7 GHz; reading q, k, v and writing the output once, 26 MB, takes 8 us at
3.35 TB/s. So about three times the time of a copy forward, and twice as long again backward (two kernels of 2 x 49 x d
loads, plus recomputation). 6 multiply-adds per byte moved: tensor cores could do this as dense tiles (64 queries x 196
keys, three quarters of it masked), but only in half precision or TF32, which does not keep float32's 1e-5.
"""
# mypy: disable-error-code="import-untyped,untyped-decorator,no-untyped-def,misc"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _read(pointers, real, WHOLE: tl.constexpr):
    """What stands there, in float32; 0 for the channels that only fill the block up to a power of two."""
    if WHOLE:
        return tl.load(pointers).to(tl.float32)
    return tl.load(pointers, mask=real, other=0.0).to(tl.float32)


@triton.jit
def _positions(height, width, BLOCK: tl.constexpr):
    """The block's positions of a map, which of them there are, their rows and columns; clamped where there are none."""
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = position < height * width
    position = tl.minimum(position, height * width - 1)
    return position, inside, position // width, position % width


@triton.jit
def _plane(heads):
    """The program's plane, its image and its head; those two are multiplied by strides and need 64 bits."""
    plane = tl.program_id(1)
    return plane, (plane // heads).to(tl.int64), (plane % heads).to(tl.int64)


@triton.jit
def forward(
    q, k, v, out, lse,
    q_b, q_m, q_d, q_y, q_x,
    k_b, k_m, k_d, k_y, k_x,
    v_b, v_m, v_d, v_y, v_x,
    out_b, out_m, out_d, out_y, out_x,
    heads, height, width,
    KERNEL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Softmax over the window as it is walked: a running maximum, sum and weighted sum, all in float32."""
    position, inside, y, x = _positions(height, width, BLOCK)
    plane, image, head = _plane(heads)
    channel = tl.arange(0, BLOCK_D)[:, None]
    real = channel < D

    q += image * q_b + head * q_m + channel * q_d
    k += image * k_b + head * k_m + channel * k_d
    v += image * v_b + head * v_m + channel * v_d
    query = _read(q + (y * q_y + x * q_x)[None, :], real, D == BLOCK_D)
    at_k = (y * k_y + x * k_x)[None, :] * STRIDE
    at_v = (y * v_y + x * v_x)[None, :] * STRIDE
    top = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    summed = tl.zeros([BLOCK_D, BLOCK], tl.float32)
    for row in range(KERNEL):
        for column in range(KERNEL):
            key = _read(k + (at_k + (row * k_y + column * k_x) * DILATION), real, D == BLOCK_D)
            value = _read(v + (at_v + (row * v_y + column * v_x) * DILATION), real, D == BLOCK_D)
            logit = tl.sum(query * key, axis=0)
            higher = tl.maximum(top, logit)
            fade, weight = tl.exp(top - higher), tl.exp(logit - higher)
            total = total * fade + weight
            summed = summed * fade[None, :] + weight[None, :] * value
            top = higher
    out += image * out_b + head * out_m + channel * out_d
    at_out = (y * out_y + x * out_x)[None, :]
    tl.store(out + at_out, (summed / total[None, :]).to(out.dtype.element_ty), mask=real & inside[None, :])
    tl.store(lse + plane.to(tl.int64) * (height * width) + position, top + tl.log(total), mask=inside)


@triton.jit
def backward_queries(
    q, k, v, out, lse, grad, delta, grad_q,
    q_b, q_m, q_d, q_y, q_x,
    k_b, k_m, k_d, k_y, k_x,
    v_b, v_m, v_d, v_y, v_x,
    out_b, out_m, out_d, out_y, out_x,
    grad_b, grad_m, grad_d, grad_y, grad_x,
    grad_q_b, grad_q_m, grad_q_d, grad_q_y, grad_q_x,
    heads, height, width,
    KERNEL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, NEEDED: tl.constexpr,
):  # fmt: skip
    """Store delta = grad . out of each query, and, if it is needed, the gradient of q."""
    position, inside, y, x = _positions(height, width, BLOCK)
    plane, image, head = _plane(heads)
    channel = tl.arange(0, BLOCK_D)[:, None]
    real = channel < D

    out += image * out_b + head * out_m + channel * out_d
    grad += image * grad_b + head * grad_m + channel * grad_d
    came = _read(grad + (y * grad_y + x * grad_x)[None, :], real, D == BLOCK_D)
    made = _read(out + (y * out_y + x * out_x)[None, :], real, D == BLOCK_D)
    shared = tl.sum(came * made, axis=0)
    lse += plane.to(tl.int64) * (height * width)
    delta += plane.to(tl.int64) * (height * width)
    tl.store(delta + position, shared, mask=inside)
    if NEEDED:
        q += image * q_b + head * q_m + channel * q_d
        k += image * k_b + head * k_m + channel * k_d
        v += image * v_b + head * v_m + channel * v_d
        query = _read(q + (y * q_y + x * q_x)[None, :], real, D == BLOCK_D)
        at_k = (y * k_y + x * k_x)[None, :] * STRIDE
        at_v = (y * v_y + x * v_x)[None, :] * STRIDE
        level = tl.load(lse + position)
        summed = tl.zeros([BLOCK_D, BLOCK], tl.float32)
        for row in range(KERNEL):
            for column in range(KERNEL):
                key = _read(k + (at_k + (row * k_y + column * k_x) * DILATION), real, D == BLOCK_D)
                value = _read(v + (at_v + (row * v_y + column * v_x) * DILATION), real, D == BLOCK_D)
                weight = tl.exp(tl.sum(query * key, axis=0) - level)
                slope = weight * (tl.sum(came * value, axis=0) - shared)
                summed += slope[None, :] * key
        grad_q += image * grad_q_b + head * grad_q_m + channel * grad_q_d
        at_q = (y * grad_q_y + x * grad_q_x)[None, :]
        tl.store(grad_q + at_q, summed.to(grad_q.dtype.element_ty), mask=real & inside[None, :])


@triton.jit
def backward_keys(
    q, k, v, lse, grad, delta, grad_k, grad_v,
    q_b, q_m, q_d, q_y, q_x,
    k_b, k_m, k_d, k_y, k_x,
    v_b, v_m, v_d, v_y, v_x,
    grad_b, grad_m, grad_d, grad_y, grad_x,
    grad_k_b, grad_k_m, grad_k_d, grad_k_y, grad_k_x,
    grad_v_b, grad_v_m, grad_v_d, grad_v_y, grad_v_x,
    heads, height, width, queries_height, queries_width,
    KERNEL: tl.constexpr, DILATION: tl.constexpr, STRIDE: tl.constexpr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK: tl.constexpr, NEEDED_K: tl.constexpr, NEEDED_V: tl.constexpr,
):  # fmt: skip
    """Collect, for every padded position, from the queries whose window holds it: no atomics, one fixed order."""
    _, inside, y, x = _positions(height, width, BLOCK)
    plane, image, head = _plane(heads)
    channel = tl.arange(0, BLOCK_D)[:, None]
    real = channel < D

    q += image * q_b + head * q_m + channel * q_d
    k += image * k_b + head * k_m + channel * k_d
    grad += image * grad_b + head * grad_m + channel * grad_d
    lse += plane.to(tl.int64) * (queries_height * queries_width)
    delta += plane.to(tl.int64) * (queries_height * queries_width)
    key = _read(k + (y * k_y + x * k_x)[None, :], real, D == BLOCK_D)
    if NEEDED_K:
        v += image * v_b + head * v_m + channel * v_d
        value = _read(v + (y * v_y + x * v_x)[None, :], real, D == BLOCK_D)
        summed_k = tl.zeros([BLOCK_D, BLOCK], tl.float32)
    if NEEDED_V:
        summed_v = tl.zeros([BLOCK_D, BLOCK], tl.float32)
    for row in range(KERNEL):
        up = y - row * DILATION  # the row of the query that sees this one at `row` of its window, times the stride
        i = tl.minimum(tl.maximum(up, 0) // STRIDE, queries_height - 1)
        for column in range(KERNEL):
            left = x - column * DILATION
            j = tl.minimum(tl.maximum(left, 0) // STRIDE, queries_width - 1)
            seen = (i * STRIDE == up) & (j * STRIDE == left)  # otherwise there is none: its place was moved
            query = _read(q + (i * q_y + j * q_x)[None, :], real, D == BLOCK_D)
            came = _read(grad + (i * grad_y + j * grad_x)[None, :], real, D == BLOCK_D)
            level = tl.load(lse + i * queries_width + j)
            weight = tl.where(seen, tl.exp(tl.sum(query * key, axis=0) - level), 0.0)
            if NEEDED_V:
                summed_v += weight[None, :] * came
            if NEEDED_K:
                shared = tl.load(delta + i * queries_width + j)
                slope = weight * (tl.sum(came * value, axis=0) - shared)
                summed_k += slope[None, :] * query
    kept = real & inside[None, :]
    if NEEDED_K:
        grad_k += image * grad_k_b + head * grad_k_m + channel * grad_k_d
        at_k = (y * grad_k_y + x * grad_k_x)[None, :]
        tl.store(grad_k + at_k, summed_k.to(grad_k.dtype.element_ty), mask=kept)
    if NEEDED_V:
        grad_v += image * grad_v_b + head * grad_v_m + channel * grad_v_d
        at_v = (y * grad_v_y + x * grad_v_x)[None, :]
        tl.store(grad_v + at_v, summed_v.to(grad_v.dtype.element_ty), mask=kept)
