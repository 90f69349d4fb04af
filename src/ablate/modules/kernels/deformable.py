"""A 3x3 convolution whose nine taps are moved and weighted at each place, made of samples and a 1x1 convolution.

Modulated deformable convolution (Zhu et al., "Deformable ConvNets v2", CVPR 2019, arXiv 1811.11168), as
`torchvision.ops.deform_conv2d`, with which the tests compare it. Samples by `grid_sample` run in every precision, are
recorded for ONNX, and are faster on CPUs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ablate.modules.kernels.precision import no_autocast, widen
from ablate.modules.kernels.traced import places

TAPS = 9


def deform_conv3x3(
    x: Tensor, offset: Tensor, factors: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1
) -> Tensor:
    """Convolve with moved taps; zeros beyond the border.

    Args:
        x: (B, C, H, W).
        offset: (B, 18, H', W'): rows and columns by which the taps are moved, in pixels, in turn for each tap.
        factors: (B, 9, H', W'): what each tap is multiplied by.
        weight: (C', C, 3, 3).
        bias: (C').
        stride: Of the places, from the first pixel on.

    Returns:
        (B, C', H', W').
    """
    with no_autocast(x):  # half precision has too few digits for positions
        sampled = _sample(widen(x), widen(offset), widen(factors), stride)
    return F.conv2d(sampled.to(x.dtype), weight.flatten(1)[:, :, None, None], bias)


def _sample(x: Tensor, offset: Tensor, factors: Tensor, stride: int) -> Tensor:
    """Return the weighted samples under the taps, (B, 9 C, H', W'), a channel's nine side by side."""
    height, width = x.shape[2:]
    rows, columns = rearrange(offset, "b (tap two) h w -> two b tap h w", two=2)
    tap = torch.arange(TAPS, device=x.device)
    down, right = tap // 3 - 1, tap % 3 - 1
    rows = rows + down[:, None, None] + (places(offset.shape[2], x) * stride)[:, None]
    columns = columns + right[:, None, None] + places(offset.shape[3], x) * stride
    grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)  # (B, 9, H', W', 2)
    sampled = F.grid_sample(x, grid.flatten(1, 2), padding_mode="zeros", align_corners=False)  # (B, C, 9 H', W')
    weighted: Tensor = rearrange(sampled, "b c (tap h) w -> b c tap h w", tap=TAPS) * factors[:, None]
    return weighted.flatten(1, 2)
