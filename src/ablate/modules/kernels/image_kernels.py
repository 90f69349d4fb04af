"""Convolution of each image of a batch with a kernel of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ablate.modules.kernels.traced import divide_up, exporting


def convolve_each(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """Convolve image i of (B, C, H, W) with kernel i of (B, C', C, k, k), padded by k // 2; k is odd."""
    batch, outputs, _, size, _ = kernel.shape
    if exporting():  # a graph has a fixed number of groups
        return _convolve_by_taps(x, kernel, stride)
    maps, kernels = x.reshape(1, -1, *x.shape[2:]), kernel.flatten(0, 1).to(x.dtype)
    y = F.conv2d(maps, kernels, stride=stride, padding=size // 2, groups=batch)
    return y.reshape(batch, outputs, y.shape[2], y.shape[3])


def _convolve_by_taps(x: Tensor, kernel: Tensor, stride: int) -> Tensor:
    """The same as one matrix product for each place of the kernel, for any batch."""
    size = kernel.shape[-1]
    height, width = (divide_up(side, stride) for side in x.shape[2:])
    more = size // 2 + stride - 1  # so that each place has a value at the last step
    padded = F.pad(x, (size // 2, more, size // 2, more))
    y = torch.zeros(1, dtype=x.dtype, device=x.device)
    for i in range(size):
        for j in range(size):
            rows, columns = slice(i, i + stride * height, stride), slice(j, j + stride * width, stride)
            y = y + kernel[..., i, j] @ padded[:, :, rows, columns].flatten(2)  # (B, C', H' W')
    return y.view(*kernel.shape[:2], height, width)
