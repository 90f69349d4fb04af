"""DyHead: attention over levels, places and channels before the detection head.

Paper: X. Dai, Y. Chen, B. Xiao, D. Chen, M. Liu, L. Yuan, L. Zhang, "Dynamic Head: Unifying Object Detection Heads with
Attentions", CVPR 2021, arXiv 2106.08322. Authors' code: https://github.com/microsoft/DynamicHead (MIT), `DyConv` in
dyhead/dyhead.py and `DYReLU` in dyhead/dyrelu.py, read at commit 9c7cd66; the code here is our own.

What differs: the levels of YOLO differ in channels, so 1x1 convolutions lead to a common width and back; the coarser
map is enlarged before its convolution, not after it, where the authors' CUDA operation reads the offsets of other
places and taps (docs/modules/dyhead.md). Status: a block equals the authors' `DyConv` and `DYReLU` to 1e-5 in float32,
their CUDA convolution replaced by torchvision's on the enlarged map.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm
from ablate.modules.kernels.deformable import TAPS, deform_conv3x3


class DyHead(nn.Module):
    """Blocks of scale-, spatial- and task-aware attention over the levels of a detection head.

    List of (B, C_i, H_i, W_i), from fine to coarse, each level with half of the rows and columns of the one before
    (rounded up), to a list of the same shapes.

    Args:
        channels: C_i of each level.
        width: Channels of the blocks; 0 is the smallest C_i, rounded down to a multiple of `groups`.
        blocks: Number of blocks.
        groups: Of the group norms in the blocks; divides the width.

    Raises:
        ValueError: No levels, fewer than one block, or a width that does not divide.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        width: Annotated[int, ">= 0"] = 0,
        blocks: Annotated[int, ">= 1"] = 1,
        groups: Annotated[int, ">= 1"] = 16,
    ) -> None:
        super().__init__()
        if not channels or blocks < 1 or groups < 1:
            raise ValueError(f"DyHead needs a level, a block and a group; got {list(channels)}, {blocks}, {groups}")
        width = width or max(min(channels) // groups, 1) * groups
        if width < 4 or width % groups:
            raise ValueError(f"DyHead needs a width of at least 4 that divides by groups={groups}; got {width}")
        self.enter = nn.ModuleList(nn.Identity() if c == width else ConvNorm(c, width) for c in channels)
        self.blocks = nn.ModuleList(DyBlock(width, len(channels), groups) for _ in range(blocks))
        self.leave = nn.ModuleList(nn.Identity() if c == width else ConvNorm(width, c) for c in channels)

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """List of (B, C_i, H_i, W_i) to a list of the same shapes."""
        inner: list[Tensor] = [enter(x) for enter, x in zip(self.enter, maps, strict=True)]
        for block in self.blocks:
            inner = block(inner)
        return [leave(x) for leave, x in zip(self.leave, inner, strict=True)]


class DyBlock(nn.Module):
    """Spatial, scale-aware and task-aware attention, in this order; levels (B, D, H_i, W_i) to the same.

    Args:
        width: D.
        levels: Number of levels; a single one has no neighbours to convolve.
        groups: Of the group norms.
    """

    def __init__(self, width: int, levels: int, groups: int) -> None:
        super().__init__()
        self.offset = nn.Conv2d(width, 3 * TAPS, 3, padding=1)
        self.same = _DeformNorm(width, groups, 1)
        self.finer = _DeformNorm(width, groups, 2) if levels > 1 else None
        self.coarser = _DeformNorm(width, groups, 1) if levels > 1 else None
        self.scale = nn.Conv2d(width, 1, 1)
        nn.init.normal_(self.scale.weight, std=0.01)
        nn.init.zeros_(self.scale.bias)  # type: ignore[arg-type]
        self.task = DyReLU(width)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Levels (B, D, H_i, W_i) to the same shapes."""
        return [self.task(self._gather(maps, level)) for level in range(len(maps))]

    def _gather(self, maps: list[Tensor], level: int) -> Tensor:
        """Return a level and its neighbours, convolved where it says, as a mean with a weight for each."""
        x = maps[level]
        offset, factors = self.offset(x).split([2 * TAPS, TAPS], dim=1)
        factors = factors.sigmoid()
        parts = [self.same(x, offset, factors)]
        if self.finer is not None and level > 0:
            parts.append(self.finer(maps[level - 1], offset, factors))
        if self.coarser is not None and level < len(maps) - 1:
            size = x.shape[2:]
            enlarged = F.interpolate(maps[level + 1], size=size, mode="bilinear", align_corners=True)
            parts.append(self.coarser(enlarged, offset, factors))
        weighted = [part * F.hardsigmoid(F.relu(self.scale(part.mean((2, 3), keepdim=True)))) for part in parts]
        return torch.stack(weighted).mean(0)


class _DeformNorm(nn.Module):
    """Deformable 3x3 convolution with offsets from outside, and group norm."""

    def __init__(self, width: int, groups: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        bound = 1 / math.sqrt(TAPS * width)
        self.weight = nn.Parameter(torch.empty(width, width, 3, 3).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(width))
        self.norm = nn.GroupNorm(groups, width)

    def uncounted_flops(self, height: int, width: int) -> int:
        """Of the bilinear samples of an input of that size: 4 products and sums for each channel, tap and place."""
        places = math.ceil(height / self.stride) * math.ceil(width / self.stride)
        return 2 * 4 * TAPS * self.weight.shape[1] * places

    def forward(self, x: Tensor, offset: Tensor, factors: Tensor) -> Tensor:
        y: Tensor = self.norm(deform_conv3x3(x, offset, factors, self.weight, self.bias, self.stride))
        return y


class DyReLU(nn.Module):
    """The larger of two lines of each channel, whose slopes and intercepts depend on the image.

    Y. Chen et al., "Dynamic ReLU", ECCV 2020, arXiv 2003.10027, the form B; (B, D, H, W) to the same.

    Args:
        width: D.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, width // 4)
        self.lines = nn.Linear(width // 4, 4 * width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, D, H, W) to the same."""
        theta = F.hardsigmoid(self.lines(F.relu(self.squeeze(x.mean((2, 3)))))) - 0.5  # (B, 4 D) from -0.5 to 0.5
        slope, height, slope2, height2 = theta[:, :, None, None].chunk(4, dim=1)
        return torch.maximum(x * (2 * slope + 1) + height, x * (2 * slope2) + height2)
