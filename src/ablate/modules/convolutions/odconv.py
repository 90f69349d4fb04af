"""ODConv: a convolution whose kernel is put together for each image from several, by four kinds of attention.

Paper: C. Li, A. Zhou, A. Yao, "Omni-Dimensional Dynamic Convolution", ICLR 2022, arXiv 2209.07947. Authors' code:
https://github.com/OSVAI/ODConv (Apache 2.0), `ODConv2d` in modules/odconv.py, read at commit 0901cc1 for its
definitions; the code here is our own.

Status: `ODConv2d` equals the authors' at temperature 1 in output and gradients to 1e-5 in float32 (golden values).
`ODConv` adds batch norm and SiLU. Where the code differs: docs/modules/odconv.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import NormedConv, batch_norm, check_kernel_size
from ablate.modules.kernels.image_kernels import convolve_each


class ODConv(NormedConv):
    """Omni-dimensional dynamic convolution, batch norm, SiLU.

    (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, odd.
        stride: Step of the output's positions in the input.
        kernels: Kernels that are mixed; the parameters grow with their number.
        reduction: Hidden channels of the attention for each input channel; at least 16 hidden channels remain.

    Raises:
        ValueError: The kernel size is even, or another size is not positive.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Annotated[int, ">= 1"] = 3,
        stride: Annotated[int, ">= 1"] = 1,
        kernels: Annotated[int, ">= 1"] = 4,
        reduction: Annotated[float, "> 0"] = 0.0625,
    ) -> None:
        conv = ODConv2d(
            in_channels, out_channels, kernel_size=kernel_size, stride=stride, kernels=kernels, reduction=reduction
        )
        super().__init__(conv, out_channels)


class ODConv2d(nn.Module):
    """The convolution alone, without bias. Arguments, shapes and errors as in `ODConv`.

    Attributes:
        kernels: One below the other, (number * out_channels, in_channels, k, k); five axes cannot be channels_last.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        kernels: int = 4,
        reduction: float = 0.0625,
    ) -> None:
        super().__init__()
        check_kernel_size("ODConv", kernel_size)
        if min(in_channels, out_channels, stride, kernels) < 1 or reduction <= 0:
            sizes = in_channels, out_channels, stride, kernels, reduction
            raise ValueError(
                f"ODConv needs channels, stride and kernels of at least 1 and a positive reduction; got {sizes}"
            )
        self.stride = stride
        hidden = max(int(in_channels * reduction), 16)
        self.squeeze = nn.Conv2d(in_channels, hidden, 1, bias=False)
        self.squeeze_bn = batch_norm(hidden)
        self.of_inputs = nn.Conv2d(hidden, in_channels, 1)
        self.of_outputs = nn.Conv2d(hidden, out_channels, 1)
        self.of_places = nn.Conv2d(hidden, kernel_size**2, 1) if kernel_size > 1 else None
        self.of_kernels = nn.Conv2d(hidden, kernels, 1) if kernels > 1 else None
        self.kernels = nn.Parameter(torch.empty(kernels * out_channels, in_channels, kernel_size, kernel_size))
        for kernel in torch.split(self.kernels, out_channels):
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
                if part.bias is not None:
                    nn.init.zeros_(part.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        hidden = self._hidden(x.mean((2, 3), keepdim=True))  # (B, A, 1, 1)
        y = convolve_each(x * self.of_inputs(hidden).sigmoid(), self._kernel(hidden), self.stride)
        weighted: Tensor = y * self.of_outputs(hidden).sigmoid()
        return weighted

    def _hidden(self, means: Tensor) -> Tensor:
        """Hidden features of each image, (B, A, 1, 1). A single image in training has no variance to divide by."""
        norm = self.squeeze_bn
        squeezed = self.squeeze(means)
        if self.training and means.shape[0] == 1:
            mean, variance = norm.running_mean, norm.running_var
            return F.batch_norm(squeezed, mean, variance, norm.weight, norm.bias, eps=norm.eps).relu()
        y: Tensor = norm(squeezed).relu()
        return y

    def _kernel(self, hidden: Tensor) -> Tensor:
        """The kernel of each image, (B, out_channels, in_channels, k, k)."""
        if self.of_kernels is None:
            kernel = self.kernels.expand(hidden.shape[0], -1, -1, -1, -1)  # there is one
        else:
            weights = self.of_kernels(hidden).flatten(1).softmax(1)  # (B, n)
            kernels = self.kernels.reshape(weights.shape[1], -1).to(weights)
            kernel = (weights @ kernels).view(hidden.shape[0], -1, *self.kernels.shape[1:])
        if self.of_places is not None:
            kernel = kernel * self.of_places(hidden).sigmoid().view(-1, 1, 1, *kernel.shape[3:])
        return kernel
