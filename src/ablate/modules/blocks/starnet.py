"""StarNet block: two 1x1 projections of a depthwise convolution, multiplied element by element (the "star").

Paper: X. Ma, X. Dai, Y. Bai, Y. Wang, Y. Fu, "Rewrite the Stars", CVPR 2024, arXiv 2403.19967. Authors' code:
https://github.com/ma-xu/Rewrite-the-Stars (Apache 2.0), `Block` in imagenet/starnet.py, read at commit c999eb5 for its
definitions; the code here is our own.

Status: `StarBlock` equals the authors' in output and gradients to 1e-5 in float32 (golden values). `StarNet`, to put in
a bottleneck's place, adds a convolution where the channels differ: docs/modules/starnet.md.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm, batch_norm, check_kernel_size


class StarNet(nn.Module):
    """StarNet blocks in a row; (B, in_channels, H, W) to (B, out_channels, H, W).

    Where the channels differ, a 1x1 convolution with batch norm and SiLU comes first.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        shortcut: Whether each block adds its input.
        repeats: Blocks in a row.
        mlp_ratio: Channels of each of the two projections for each channel.
        kernel_size: Side of the depthwise kernels, odd.

    Raises:
        ValueError: The kernel size is even, or a size is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        shortcut: bool = True,
        repeats: Annotated[int, ">= 1"] = 1,
        mlp_ratio: Annotated[int, ">= 1"] = 3,
        kernel_size: Annotated[int, ">= 1"] = 7,
    ) -> None:
        super().__init__()
        sizes = in_channels, out_channels, repeats, mlp_ratio
        if min(sizes) < 1:
            raise ValueError(f"StarNet needs channels, repeats and mlp_ratio of at least 1; got {sizes}")
        check_kernel_size("StarNet", kernel_size)
        self.adapt = nn.Identity() if in_channels == out_channels else ConvNorm(in_channels, out_channels)
        self.blocks = nn.Sequential(
            *(
                StarBlock(out_channels, shortcut=shortcut, mlp_ratio=mlp_ratio, kernel_size=kernel_size)
                for _ in range(repeats)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        y: Tensor = self.blocks(self.adapt(x))
        return y


class StarBlock(nn.Module):
    """The paper's block; (B, C, H, W) to (B, C, H, W). Arguments as in `StarNet`."""

    def __init__(self, channels: int, *, shortcut: bool = True, mlp_ratio: int = 3, kernel_size: int = 7) -> None:
        super().__init__()
        hidden = mlp_ratio * channels
        padding = kernel_size // 2
        self.shortcut = shortcut
        # Without bias where batch norm follows, which would remove it again.
        self.before = nn.Sequential(
            nn.Conv2d(channels, channels, kernel_size, padding=padding, groups=channels, bias=False),
            batch_norm(channels),
        )
        self.f1 = nn.Conv2d(channels, hidden, 1)
        self.f2 = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU6()
        self.project = nn.Sequential(nn.Conv2d(hidden, channels, 1, bias=False), batch_norm(channels))
        self.after = nn.Conv2d(channels, channels, kernel_size, padding=padding, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        mixed = self.before(x)
        star = self.act(self.f1(mixed)) * self.f2(mixed)  # (B, r C, H, W)
        y: Tensor = self.after(self.project(star))
        return x + y if self.shortcut else y
