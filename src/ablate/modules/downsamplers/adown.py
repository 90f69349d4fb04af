"""ADown: the downsampler of YOLOv9, half convolution and half maximum.

Paper: C.-Y. Wang, I.-H. Yeh, H.-Y. M. Liao, "YOLOv9: Learning What You Want to Learn Using Programmable Gradient
Information", ECCV 2024, arXiv 2402.13616. Authors' code: https://github.com/WongKinYiu/yolov9 (GPL-3.0), `ADown` in
models/common.py, read at commit 5b1ea9a; the code here is our own.

What differs: maps with an odd side, for which theirs gives a side less than a strided convolution does, and none at
1x1; an odd number of channels. Status: output and gradients equal the authors' to 1e-5 in float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm
from ablate.modules.kernels.even import repeat_to_even


class ADown(nn.Module):
    """Average 2x2, then halve one half of the channels by a convolution and the other by the maximum.

    (B, C, H, W) to (B, C', ceil(H / 2), ceil(W / 2)), any H x W.

    Args:
        in_channels: C; at least 2. Of an odd number the first half has one more.
        out_channels: C'; at least 2.

    Raises:
        ValueError: Fewer channels.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        if in_channels < 2 or out_channels < 2:
            raise ValueError(f"ADown halves its channels: it needs 2 each way; got {in_channels} and {out_channels}")
        self.sizes = [in_channels - in_channels // 2, in_channels // 2]
        self.cv1 = ConvNorm(self.sizes[0], out_channels - out_channels // 2, 3, 2)
        self.cv2 = ConvNorm(self.sizes[1], out_channels // 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', ceil(H / 2), ceil(W / 2))."""
        x = F.avg_pool2d(repeat_to_even(x), 2, 1)  # (B, C, H - 1, W - 1) of even sides
        convolved, pooled = torch.split(x, self.sizes, dim=1)
        return torch.cat([self.cv1(convolved), self.cv2(F.max_pool2d(pooled, 3, 2, 1))], dim=1)
