"""RFAConv: a convolution that weights the places under its kernel, for each position anew.

Paper: X. Zhang et al., "RFAConv: Innovating Spatial Attention and Standard Convolutional Operation", 2023,
arXiv 2304.03198. Authors' code: https://github.com/Liuchen1997/RFAConv (no licence stated), the first `RFAConv` in
model.py (by group convolution, the paper's form), read at commit 363fd6b for its definitions; the code here is our own.

Status: `RFAConv2d` equals the authors' up to and including their convolution, in output and gradients to 1e-5 in
float32 (golden values). `RFAConv` adds batch norm and SiLU. Where the code differs: docs/modules/rfaconv.md.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import NormedConv, batch_norm, check_kernel_size


class RFAConv(NormedConv):
    """Receptive-field attention convolution, batch norm, SiLU.

    (B, in_channels, H, W) to (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        kernel_size: Side of the kernel, odd.
        stride: Step of the output's positions in the input.

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
    ) -> None:
        conv = RFAConv2d(in_channels, out_channels, kernel_size=kernel_size, stride=stride)
        super().__init__(conv, out_channels)


class RFAConv2d(nn.Module):
    """The convolution alone, without bias. Arguments, shapes and errors as in `RFAConv`."""

    def __init__(self, in_channels: int, out_channels: int, *, kernel_size: int = 3, stride: int = 1) -> None:
        super().__init__()
        check_kernel_size("RFAConv", kernel_size)
        if min(in_channels, out_channels, stride) < 1:
            raise ValueError(
                f"RFAConv needs channels and a stride of at least 1; got {in_channels}, {out_channels}, {stride}"
            )
        places = kernel_size**2
        wide, padding = in_channels * places, kernel_size // 2
        features = nn.Conv2d(
            in_channels, wide, kernel_size, stride=stride, padding=padding, groups=in_channels, bias=False
        )
        self.places = places
        self.weigh = nn.Sequential(
            nn.AvgPool2d(kernel_size, stride=stride, padding=padding),
            nn.Conv2d(in_channels, wide, 1, groups=in_channels, bias=False),
        )
        self.features = nn.Sequential(features, batch_norm(wide), nn.ReLU(inplace=True))
        self.mix = nn.Conv2d(in_channels, out_channels, kernel_size, stride=kernel_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) to (B, out_channels, H', W')."""
        split = "b (c t) h w -> b c t h w"
        weights = rearrange(self.weigh(x), split, t=self.places).softmax(2)  # (B, C, k k, H', W')
        weighted = (weights * rearrange(self.features(x), split, t=self.places)).flatten(1, 2)  # (B, C k k, H', W')
        # A k x k kernel of stride k over k x k cells of a map enlarged k times is a 1x1 one over their places.
        y: Tensor = F.conv2d(weighted, self.mix.weight.flatten(1)[:, :, None, None])
        return y
