"""Haar wavelet downsampling (HWD): the four bands of a Haar transform, then a 1x1 convolution.

Paper: G. Xu, W. Liao, X. Zhang, C. Li, X. He, X. Wu, "Haar wavelet downsampling: A simple but effective downsampling
module for semantic segmentation", Pattern Recognition 143, 2023, doi 10.1016/j.patcog.2023.109819. Authors' code:
https://github.com/apple1986/HWD (no licence), `Down_wt` in HWD.py, read at commit 03944d3, with the transform of
https://github.com/fbcotter/pytorch_wavelets (MIT); the code here is our own.

What differs: the transform is sums and differences of pixels, without the package. The convolution has no bias, which
the batch norm after it takes away. The activation is SiLU as in YOLO; theirs is ReLU. Status: output and gradients
equal the authors' to 1e-5 in float32, also for odd sides, which both fill with zeros.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm
from ablate.modules.kernels.even import four_phases, zero_to_even


class HaarDown(nn.Module):
    """Mean and the three differences of each 2x2 block as channels, then a 1x1 convolution; nothing is lost before it.

    (B, C, H, W) to (B, C', ceil(H / 2), ceil(W / 2)), any H x W.

    Args:
        in_channels: C; the convolution has 4 C input channels.
        out_channels: C'.
        activation: After the convolution's batch norm: `silu` as in YOLO, `relu` as the authors.

    Raises:
        ValueError: Another activation.
    """

    def __init__(self, in_channels: int, out_channels: int, *, activation: Literal["silu", "relu"] = "silu") -> None:
        super().__init__()
        if activation not in ("silu", "relu"):
            raise ValueError(f"activation must be silu or relu; got {activation!r}")
        self.cv = ConvNorm(4 * in_channels, out_channels, activation=activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / 2), ceil(W / 2))."""
        a, c, b, d = four_phases(zero_to_even(x) / 2)  # a b above c d
        above, below = a + b, c + d
        right, falling = a - b, c - d
        bands = [above + below, above - below, right + falling, right - falling]  # low, and three of details
        y: Tensor = self.cv(torch.cat(bands, dim=1))
        return y
