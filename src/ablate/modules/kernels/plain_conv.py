"""What stands around the convolutions and blocks: batch norm as Ultralytics sets it, and the plain convolution."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the `eps` and `momentum` that Ultralytics sets in the network around."""
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


def conv_norm_act(
    inputs: int, outputs: int, kernel_size: int = 1, *, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Convolution without bias, batch norm, and SiLU; its parts are named as those of Ultralytics' `Conv`."""
    padding = kernel_size // 2
    conv = nn.Conv2d(inputs, outputs, kernel_size, stride=stride, padding=padding, groups=groups, bias=False)
    act = nn.SiLU() if activation else nn.Identity()
    return PlainConv(OrderedDict(conv=conv, bn=batch_norm(outputs), act=act))


class PlainConv(nn.Sequential):
    """A convolution `conv`, its batch norm `bn` and its activation `act`."""

    conv: nn.Module
    bn: nn.Module

    def fold_norm(self) -> None:
        """Fold the batch norm into the convolution, for inference; once."""
        if isinstance(self.conv, nn.Conv2d) and isinstance(self.bn, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.bn)
            self.bn = nn.Identity()


def check_kernel_size(name: str, kernel_size: int) -> None:
    """Refuse a kernel without a middle, whose output has another size.

    Raises:
        ValueError: The kernel size is even or below 1.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"{name} needs an odd kernel_size of at least 1; got {kernel_size}")
