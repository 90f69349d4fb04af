"""EUCB: efficient up-convolution block, interpolation refined by a depthwise and a 1x1 convolution.

Paper: M. M. Rahman, M. Munir, R. Marculescu, "EMCAD: Efficient Multi-scale Convolutional Attention Decoding for Medical
Image Segmentation", CVPR 2024, arXiv 2405.06880. Authors' code: https://github.com/SLDGroup/EMCAD (research licence),
`EUCB` in lib/decoders.py, read at commit e48f54e; the code here is our own, from the paper's section 3.1.

What differs: the same channels behind as before, and no channel shuffle, which in their code has as many groups as
channels and moves nothing. Status: output and gradients equal the authors' to 1e-5 in float32.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm


class EUCB(nn.Module):
    """Nearest interpolation, depthwise convolution, batch norm, activation, 1x1; (B, C, H, W) to (B, C, 2 H, 2 W).

    Args:
        channels: C.
        kernel: Odd side of the depthwise kernel.
        activation: `relu` as the authors, or `silu` as YOLO.

    Raises:
        ValueError: An even kernel, or another activation.
    """

    def __init__(
        self, channels: int, *, kernel: Annotated[int, ">= 1"] = 3, activation: Literal["relu", "silu"] = "relu"
    ) -> None:
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"EUCB: kernel must be odd; got {kernel}")
        if activation not in ("relu", "silu"):
            raise ValueError(f"activation must be relu or silu; got {activation!r}")
        self.depthwise = ConvNorm(channels, channels, kernel, groups=channels, activation=activation)
        self.pointwise = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2 H, 2 W)."""
        y: Tensor = self.pointwise(self.depthwise(F.interpolate(x, scale_factor=2.0, mode="nearest")))
        return y
