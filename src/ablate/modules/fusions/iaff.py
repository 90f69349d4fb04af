"""iAFF: iterative attentional feature fusion, two maps mixed with a weight for each channel and place.

Paper: Y. Dai, F. Gieseke, S. Oehmcke, Y. Wu, K. Barnard, "Attentional Feature Fusion", WACV 2021, arXiv 2009.14082.
Authors' code: https://github.com/YimianDai/open-aff (no licence), `iAFF` in aff_pytorch/aff_net/fusion.py, read at
commit 0bcfd8a; the code here is our own.

What differs: maps of other channels than the output go through a 1x1 convolution. The second step has a global branch
of its own, as in the paper; their code makes one and never uses it (`share_global` does as their code). Convolutions
before a batch norm have no bias, which it takes away. Status: with `share_global` output and gradients equal the
authors' to 1e-5 in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm


class IAFF(nn.Module):
    """Two maps mixed twice, the second time by weights from the first mixture; (B, C_i, H, W) each to (B, C', H, W).

    Args:
        channels: C_1 and C_2.
        out_channels: C'.
        reduction: The attention has C' / reduction hidden channels, at least 1.
        share_global: Use the first step's global branch in the second one too, as the authors' code.

    Raises:
        ValueError: Not two maps, or a reduction below 1.
    """

    def __init__(
        self,
        channels: Sequence[int],
        out_channels: int,
        *,
        reduction: Annotated[int, ">= 1"] = 4,
        share_global: bool = False,
    ) -> None:
        super().__init__()
        if len(channels) != 2 or reduction < 1:
            raise ValueError(f"iAFF mixes two maps, reduction at least 1; got {list(channels)} and {reduction}")
        hidden = max(out_channels // reduction, 1)
        self.project = nn.ModuleList(
            nn.Identity() if count == out_channels else ConvNorm(count, out_channels, activation="none")
            for count in channels
        )
        self.local = nn.ModuleList(_branch(out_channels, hidden) for _ in range(2))
        self.overall = nn.ModuleList(_branch(out_channels, hidden) for _ in range(1 if share_global else 2))

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Two maps (B, C_i, H, W) to (B, C', H, W)."""
        x, other = (project(each) for project, each in zip(self.project, maps, strict=True))
        mixed: Tensor = x + other
        for step, local in enumerate(self.local):
            overall = self.overall[min(step, len(self.overall) - 1)]
            weight = (local(mixed) + overall(mixed.mean((2, 3), keepdim=True))).sigmoid()
            mixed = x * weight + other * (1 - weight)
        return mixed


def _branch(channels: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(ConvNorm(channels, hidden, activation="relu"), ConvNorm(hidden, channels, activation="none"))
