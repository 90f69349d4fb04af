"""AConv: the downsampler of YOLOv9's small networks, an average before the strided convolution.

Paper: C.-Y. Wang, I.-H. Yeh, H.-Y. M. Liao, "YOLOv9: Learning What You Want to Learn Using Programmable Gradient
Information", ECCV 2024, arXiv 2402.13616. Authors' code: https://github.com/WongKinYiu/yolov9 (GPL-3.0), `AConv` in
models/common.py, read at commit 5b1ea9a; the code here is our own.

What differs: maps with an odd side, for which theirs gives a side less than a strided convolution does. Its parameters
have the names of the strided convolution that it replaces, so that it starts from pretrained weights. Status: output
and gradients equal the authors' to 1e-5 in float32.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ablate.modules.kernels.conv_norm import ConvNorm
from ablate.modules.kernels.even import repeat_to_even


class AConv(ConvNorm):
    """Average 2x2, then a 3x3 convolution of stride 2; (B, C, H, W) to (B, C', ceil(H / 2), ceil(W / 2)), any H x W.

    Args:
        in_channels: C.
        out_channels: C'.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / 2), ceil(W / 2))."""
        return super().forward(F.avg_pool2d(repeat_to_even(x), 2, 1))
