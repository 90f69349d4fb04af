"""Dynamic convolution: for each image a weighted sum of several kernels; the weights come from the mean of the map.

Papers: B. Yang et al., "CondConv: Conditionally Parameterized Convolutions for Efficient Inference", NeurIPS 2019,
arXiv 1904.04971; as a layer named DynamicConv in K. Han et al., "ParameterNet: Parameters Are All You Need", CVPR 2024,
arXiv 2306.14525. Authors' code: https://github.com/huawei-noah/Efficient-AI-Backbones, `DynamicConv` in
parameternet_pytorch/cv/parameternet.py, read at commit f90e129 for its definitions; the code here is our own.

Status: `DynamicConv2d` equals the authors' in output and gradients to 1e-5 in float32 (golden values). `DynamicConv`
adds batch norm and SiLU: docs/modules/dynamicconv.md.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import NormedConv, check_kernel_size
from ablate.modules.kernels.image_kernels import convolve_each


class DynamicConv(NormedConv):
    """Dynamic convolution, batch norm, SiLU.

    (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, odd.
        stride: Step of the output's positions in the input.
        experts: Kernels that are mixed; the parameters grow with their number.

    Raises:
        ValueError: The kernel size is even, or another size is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Annotated[int, ">= 1"] = 3,
        stride: Annotated[int, ">= 1"] = 1,
        experts: Annotated[int, ">= 1"] = 4,
    ) -> None:
        conv = DynamicConv2d(in_channels, out_channels, kernel_size=kernel_size, stride=stride, experts=experts)
        super().__init__(conv, out_channels)


class DynamicConv2d(nn.Module):
    """The convolution alone, without bias. Arguments, shapes and errors as in `DynamicConv`.

    Attributes:
        kernels: One below the other, (experts * out_channels, in_channels, k, k).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int = 3, stride: int = 1, experts: int = 4
    ) -> None:
        super().__init__()
        check_kernel_size("DynamicConv", kernel_size)
        sizes = in_channels, out_channels, stride, experts
        if min(sizes) < 1:
            raise ValueError(f"DynamicConv needs channels, stride and experts of at least 1; got {sizes}")
        self.stride, self.experts = stride, experts
        self.route = nn.Linear(in_channels, experts)
        self.kernels = nn.Parameter(torch.empty(experts * out_channels, in_channels, kernel_size, kernel_size))
        for kernel in torch.split(self.kernels, out_channels):
            nn.init.kaiming_uniform_(kernel, a=math.sqrt(5))  # as nn.Conv2d

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        weights = self.route(x.mean((2, 3))).sigmoid()  # (B, n)
        kernels = self.kernels.reshape(self.experts, -1).to(weights.dtype)
        kernel = (weights @ kernels).view(weights.shape[0], -1, *self.kernels.shape[1:])  # (B, C', C, k, k)
        return convolve_each(x, kernel, self.stride)
