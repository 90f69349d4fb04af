"""BiFPN's fast normalised fusion: maps joined with learnt weights.

Paper: M. Tan, R. Pang, Q. V. Le, "EfficientDet: Scalable and Efficient Object Detection", CVPR 2020, arXiv 1911.09070,
section 3.3. Code in PyTorch: https://github.com/rwightman/efficientdet-pytorch (Apache-2.0), `FpnCombine` in
effdet/efficientdet.py, read at commit c6dff77; the code here is our own.

What differs: the paper adds the weighted maps (`join="sum"`). Where BiFPN replaces YOLO's Concat, the field
concatenates them, so that the layer after it keeps its channels and its weights (`join="concat"`, the default). The
paper's connections across the levels are no matter of one fusion and are not made here. Status: both forms equal the
public code to 1e-5 in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm

EPSILON = 1e-4  # of the sum of the weights (section 3.3)


class BiFPN(nn.Module):
    """Weighted maps, joined; list of (B, C_i, H, W) to (B, C', H, W), any H x W.

    Args:
        channels: C_i of each map.
        out_channels: C'.
        join: `concat`: side by side, with a 1x1 convolution only if C' is not the sum of C_i; `sum`: added, each map
            of other channels than C' after a 1x1 convolution with batch norm.
        keep_scale: Multiply by the number of maps. Equal weights then leave each map as it is, and pretrained layers
            after a concatenation start with what they know; without it they start with half of it.

    Raises:
        ValueError: No maps, or a join of another name.
    """

    def __init__(
        self,
        channels: Sequence[int],
        out_channels: int,
        *,
        join: Literal["concat", "sum"] = "concat",
        keep_scale: bool = False,
    ) -> None:
        super().__init__()
        if join not in ("concat", "sum"):
            raise ValueError(f"join must be concat or sum; got {join!r}")
        if not channels:
            raise ValueError("BiFPN needs the channels of at least one map")
        self.join, self.scale = join, len(channels) if keep_scale else 1
        self.weight = nn.Parameter(torch.ones(len(channels)))
        inputs = list(channels) if join == "sum" else [sum(channels)]
        self.project = nn.ModuleList(
            nn.Identity() if count == out_channels else ConvNorm(count, out_channels, activation="none")
            for count in inputs
        )

    def no_weight_decay(self) -> set[str]:
        """The weights of the maps: scales, not weight matrices."""
        return {"weight"}

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """List of (B, C_i, H, W) to (B, C', H, W)."""
        positive = F.relu(self.weight)
        weights = (positive * self.scale / (positive.sum() + EPSILON)).to(maps[0].dtype)
        if self.join == "sum":
            parts: list[Tensor] = [w * project(x) for w, project, x in zip(weights, self.project, maps, strict=True)]
            return sum(parts[1:], start=parts[0])
        y: Tensor = self.project[0](torch.cat([w * x for w, x in zip(weights, maps, strict=True)], dim=1))
        return y
