"""GAM: global attention mechanism, weights for channels at each position and then for positions, without pooling.

Source: Liu et al., "Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions", 2021,
arXiv:2112.05561. The paper names no repository. This is an independent implementation of section 3.

Status: output and gradients equal the form that YOLO collections use (github.com/z1069614715/objectdetection_script,
`cv-attention/GAM.py`) to 1e-5 in float32 (golden values). The batch norms come from that form.
"""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from torch import Tensor, nn


class GAM(nn.Module):
    """Weigh channels, then positions, (B, C, H, W) to (B, C, H, W), for any H, W >= 1.

    Args:
        channels: C.
        reduction: C / `reduction` hidden channels in both parts, but at least 1.

    Raises:
        ValueError: `channels` or `reduction` is below 1.
    """

    def __init__(self, channels: int, *, reduction: Annotated[int, ">= 1"] = 4) -> None:
        super().__init__()
        if min(channels, reduction) < 1:
            raise ValueError(f"GAM needs at least 1 channel and a reduction of at least 1; got {channels}, {reduction}")
        hidden = max(channels // reduction, 1)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, 7, padding=3),
            nn.BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 7, padding=3),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, H, W)."""
        x = x * self.expand(F.relu(self.reduce(x))).sigmoid()
        weights: Tensor = self.spatial(x).sigmoid()  # (B, C, H, W)
        return x * weights
