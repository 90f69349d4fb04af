"""CAA: context anchor attention, weights from a pooled map and two depthwise strips.

Source: Cai et al., "Poly Kernel Inception Network for Remote Sensing Detection", CVPR 2024, arXiv:2403.06258; the
authors' code is `mmrotate/models/backbones/pkinet.py` of github.com/PKINet/PKINet (Apache 2.0). This is an independent
implementation of section 3.3.

Status: the weights equal those of the authors' code to 1e-5 in float32, outputs and gradients (golden values). Their
class returns the weights, which multiply another map of their block; here they multiply the input.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn


class CAA(nn.Module):
    """Weigh each value by its surroundings, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        kernel_size: Length of the two strips in pixels, odd.

    Raises:
        ValueError: `kernel_size` is even.
    """

    def __init__(self, channels: int, *, kernel_size: Annotated[int, ">= 1"] = 11) -> None:
        super().__init__()
        if kernel_size < 1 or not kernel_size % 2:
            raise ValueError(f"CAA: kernel_size must be odd; got {kernel_size}")
        pad = kernel_size // 2
        self.first = _pointwise(channels)
        self.row = nn.Conv2d(channels, channels, (1, kernel_size), padding=(0, pad), groups=channels)
        self.column = nn.Conv2d(channels, channels, (kernel_size, 1), padding=(pad, 0), groups=channels)
        self.last = _pointwise(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        around = F.silu(self.first(F.avg_pool2d(x, 7, stride=1, padding=3)))  # zeros beyond the border count
        weights: Tensor = F.silu(self.last(self.column(self.row(around)))).sigmoid()  # (B, C, H, W)
        return x * weights


def _pointwise(channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)
    )
