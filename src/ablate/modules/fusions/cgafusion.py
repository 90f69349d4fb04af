"""CGAFusion: two maps mixed with a weight for each channel and place, from content-guided attention (the other CGA).

Paper: Z. Chen, Z. He, Z.-M. Lu, "DEA-Net: Single Image Dehazing Based on Detail-Enhanced Convolution and
Content-Guided Attention", IEEE TIP 2024, arXiv 2301.04805.
Authors' code: https://github.com/cecret3350/DEA-Net (no licence stated), `CGAFusion` in code/model/modules/fusion.py,
read at commit 599d4d5 for its definitions; the code here is our own.

What differs: maps of other channels than the output go through a 1x1 convolution. The weights go through one sigmoid,
as in the paper; their code has two, which leaves weights between 0.5 and 0.73 (`fidelity="authors"` does so too).
Status: with that, output and gradients equal the authors' in float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from ablate.modules.kernels.conv_norm import ConvNorm
from ablate.modules.kernels.reflection import reflect

SIDE = 7  # of the convolutions of the attention


class CGAFusion(nn.Module):
    """Sum of two maps plus their mixture, projected; (B, C_i, H, W) each to (B, C', H, W).

    Args:
        channels: C_1 and C_2.
        out_channels: C'.
        reduction: The channel attention has C' / reduction hidden channels, at least 1.
        fidelity: `corrected` or `authors`, see above.

    Raises:
        ValueError: Not two maps, or an option has no such value.
    """

    def __init__(
        self,
        channels: Sequence[int],
        out_channels: int,
        *,
        reduction: Annotated[int, ">= 1"] = 8,
        fidelity: Literal["corrected", "authors"] = "corrected",
    ) -> None:
        super().__init__()
        if len(channels) != 2 or reduction < 1:
            raise ValueError(f"CGAFusion mixes two maps, reduction at least 1; got {list(channels)} and {reduction}")
        if fidelity not in ("corrected", "authors"):
            raise ValueError(f"fidelity must be one of corrected, authors; got {fidelity!r}")
        self.authors = fidelity == "authors"
        hidden = max(out_channels // reduction, 1)
        self.project = nn.ModuleList(
            nn.Identity() if count == out_channels else ConvNorm(count, out_channels, activation="none")
            for count in channels
        )
        self.places = nn.Conv2d(2, 1, SIDE)
        self.channels = nn.Sequential(nn.Conv2d(out_channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, out_channels, 1))
        self.weights = nn.Conv2d(2 * out_channels, out_channels, SIDE, groups=out_channels)
        self.proj = nn.Conv2d(out_channels, out_channels, 1)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Two maps (B, C_i, H, W) to (B, C', H, W)."""
        x, other = (project(each) for project, each in zip(self.project, maps, strict=True))
        both: Tensor = x + other
        summary = torch.cat([both.mean(1, keepdim=True), both.amax(1, keepdim=True)], dim=1)  # (B, 2, H, W)
        coarse = self.places(reflect(summary, SIDE // 2)) + self.channels(both.mean((2, 3), keepdim=True))
        pairs = torch.stack([both, coarse.to(both.dtype)], dim=2).flatten(1, 2)  # (B, 2 C', H, W): each channel twice
        weight = self.weights(reflect(pairs, SIDE // 2)).sigmoid()
        if self.authors:
            weight = weight.sigmoid()
        mixed: Tensor = self.proj(both + weight * x + (1 - weight) * other)
        return mixed
