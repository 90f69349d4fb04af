"""A convolution, its batch norm and its activation, as the layers of YOLO are made of them, for every module.

The parts have the names that they have in Ultralytics (`conv`, `bn`, `act`), and the batch norm the values that
Ultralytics sets in a network, so that weights of one are weights of the other.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

EPSILON, MOMENTUM = 1e-3, 0.03  # of each norm of a network that Ultralytics builds (`initialize_weights`)

Activation = Literal["silu", "relu", "leaky", "none"]


def batch_norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the `eps` and `momentum` that Ultralytics sets in the network around."""
    return nn.BatchNorm2d(channels, eps=EPSILON, momentum=MOMENTUM)


def check_kernel_size(name: str, kernel_size: int) -> None:
    """Refuse a kernel without a middle, whose output has another size.

    Raises:
        ValueError: The kernel size is even or below 1.
    """
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"{name} needs an odd kernel_size of at least 1; got {kernel_size}")


class NormedConv(nn.Module):
    """A convolution of any kind, batch norm, activation; (B, C, H, W) to what the convolution makes of it.

    Args:
        conv: The convolution, without bias.
        out_channels: Channels of its output.
        activation: See `activation_of`.
    """

    def __init__(self, conv: nn.Module, out_channels: int, activation: Activation = "silu") -> None:
        super().__init__()
        self.conv = conv
        self.bn: nn.Module = batch_norm(out_channels)
        self.act = activation_of(activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, out_channels, H', W')."""
        y: Tensor = self.act(self.bn(self.conv(x)))
        return y


class ConvNorm(NormedConv):
    """Convolution, batch norm, activation; (B, C, H, W) to (B, C', ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: C.
        out_channels: C'.
        kernel_size: An odd side of the kernel.
        stride: Of the convolution.
        groups: Of the convolution.
        activation: `silu`, `relu`, `leaky` (ReLU with a slope of 0.1 below zero) or `none`.

    Raises:
        ValueError: Fewer than one channel, or an activation of another name.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: Activation = "silu",
    ) -> None:
        if in_channels < 1 or out_channels < 1:
            raise ValueError(f"a convolution needs at least 1 channel each way; got {in_channels} and {out_channels}")
        padding = kernel_size // 2
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, groups=groups, bias=False)
        super().__init__(conv, out_channels, activation)

    def fold_norm(self) -> None:
        """Fold the batch norm into the convolution, for inference; once."""
        if isinstance(self.conv, nn.Conv2d) and isinstance(self.bn, nn.BatchNorm2d):
            self.conv = fuse_conv_bn_eval(self.conv, self.bn)
            self.bn = nn.Identity()


def activation_of(name: Activation) -> nn.Module:
    """Return an activation by its name.

    Raises:
        ValueError: There is none of that name.
    """
    if name == "leaky":
        return nn.LeakyReLU(0.1)
    activations = {"silu": nn.SiLU, "relu": nn.ReLU, "none": nn.Identity}
    if name not in activations:
        raise ValueError(f"activation must be one of silu, relu, leaky, none; got {name!r}")
    return activations[name]()
