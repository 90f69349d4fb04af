"""LDConv (formerly AKConv): a convolution with any number of sampled places, which are moved by learnt offsets.

Paper: X. Zhang et al., "LDConv: Linear deformable convolution for improving convolutional neural networks", Image and
Vision Computing 2024, arXiv 2311.11587 (its first version: "AKConv: Convolutional Kernel with Arbitrary Sampled Shapes
and Arbitrary Number of Parameters"). Authors' code: https://github.com/CV-ZhangXin/LDConv (no licence stated), `LDConv`
in model.py, read at commit cbccb6b for its definitions; the code here is our own.

Status: `LDConv2d` with `fidelity="authors"` equals the authors' up to and including their convolution, in output and
gradients to 1e-5 in float32 (golden values). The default differs at the border: docs/modules/ldconv.md.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import NormedConv
from ablate.modules.kernels.precision import no_autocast, widen
from ablate.modules.kernels.traced import places


class LDConv(NormedConv):
    """Linear deformable convolution, batch norm, SiLU.

    (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Step of the output's positions in the input.
        num_param: Places that are sampled for each position; the number of parameters grows with it linearly.
        fidelity: `authors` counts values beyond the border twice for each axis, as in the authors' code; `corrected`
            counts them once.

    Raises:
        ValueError: A size is below 1, or there is no such fidelity.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: Annotated[int, ">= 1"] = 1,
        num_param: Annotated[int, ">= 1"] = 5,
        fidelity: Literal["corrected", "authors"] = "corrected",
    ) -> None:
        conv = LDConv2d(in_channels, out_channels, stride=stride, num_param=num_param, fidelity=fidelity)
        super().__init__(conv, out_channels)


class LDConv2d(nn.Module):
    """The convolution alone, without bias. Arguments, shapes and errors as in `LDConv`."""

    shape: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        num_param: int = 5,
        fidelity: Literal["corrected", "authors"] = "corrected",
    ) -> None:
        super().__init__()
        sizes = in_channels, out_channels, stride, num_param
        if min(sizes) < 1:
            raise ValueError(f"LDConv needs channels, stride and num_param of at least 1; got {sizes}")
        if fidelity not in ("corrected", "authors"):
            raise ValueError(f"fidelity must be one of corrected, authors; got {fidelity!r}")
        self.in_channels, self.stride, self.num_param, self.fidelity = in_channels, stride, num_param, fidelity
        self.offsets = nn.Conv2d(in_channels, 2 * num_param, 3, stride=stride, padding=1)
        nn.init.zeros_(self.offsets.weight)
        self.mix = nn.Conv2d(in_channels * num_param, out_channels, 1, bias=False)
        self.register_buffer("shape", initial_shape(num_param), persistent=False)

    def uncounted_flops(self, height: int, width: int) -> int:
        """Bilinear sampling: four multiply-adds for each channel and sampled place."""
        positions = math.ceil(height / self.stride) * math.ceil(width / self.stride)
        return 2 * 4 * self.in_channels * self.num_param * positions

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        offsets = self.offsets(x)  # (B, 2 n, H', W')
        with no_autocast(x):  # half precision has too few digits for coordinates
            sampled = self._sample(widen(x), widen(offsets))  # (B, C n, H', W')
        y: Tensor = self.mix(sampled.to(offsets.dtype))
        return y

    def _sample(self, x: Tensor, offsets: Tensor) -> Tensor:
        """Bilinear values at the moved places, (B, C n, H', W'); beyond the border, the nearest pixel's."""
        (height, width), (rows_out, columns_out) = x.shape[2:], offsets.shape[2:]
        rows, columns = rearrange(offsets, "b (two n) h w -> two b n h w", two=2)  # 2 x (B, n, H', W')
        rows = rows + self.shape[0].to(x) + (places(rows_out, x) * self.stride)[:, None]
        columns = columns + self.shape[1].to(x) + places(columns_out, x) * self.stride
        grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)
        sampled = F.grid_sample(x, grid.flatten(1, 2), padding_mode="border", align_corners=False)  # (B, C, n H', W')
        if self.fidelity == "authors":
            sampled = sampled * (_times(rows, height) * _times(columns, width)).flatten(1, 2)[:, None]
        values: Tensor = rearrange(sampled, "b c (n h) w -> b (c n) h w", n=self.num_param)
        return values


def initial_shape(count: int) -> Tensor:
    """Rows and columns of the places before they move, (2, count, 1, 1): a grid from (0, 0) on, filled row by row."""
    index, columns = torch.arange(count), round(math.sqrt(count))
    return torch.stack((index // columns, index % columns)).float()[:, :, None, None]


def _times(points: Tensor, size: int) -> Tensor:
    """How often the authors' code counts a value: at and beyond the last pixel, and before the first, twice."""
    outside = (points < 0) | (points >= size - 1)
    return 1 + outside.to(points.dtype)
