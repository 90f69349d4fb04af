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
  borders. A run of 128 of 80 pixels with d = 16 touches nine rows of keys and values, 95 KB in float32, which L1 holds.
- Registers. Channels x pixels of a block / threads is what each operand takes of a thread. The block sizes in
  `neighbourhood_triton` keep this at 16 to 64, and the sum over channels in one thread or in a few lanes.

ESTIMATE, NOT MEASURED: float32, maps (4, 64, 80, 80), 4 heads, kernel 7: 16 x 6400 x 49 x 2 x 16 = 161 million
lane loads, 22 us on 132 multiprocessors at 1.7 GHz; reading q, k, v and writing the output once, 26 MB, takes 8 us at
3.35 TB/s. So about three times the time of a copy forward, and 3 x as long again backward (two kernels of 2 x 49 x d
loads, plus recomputation). 6 multiply-adds per byte moved: tensor cores could do this as dense tiles (64 queries x 196
keys, three quarters of it masked), but only in half precision or TF32, which does not keep float32's 1e-5.
"""
# mypy: disable-error-code="import-untyped,untyped-decorator,no-untyped-def,misc"

from __future__ import annotations

import triton
import triton.language as tl


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
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = tl.program_id(1)
    image, head = (plane // heads).to(tl.int64), (plane % heads).to(tl.int64)
    y, x = position // width, position % width
    inside = position < height * width
    channel = tl.arange(0, BLOCK_D)[:, None]
    kept = (channel < D) & inside[None, :]

    q += image * q_b + head * q_m + (channel * q_d + (y * q_y + x * q_x)[None, :])
    k += image * k_b + head * k_m + (channel * k_d + (y * STRIDE * k_y + x * STRIDE * k_x)[None, :])
    v += image * v_b + head * v_m + (channel * v_d + (y * STRIDE * v_y + x * STRIDE * v_x)[None, :])
    query = tl.load(q, mask=kept, other=0.0).to(tl.float32)
    top = tl.full([BLOCK], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK], tl.float32)
    summed = tl.zeros([BLOCK_D, BLOCK], tl.float32)
    for row in range(KERNEL):
        for column in range(KERNEL):
            key = tl.load(k + (row * k_y + column * k_x) * DILATION, mask=kept, other=0.0).to(tl.float32)
            value = tl.load(v + (row * v_y + column * v_x) * DILATION, mask=kept, other=0.0).to(tl.float32)
            logit = tl.sum(query * key, axis=0)
            higher = tl.maximum(top, logit)
            fade, weight = tl.exp(top - higher), tl.exp(logit - higher)
            total = total * fade + weight
            summed = summed * fade[None, :] + weight[None, :] * value
            top = higher
    out += image * out_b + head * out_m + (channel * out_d + (y * out_y + x * out_x)[None, :])
    tl.store(out, (summed / total[None, :]).to(out.dtype.element_ty), mask=kept)
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
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = tl.program_id(1)
    image, head = (plane // heads).to(tl.int64), (plane % heads).to(tl.int64)
    y, x = position // width, position % width
    inside = position < height * width
    channel = tl.arange(0, BLOCK_D)[:, None]
    kept = (channel < D) & inside[None, :]

    out += image * out_b + head * out_m + (channel * out_d + (y * out_y + x * out_x)[None, :])
    grad += image * grad_b + head * grad_m + (channel * grad_d + (y * grad_y + x * grad_x)[None, :])
    came = tl.load(grad, mask=kept, other=0.0).to(tl.float32)
    shared = tl.sum(came * tl.load(out, mask=kept, other=0.0).to(tl.float32), axis=0)
    scalar = plane.to(tl.int64) * (height * width) + position
    tl.store(delta + scalar, shared, mask=inside)
    if NEEDED:
        q += image * q_b + head * q_m + (channel * q_d + (y * q_y + x * q_x)[None, :])
        k += image * k_b + head * k_m + (channel * k_d + (y * STRIDE * k_y + x * STRIDE * k_x)[None, :])
        v += image * v_b + head * v_m + (channel * v_d + (y * STRIDE * v_y + x * STRIDE * v_x)[None, :])
        query = tl.load(q, mask=kept, other=0.0).to(tl.float32)
        level = tl.load(lse + scalar, mask=inside, other=0.0)
        summed = tl.zeros([BLOCK_D, BLOCK], tl.float32)
        for row in range(KERNEL):
            for column in range(KERNEL):
                key = tl.load(k + (row * k_y + column * k_x) * DILATION, mask=kept, other=0.0).to(tl.float32)
                value = tl.load(v + (row * v_y + column * v_x) * DILATION, mask=kept, other=0.0).to(tl.float32)
                weight = tl.exp(tl.sum(query * key, axis=0) - level)
                slope = weight * (tl.sum(came * value, axis=0) - shared)
                summed += slope[None, :] * key
        grad_q += image * grad_q_b + head * grad_q_m + (channel * grad_q_d + (y * grad_q_y + x * grad_q_x)[None, :])
        tl.store(grad_q, summed.to(grad_q.dtype.element_ty), mask=kept)


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
    position = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    plane = tl.program_id(1)
    image, head = (plane // heads).to(tl.int64), (plane % heads).to(tl.int64)
    y, x = position // width, position % width
    inside = position < height * width
    channel = tl.arange(0, BLOCK_D)[:, None]
    real = channel < D
    kept = real & inside[None, :]

    q += image * q_b + head * q_m + channel * q_d
    grad += image * grad_b + head * grad_m + channel * grad_d
    lse += plane.to(tl.int64) * (queries_height * queries_width)
    delta += plane.to(tl.int64) * (queries_height * queries_width)
    k += image * k_b + head * k_m + (channel * k_d + (y * k_y + x * k_x)[None, :])
    key = tl.load(k, mask=kept, other=0.0).to(tl.float32)
    if NEEDED_K:
        v += image * v_b + head * v_m + (channel * v_d + (y * v_y + x * v_x)[None, :])
        value = tl.load(v, mask=kept, other=0.0).to(tl.float32)
        summed_k = tl.zeros([BLOCK_D, BLOCK], tl.float32)
    if NEEDED_V:
        summed_v = tl.zeros([BLOCK_D, BLOCK], tl.float32)
    for row in range(KERNEL):
        for column in range(KERNEL):
            up, left = y - row * DILATION, x - column * DILATION  # the query's place, times the stride
            i, j = up // STRIDE, left // STRIDE
            seen = inside & (up >= 0) & (left >= 0) & (i < queries_height) & (j < queries_width)
            seen = seen & (up % STRIDE == 0) & (left % STRIDE == 0)
            both = real & seen[None, :]
            query = tl.load(q + (i * q_y + j * q_x)[None, :], mask=both, other=0.0).to(tl.float32)
            came = tl.load(grad + (i * grad_y + j * grad_x)[None, :], mask=both, other=0.0).to(tl.float32)
            # An infinite level makes the weight of what is no query exactly 0.
            level = tl.load(lse + i * queries_width + j, mask=seen, other=float("inf"))
            weight = tl.exp(tl.sum(query * key, axis=0) - level)
            if NEEDED_V:
                summed_v += weight[None, :] * came
            if NEEDED_K:
                shared = tl.load(delta + i * queries_width + j, mask=seen, other=0.0)
                slope = weight * (tl.sum(came * value, axis=0) - shared)
                summed_k += slope[None, :] * query
    if NEEDED_K:
        grad_k += image * grad_k_b + head * grad_k_m + (channel * grad_k_d + (y * grad_k_y + x * grad_k_x)[None, :])
        tl.store(grad_k, summed_k.to(grad_k.dtype.element_ty), mask=kept)
    if NEEDED_V:
        grad_v += image * grad_v_b + head * grad_v_m + (channel * grad_v_d + (y * grad_v_y + x * grad_v_x)[None, :])
        tl.store(grad_v, summed_v.to(grad_v.dtype.element_ty), mask=kept)
