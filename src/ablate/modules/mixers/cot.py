"""CoT: the static context of a pixel, a convolution of its neighbours, makes the weights of a dynamic one.

Paper: Y. Li et al., "Contextual Transformer Networks for Visual Recognition", IEEE TPAMI 2022, arXiv 2107.12292.
Authors' code: https://github.com/JDAI-CV/CoTNet (Apache-2.0), `CotLayer` in models/cotnet.py at commit 895e024; the
code here is our own.

Status: output and gradients equal the authors' class, with their CUDA kernel `LocalConvolution` replaced by the
formula in their own test of it. Nothing differs.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHARED = 8  # channels that share the dynamic weights of a place
KEY_GROUPS = 4
REDUCTION = 2
RADIX_REDUCTION = 4
FEWEST = 32  # channels of the last attention


class ContextualTransformer(nn.Module):
    """Static plus dynamic context, weighted for each channel; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C, a multiple of 8.
        kernel_size: Side of the window; odd.

    Raises:
        ValueError: The channels are no multiple of 8, or `kernel_size` is not odd.
    """

    def __init__(self, channels: int, *, kernel_size: Annotated[int, ">= 1"] = 3) -> None:
        super().__init__()
        if channels < SHARED or channels % SHARED:
            raise ValueError(f"channels must be a multiple of {SHARED}; got {channels}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd; got {kernel_size}")
        self.kernel_size = kernel_size
        groups, taps = channels // SHARED, kernel_size**2
        self.key_embed = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=KEY_GROUPS, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.embed = nn.Sequential(
            nn.Conv2d(2 * channels, channels // REDUCTION, 1, bias=False),
            nn.BatchNorm2d(channels // REDUCTION),
            nn.ReLU(),
            nn.Conv2d(channels // REDUCTION, taps * groups, 1),
            nn.GroupNorm(groups, taps * groups),
        )
        self.value = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.norm = nn.BatchNorm2d(channels)
        hidden = max(2 * channels // RADIX_REDUCTION, FEWEST)
        self.choose = nn.Sequential(
            nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden), nn.ReLU(), nn.Conv2d(hidden, 2 * channels, 1)
        )

    def uncounted_flops(self, height: int, width: int) -> int:
        """The dynamic convolution: a multiply-add for each output element and tap."""
        return 2 * self.kernel_size**2 * self.norm.num_features * height * width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        static = self.key_embed(x)
        weights = self.embed(torch.cat([x, static.to(x.dtype)], dim=1))  # (B, C / 8 k k, H, W)
        dynamic = F.silu(self.norm(self._convolve(self.value(x), weights)))
        context = (dynamic + static).mean((2, 3), keepdim=True)
        shares = self.choose(context).reshape(x.shape[0], x.shape[1], 2, 1, 1).softmax(2)
        y: Tensor = dynamic * shares[:, :, 0] + static * shares[:, :, 1]
        return y

    def _convolve(self, v: Tensor, weights: Tensor) -> Tensor:
        """Convolve with weights of each place; channel c takes those of number c modulo C / 8."""
        size, (batch, channels, height, width) = self.kernel_size, v.shape
        weights = weights.reshape(batch, 1, channels // SHARED, size**2, height, width)  # (B, 1, C / 8, k k, H, W)
        padded = F.pad(
            v.reshape(batch, SHARED, channels // SHARED, height, width), (size // 2,) * 4
        )  # (B, 8, C / 8, H + k - 1, W + k - 1)
        y = torch.zeros_like(v).reshape(batch, SHARED, channels // SHARED, height, width)
        for tap in range(size**2):
            row, column = divmod(tap, size)
            y = y + weights[:, :, :, tap] * padded[..., row : row + height, column : column + width]
        return y.flatten(1, 2)
