"""Deformable convolution v2: each tap of a kernel is moved by a learnt offset and weighted by a learnt factor.

Paper: X. Zhu, H. Hu, S. Lin, J. Dai, "Deformable ConvNets v2: More Deformable, Better Results", CVPR 2019,
arXiv 1811.11168. The authors' code is for MXNet; the reference here is `torchvision.ops.deform_conv2d` (BSD).

Status: `DeformConv2d` equals torchvision's operation in output and gradients to 1e-5 in float32 (golden values). It
samples with `grid_sample`, which exports to ONNX and runs in bfloat16, and on a CPU is 4 times as fast forward and 10
times backward: docs/modules/dcnv2.md.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import NormedConv, check_kernel_size
from ablate.modules.kernels.precision import no_autocast, widen
from ablate.modules.kernels.traced import places


class DCNv2(NormedConv):
    """Modulated deformable convolution, batch norm, SiLU.

    (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, odd.
        stride: Step of the output's positions in the input.

    Raises:
        ValueError: The kernel size is even, or a size is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Annotated[int, ">= 1"] = 3,
        stride: Annotated[int, ">= 1"] = 1,
    ) -> None:
        conv = DeformConv2d(in_channels, out_channels, kernel_size=kernel_size, stride=stride)
        super().__init__(conv, out_channels)


class DeformConv2d(nn.Module):
    """The convolution alone, without bias. Arguments, shapes and errors as in `DCNv2`.

    `predict` gives for each position the offsets (row, column) of the taps in pixels, then the taps' factors before
    their sigmoid. It starts at zero: taps in their places, factors of 0.5, as in the paper.
    """

    taps: Tensor

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        check_kernel_size("DCNv2", kernel_size)
        if min(in_channels, out_channels, stride) < 1:
            raise ValueError(
                f"DCNv2 needs channels and a stride of at least 1; got {in_channels}, {out_channels}, {stride}"
            )
        self.stride, self.count = stride, kernel_size**2
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Conv2d
        self.predict = nn.Conv2d(in_channels, 3 * self.count, kernel_size, stride=stride, padding=kernel_size // 2)
        for parameter in self.predict.parameters():
            nn.init.zeros_(parameter)
        index = torch.arange(self.count)
        taps = torch.stack((index // kernel_size, index % kernel_size)) - kernel_size // 2
        self.register_buffer("taps", taps.float()[:, :, None, None], persistent=False)  # (2, k k, 1, 1)

    def uncounted_flops(self, height: int, width: int) -> int:
        """Bilinear sampling: four multiply-adds for each channel and tap."""
        positions = math.ceil(height / self.stride) * math.ceil(width / self.stride)
        return 2 * 4 * self.weight.shape[1] * self.count * positions

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        predicted = self.predict(x)  # (B, 3 k k, H', W')
        with no_autocast(x):  # half precision has too few digits for coordinates
            sampled = self._sample(widen(x), widen(predicted))  # (B, C k k, H', W')
        y: Tensor = F.conv2d(sampled.to(predicted.dtype), self.weight.flatten(1)[:, :, None, None])
        return y

    def _sample(self, x: Tensor, predicted: Tensor) -> Tensor:
        """Weighted bilinear values under the moved taps, zero beyond the border."""
        (height, width), (rows_out, columns_out) = x.shape[2:], predicted.shape[2:]
        factors = predicted[:, 2 * self.count :].sigmoid().flatten(1, 2)  # (B, k k H', W')
        rows, columns = rearrange(predicted[:, : 2 * self.count], "b (t two) h w -> two b t h w", two=2)
        rows = rows + self.taps[0].to(x) + (places(rows_out, x) * self.stride)[:, None]  # (B, k k, H', W')
        columns = columns + self.taps[1].to(x) + places(columns_out, x) * self.stride
        grid = torch.stack(((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1), dim=-1)
        sampled = F.grid_sample(x, grid.flatten(1, 2), padding_mode="zeros", align_corners=False)
        values: Tensor = rearrange(sampled * factors[:, None], "b c (t h) w -> b (c t) h w", t=self.count)
        return values
