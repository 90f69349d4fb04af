"""RepViT block: depthwise 3x3 convolution with two parallel branches, squeeze and excitation, and a residual MLP.

Paper: A. Wang, H. Chen, Z. Lin, J. Han, G. Ding, "RepViT: Revisiting Mobile CNN From ViT Perspective", CVPR 2024,
arXiv 2307.09283. Authors' code: https://github.com/THU-MIG/RepViT (Apache 2.0), `RepViTBlock` of stride 1 in
model/repvit.py, read at commit 298f420 for its definitions; the code here is our own.

Status: `RepViTBlock` equals the authors' in output and gradients to 1e-5 in float32 (golden values). `RepViT`, to put
in a bottleneck's place, adds a convolution where the channels differ: docs/modules/repvit.md.
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm, batch_norm


class RepViT(nn.Module):
    """RepViT blocks in a row; (B, in_channels, H, W) to (B, out_channels, H, W).

    Where the channels differ, a 1x1 convolution with batch norm and SiLU comes first.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        repeats: Blocks in a row.
        squeeze: Whether squeeze and excitation is in every other block, from the first on, as in the authors' networks.

    Raises:
        ValueError: A size is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        repeats: Annotated[int, ">= 1"] = 1,
        squeeze: bool = True,
    ) -> None:
        super().__init__()
        sizes = in_channels, out_channels, repeats
        if min(sizes) < 1:
            raise ValueError(f"RepViT needs channels and repeats of at least 1; got {sizes}")
        self.adapt = nn.Identity() if in_channels == out_channels else ConvNorm(in_channels, out_channels)
        self.blocks = nn.Sequential(
            *(RepViTBlock(out_channels, squeeze=squeeze and index % 2 == 0) for index in range(repeats))
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H, W)."""
        y: Tensor = self.blocks(self.adapt(x))
        return y


class RepViTBlock(nn.Module):
    """The authors' block of stride 1; (B, C, H, W) to (B, C, H, W)."""

    def __init__(self, channels: int, *, squeeze: bool = True) -> None:
        super().__init__()
        self.depthwise = ConvNorm(channels, channels, 3, groups=channels, activation="none")
        self.pointwise = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
        self.norm = batch_norm(channels)
        self.squeeze = _SqueezeExcitation(channels) if squeeze else nn.Identity()
        self.mlp = nn.Sequential(
            ConvNorm(channels, 2 * channels, activation="none"),
            nn.GELU(),
            ConvNorm(2 * channels, channels, activation="none"),
        )
        nn.init.zeros_(self.mlp.get_submodule("2.bn").weight)  # type: ignore[arg-type]  # the MLP starts at zero

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        mixed: Tensor = self.squeeze(self.norm(self.depthwise(x) + self.pointwise(x) + x))
        y: Tensor = mixed + self.mlp(mixed)
        return y


class _SqueezeExcitation(nn.Module):
    """A weight for each channel, from the means of all; hidden channels are a quarter, rounded to a multiple of 8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(8, (channels // 4 + 4) // 8 * 8)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.act = nn.ReLU(inplace=True)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape."""
        y: Tensor = x * self.expand(self.act(self.reduce(x.mean((2, 3), keepdim=True)))).sigmoid()
        return y
