"""GSConv and the block of slim-neck: half of the output by a convolution, half by a depthwise one of that half.

Paper: H. Li et al., "Slim-neck by GSConv: a lightweight-design for real-time detector architectures", Journal of
Real-Time Image Processing 2024, arXiv 2206.02424. Authors' code: https://github.com/AlanLi1997/slim-neck-by-gsconv
(GPL-3.0), `GSConv` and `VoVGSCSP` in gsconv-yolov5/models/common.py, read at commit 8357ef6 for their definitions; the
code here is our own.

Status: with SiLU in place of Mish, `GSConv` and `VoVGSCSP` equal the authors' in output and gradients to 1e-5 in
float32 (golden values). What is left out: docs/modules/gsconv.md, docs/modules/vovgscsp.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import Activation, ConvNorm, check_kernel_size


class GSConv(nn.Module):
    """Convolution to half of the channels, depthwise 5x5 convolution of these for the other half, shuffled.

    (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)). Each of the two convolutions has
    batch norm and SiLU.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, even.
        kernel_size: Side of the first convolution's kernel, odd.
        stride: Step of the output's positions in the input.
        activation: Whether SiLU follows; without it the output is that of the batch norms.

    Raises:
        ValueError: The kernel size is even, the number of output channels is odd, or a size is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Annotated[int, ">= 1"] = 3,
        stride: Annotated[int, ">= 1"] = 1,
        activation: bool = True,
    ) -> None:
        super().__init__()
        check_kernel_size("GSConv", kernel_size)
        if out_channels < 2 or out_channels % 2 or min(in_channels, stride) < 1:
            raise ValueError(
                "GSConv needs an even number of output channels, input channels and a stride of at least 1; got "
                f"{out_channels}, {in_channels} and {stride}"
            )
        half = out_channels // 2
        act: Activation = "silu" if activation else "none"
        self.dense = ConvNorm(in_channels, half, kernel_size, stride=stride, activation=act)
        self.depthwise = ConvNorm(half, half, 5, groups=half, activation=act)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        dense = self.dense(x)
        y = torch.cat((dense, self.depthwise(dense)), dim=1)
        return torch.cat((y[:, ::2], y[:, 1::2]), dim=1)  # even channels of both before odd ones


class VoVGSCSP(nn.Module):
    """One-shot aggregation of a branch of GSConv bottlenecks and a 1x1 branch; (B, C, H, W) to (B, C', H, W).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output, a multiple of 4.
        repeats: Bottlenecks in a row.

    Raises:
        ValueError: The number of output channels is no multiple of 4, or a size is below 1.
    """

    def __init__(self, in_channels: int, out_channels: int, *, repeats: Annotated[int, ">= 1"] = 1) -> None:
        super().__init__()
        if out_channels < 4 or out_channels % 4 or min(in_channels, repeats) < 1:
            raise ValueError(
                "VoVGSCSP needs output channels in a multiple of 4, input channels and repeats of at least 1; got "
                f"{out_channels}, {in_channels} and {repeats}"
            )
        half = out_channels // 2
        self.cv1 = ConvNorm(in_channels, half, 1)
        self.cv2 = ConvNorm(in_channels, half, 1)
        self.cv3 = ConvNorm(2 * half, out_channels, 1)
        self.bottlenecks = nn.Sequential(*(_Bottleneck(half) for _ in range(repeats)))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        y: Tensor = self.cv3(torch.cat((self.cv2(x), self.bottlenecks(self.cv1(x))), dim=1))
        return y


class _Bottleneck(nn.Module):
    """Two GSConvs beside a 1x1 convolution; (B, C, H, W) to the same shape."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = GSConv(channels, channels, kernel_size=1)
        self.second = GSConv(channels, channels, kernel_size=3, activation=False)
        self.shortcut = ConvNorm(channels, channels, 1, activation="none")

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        y: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return y
