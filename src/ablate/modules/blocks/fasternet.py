"""FasterNet block: partial convolution, then two 1x1 convolutions around a norm and an activation, with a residual.

Paper: J. Chen et al., "Run, Don't Walk: Chasing Higher FLOPS for Faster Neural Networks", CVPR 2023, arXiv 2303.03667.
Authors' code: https://github.com/JierunChen/FasterNet (MIT in the file's head), `MLPBlock` in models/fasternet.py, read
at commit e8fba44 for its definitions; the code here is our own.

Status: `FasterNetBlock` equals the authors' in output and gradients to 1e-5 in float32 (golden values). `FasterNet`, to
put in a bottleneck's place, adds a convolution where the channels differ: docs/modules/fasternet.md.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from ablate.modules.convolutions.pconv import PartialConv2d
from ablate.modules.kernels.conv_norm import ConvNorm, batch_norm


class FasterNet(nn.Module):
    """FasterNet blocks in a row; (B, in_channels, H, W) to (B, out_channels, H, W).

    Where the channels differ, a 1x1 convolution with batch norm and SiLU comes first.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        shortcut: Whether each block adds its input.
        repeats: Blocks in a row.
        divisor: One of so many channels goes through the partial convolution.
        mlp_ratio: Hidden channels between the 1x1 convolutions for each channel.

    Raises:
        ValueError: A size is not positive, or there are fewer channels than the divisor.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        shortcut: bool = True,
        repeats: Annotated[int, ">= 1"] = 1,
        divisor: Annotated[int, ">= 1"] = 4,
        mlp_ratio: Annotated[float, "> 0"] = 2.0,
    ) -> None:
        super().__init__()
        if min(in_channels, out_channels, repeats) < 1:
            sizes = in_channels, out_channels, repeats
            raise ValueError(f"FasterNet needs channels and repeats of at least 1; got {sizes}")
        self.adapt = nn.Identity() if in_channels == out_channels else ConvNorm(in_channels, out_channels)
        self.blocks = nn.Sequential(
            *(
                FasterNetBlock(out_channels, shortcut=shortcut, divisor=divisor, mlp_ratio=mlp_ratio)
                for _ in range(repeats)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        y: Tensor = self.blocks(self.adapt(x))
        return y


class FasterNetBlock(nn.Module):
    """The paper's block; (B, C, H, W) to (B, C, H, W). Arguments and errors as in `FasterNet`."""

    def __init__(self, channels: int, *, shortcut: bool = True, divisor: int = 4, mlp_ratio: float = 2.0) -> None:
        super().__init__()
        hidden = int(channels * mlp_ratio)
        if hidden < 1:
            raise ValueError(f"FasterNet has no hidden channels with {channels} channels and mlp_ratio={mlp_ratio}")
        self.shortcut = shortcut
        self.partial = PartialConv2d(channels, divisor=divisor)
        self.mlp = nn.Sequential(
            nn.Conv2d(channels, hidden, 1, bias=False),
            batch_norm(hidden),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        y: Tensor = self.mlp(self.partial(x))
        return x + y if self.shortcut else y
