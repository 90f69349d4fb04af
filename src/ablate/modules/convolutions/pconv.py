"""PConv: a convolution of a part of the channels, with a 1x1 convolution that mixes them with the rest.

Paper: J. Chen et al., "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks", CVPR 2023, arXiv 2303.03667.
Authors' code: https://github.com/JierunChen/FasterNet (MIT in the file's head), `Partial_conv3` in models/fasternet.py,
read at commit e8fba44 for its definitions; the code here is our own. The block of the same paper is
`ablate.modules.blocks.fasternet`.

Status: `PartialConv2d` equals the authors' in output and gradients to 1e-5 in float32 (golden values). `PConv` adds the
1x1 convolution that the paper puts behind it, batch norm and SiLU: docs/modules/pconv.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import batch_norm, check_kernel_size


class PConv(nn.Module):
    """Partial convolution, 1x1 convolution, batch norm, SiLU.

    (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the partial convolution's kernel, odd.
        stride: Step of the output's positions in the input.
        divisor: One of so many channels goes through the partial convolution.

    Raises:
        ValueError: The kernel size is even, a size is below 1, or there are fewer channels than the divisor.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Annotated[int, ">= 1"] = 3,
        stride: Annotated[int, ">= 1"] = 1,
        divisor: Annotated[int, ">= 1"] = 4,
    ) -> None:
        super().__init__()
        self.partial = PartialConv2d(in_channels, kernel_size=kernel_size, stride=stride, divisor=divisor)
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.bn = batch_norm(out_channels)
        self.act = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        y: Tensor = self.act(self.bn(self.pointwise(self.partial(x))))
        return y


class PartialConv2d(nn.Module):
    """Convolution of the first channels, the others as they are; (B, C, H, W) to (B, C, ceil(H / s), ceil(W / s)).

    Arguments and errors as in `PConv`.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3, stride: int = 1, divisor: int = 4) -> None:
        super().__init__()
        check_kernel_size("PConv", kernel_size)
        if stride < 1 or not 1 <= divisor <= channels:
            raise ValueError(
                f"PConv needs a stride of at least 1 and a divisor between 1 and its channels; got "
                f"stride={stride}, divisor={divisor} and {channels} channels"
            )
        self.stride = stride
        self.partial = channels // divisor
        self.conv = nn.Conv2d(
            self.partial, self.partial, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H', W')."""
        kept = x[:, self.partial :, :: self.stride, :: self.stride]
        return torch.cat((self.conv(x[:, : self.partial]), kept), dim=1)
