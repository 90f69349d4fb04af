"""Focal modulation: each pixel is multiplied by a gated sum of its surroundings at growing distance.

Paper: J. Yang et al., "Focal Modulation Networks", NeurIPS 2022, arXiv 2203.11926.
Authors' code: https://github.com/microsoft/FocalNet (MIT), `FocalModulation` in classification/focalnet.py at commit
e8514bd; the code here is our own.

Status: output and gradients equal the authors'. Nothing differs; the 1x1 convolutions are their linear layers.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class FocalModulation(nn.Module):
    """Query times modulator, then a projection; (B, C, H, W) to (B, C, H, W), any H x W.

    Args:
        channels: C.
        focal_window: Side of the first depthwise convolution of the context; odd.
        focal_level: Depthwise convolutions one after another; the mean over the map is one more level.
        focal_factor: By how much each convolution's side is larger than the one before; even.
        bias: Bias of the projections to query, context, gates and modulator.
        normalize: Divide the sum of the levels by their number.
        post_norm: Layer norm over the channels between modulation and projection.

    Raises:
        ValueError: A side is not odd, or a number is not possible.
    """

    def __init__(
        self,
        channels: int,
        *,
        focal_window: Annotated[int, ">= 1"] = 3,
        focal_level: Annotated[int, ">= 1"] = 2,
        focal_factor: Annotated[int, ">= 0"] = 2,
        bias: bool = True,
        normalize: bool = False,
        post_norm: bool = False,
    ) -> None:
        super().__init__()
        if focal_window < 1 or focal_window % 2 == 0:
            raise ValueError(f"focal_window must be odd; got {focal_window}")
        if focal_factor < 0 or focal_factor % 2:
            raise ValueError(f"focal_factor must be even, so that each kernel is odd; got {focal_factor}")
        if focal_level < 1:
            raise ValueError(f"focal_level must be at least 1; got {focal_level}")
        self.channels, self.levels, self.normalize = channels, focal_level + 1, normalize
        self.f = nn.Conv2d(channels, 2 * channels + self.levels, 1, bias=bias)
        sizes = [focal_window + focal_factor * level for level in range(focal_level)]
        self.focal_layers = nn.ModuleList(
            nn.Conv2d(channels, channels, size, padding=size // 2, groups=channels, bias=False) for size in sizes
        )
        self.h = nn.Conv2d(channels, channels, 1, bias=bias)
        self.norm = nn.LayerNorm(channels) if post_norm else None
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        q, context, gates = self.f(x).split([self.channels, self.channels, self.levels], dim=1)
        around = torch.zeros_like(context)
        for level, layer in enumerate(self.focal_layers):
            context = F.gelu(layer(context))
            around = around + context * gates[:, level : level + 1]
        everywhere = F.gelu(context.mean((2, 3), keepdim=True))  # (B, C, 1, 1)
        around = around + everywhere * gates[:, self.levels - 1 :]
        if self.normalize:
            around = around / self.levels
        y = q * self.h(around)
        if self.norm is not None:
            y = self.norm(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        projected: Tensor = self.proj(y)
        return projected
