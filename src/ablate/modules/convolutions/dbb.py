"""Diverse branch block: a convolution trained as four branches, which are one convolution when it is used.

Paper: X. Ding, X. Zhang, J. Han, G. Ding, "Diverse Branch Block: Building a Convolution as an Inception-like Unit",
CVPR 2021, arXiv 2103.13425. Authors' code: https://github.com/DingXiaoH/DiverseBranchBlock (Apache 2.0),
`DiverseBranchBlock` in diversebranchblock.py, read at commit 8d2b16b for its definitions; the code here is our own.

Status: equal to the authors' in output and gradients to 1e-5 in float32 (golden values). When and how the branches
become one: docs/modules/dbb.md.
"""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import batch_norm, check_kernel_size
from ablate.modules.kernels.precision import no_autocast, widen


class DBB(nn.Module):
    """Sum of four branches with batch norm, and SiLU.

    (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)). The branches are a k x k
    convolution (`conv` and `bn`, as in Ultralytics' `Conv`), a 1x1 convolution, a 1x1 convolution and an average over
    k x k, and a 1x1 convolution that starts as the identity and a k x k convolution. In eval mode and without a
    gradient for the input they are merged to one convolution first.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, odd.
        stride: Step of the output's positions in the input.
        single_init: Whether all branches but the first start at zero, so that it starts as a plain convolution.

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
        single_init: bool = False,
    ) -> None:
        super().__init__()
        check_kernel_size("DBB", kernel_size)
        if min(in_channels, out_channels, stride) < 1:
            raise ValueError(
                f"DBB needs channels and a stride of at least 1; got {in_channels}, {out_channels}, {stride}"
            )
        self.padding = kernel_size // 2
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=self.padding, bias=False)
        self.bn = batch_norm(out_channels)
        self.point = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
        self.point_bn = batch_norm(out_channels)
        self.before_average = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        self.before_average_bn = batch_norm(out_channels)
        self.average = nn.AvgPool2d(kernel_size, stride=stride)
        self.average_bn = batch_norm(out_channels)
        self.before_wide = nn.Conv2d(in_channels, in_channels, 1, bias=False)  # what is added to the identity
        nn.init.zeros_(self.before_wide.weight)
        self.before_wide_bn = batch_norm(in_channels)
        self.wide = nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, bias=False)
        self.wide_bn = batch_norm(out_channels)
        self.act = nn.SiLU()
        if single_init:
            for norm in (self.point_bn, self.average_bn, self.wide_bn):
                nn.init.zeros_(norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        merged = not (self.training or x.requires_grad)
        y: Tensor = self.act(self._merged(x) if merged else self._branches(x))
        return y

    def _branches(self, x: Tensor) -> Tensor:
        averaged = self._pad(self.before_average_bn(self.before_average(x)), self.before_average_bn)
        widened = self._pad(self.before_wide_bn(x + self.before_wide(x)), self.before_wide_bn)
        average, wide = self.average_bn(self.average(averaged)), self.wide_bn(self.wide(widened))
        y: Tensor = self.bn(self.conv(x)) + self.point_bn(self.point(x)) + average + wide
        return y

    def _pad(self, y: Tensor, norm: nn.BatchNorm2d) -> Tensor:
        """Pad what a batch norm returned by what it makes of zero, as if its convolution's input had been padded."""
        border = _shift(norm).detach().to(y.dtype)[:, None, None]
        return F.pad(y - border, [self.padding] * 4) + border

    def _merged(self, x: Tensor) -> Tensor:
        with no_autocast(x):
            kernel, bias = self.merge()
        return F.conv2d(x, kernel.to(x.dtype), bias.to(x.dtype), stride=self.conv.stride, padding=self.padding)

    def merge(self) -> tuple[Tensor, Tensor]:
        """Return the kernel (out_channels, in_channels, k, k) and the bias of the one convolution."""
        inputs, size = self.conv.in_channels, self.conv.kernel_size[0]
        first, first_bias = _fold(self.conv.weight, self.bn)
        point, point_bias = _fold(self.point.weight, self.point_bn)
        before, before_bias = _fold(self.before_average.weight, self.before_average_bn)
        mean, mean_bias = _fold(before.expand(-1, -1, size, size) / size**2, self.average_bn)
        mean_bias = mean_bias + before_bias * _scale(self.average_bn)
        inner = widen(self.before_wide.weight)
        identity = torch.eye(inputs, device=inner.device, dtype=inner.dtype)[:, :, None, None]
        inner, inner_bias = _fold(inner + identity, self.before_wide_bn)
        wide, wide_bias = _fold(self.wide.weight, self.wide_bn)
        wide_bias = wide_bias + wide.sum((2, 3)) @ inner_bias
        wide = torch.einsum("oikl,ij->ojkl", wide, inner.flatten(1))
        kernel = first + F.pad(point, [self.padding] * 4) + mean + wide
        return kernel.view(self.conv.out_channels, inputs, size, size), first_bias + point_bias + mean_bias + wide_bias


def _scale(norm: nn.BatchNorm2d) -> Tensor:
    """What a batch norm in eval mode multiplies each channel with."""
    assert norm.running_var is not None
    return widen(norm.weight) * (widen(norm.running_var) + norm.eps).rsqrt()


def _shift(norm: nn.BatchNorm2d) -> Tensor:
    """What a batch norm in eval mode makes of zero in each channel."""
    assert norm.running_mean is not None
    return widen(norm.bias) - widen(norm.running_mean) * _scale(norm)


def _fold(kernel: Tensor, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return kernel and bias of the convolution that equals this one and a batch norm in eval mode."""
    return widen(kernel) * _scale(norm)[:, None, None, None], _shift(norm)
