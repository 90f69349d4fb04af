"""ASFF: adaptively spatial feature fusion, each level a mixture of all levels with weights for each place.

Paper: S. Liu, D. Huang, Y. Wang, "Learning Spatial Fusion for Single-Shot Object Detection", 2019, arXiv 1911.09516.
Authors' code: https://github.com/GOATmessi8/ASFF (GPL-3.0), `ASFF` in models/network_blocks.py, read at commit 4df6f72;
the code here is our own.

What differs: any number of levels and channels, where theirs are YOLOv3's; a level keeps its channels; the activation
is SiLU as in YOLO, theirs leaky ReLU. Status: with `activation="leaky"` outputs and gradients equal the authors' (their
numbers of channels made smaller) to 1e-5 in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import Activation, ConvNorm


class ASFF(nn.Module):
    """Mixtures of all levels for each level; list of (B, C_i, H_i, W_i), fine to coarse, to a list of the same shapes.

    Args:
        channels: C_i of each level, each with half of the rows and columns of the one before (rounded up).
        compressed: Channels of each map from which the weights are made.
        activation: Of the convolutions: `silu` as YOLO, `leaky` as the authors.

    Raises:
        ValueError: Fewer than two levels or one channel, or another activation.
    """

    def __init__(
        self,
        channels: Sequence[int],
        *,
        compressed: Annotated[int, ">= 1"] = 16,
        activation: Literal["silu", "leaky"] = "silu",
    ) -> None:
        super().__init__()
        if len(channels) < 2 or compressed < 1:
            raise ValueError(
                f"ASFF mixes levels: two are needed, and compressed >= 1; got {list(channels)}, {compressed}"
            )
        if activation not in ("silu", "leaky"):
            raise ValueError(f"activation must be silu or leaky; got {activation!r}")
        self.levels = nn.ModuleList(_Level(channels, i, compressed, activation) for i in range(len(channels)))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """List of (B, C_i, H_i, W_i) to a list of the same shapes."""
        return [level(maps) for level in self.levels]


class _Level(nn.Module):
    """All levels brought to the size and the channels of one, and their mixture."""

    def __init__(self, channels: Sequence[int], index: int, compressed: int, activation: Activation) -> None:
        super().__init__()
        width = channels[index]
        self.index = index
        self.resize = nn.ModuleList()
        for other, count in enumerate(channels):
            if other < index:  # finer: halved here, and before that by a maximum as often as needed
                self.resize.append(ConvNorm(count, width, 3, 2, activation=activation))
            else:
                self.resize.append(nn.Identity() if count == width else ConvNorm(count, width, activation=activation))
        self.compress = nn.ModuleList(ConvNorm(width, compressed, activation=activation) for _ in channels)
        self.weights = nn.Conv2d(compressed * len(channels), len(channels), 1)
        self.expand = ConvNorm(width, width, 3, activation=activation)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        size = maps[self.index].shape[2:]
        resized = []
        for other, (resize, x) in enumerate(zip(self.resize, maps, strict=True)):
            for _ in range(self.index - other - 1):
                x = F.max_pool2d(x, 3, 2, 1)
            y = resize(x)
            resized.append(y if other <= self.index else F.interpolate(y, size=size, mode="nearest"))
        compressed = [compress(x) for compress, x in zip(self.compress, resized, strict=True)]
        weights = self.weights(torch.cat(compressed, dim=1)).softmax(dim=1).to(resized[0].dtype)
        mixed = torch.stack(resized, dim=1) * weights[:, :, None]  # (B, levels, C, H, W)
        out: Tensor = self.expand(mixed.sum(1))
        return out
