"""DySample: upsample by learning where to sample.

Paper: W. Liu, H. Lu, H. Fu, Z. Cao, "Learning to Upsample by Learning to Sample", ICCV 2023, arXiv 2308.15085. Authors'
code: https://github.com/tiny-smart/dysample (MIT), `DySample` in dysample.py, read at commit 81a1de5; the code here is
our own.

What differs: the factor is 2. Positions are computed in float32 and sampled in it; theirs are in the precision of the
features, rounded in float16. Status: output and gradients equal the authors' to 1e-5 in float32.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ablate.modules.kernels.precision import widen
from ablate.modules.kernels.traced import places

REACH = 0.25  # pixels by which an offset of 1 moves a sample: neighbours do not overlap at first (section 3.2)


class DySample(nn.Module):
    """Bilinear samples of the map at learnt positions; (B, C, H, W) to (B, C, 2 H, 2 W), any H x W.

    Args:
        channels: C; must divide by `groups`, and with `style="pl"` by 4.
        style: Offsets from the map itself (`lp`: linear, then pixel shuffle) or from the shuffled map (`pl`: pixel
            shuffle, then linear, with a quarter of the channels and fewer parameters).
        groups: Of channels that are sampled at the same positions.
        dyscope: Learn for each position how far its offset may reach, 0 to 0.5 pixels, instead of 0.25 everywhere.

    Raises:
        ValueError: The channels do not divide, or a style of another name.
    """

    def __init__(
        self,
        channels: int,
        *,
        style: Literal["lp", "pl"] = "lp",
        groups: Annotated[int, ">= 1"] = 4,
        dyscope: bool = False,
    ) -> None:
        super().__init__()
        if style not in ("lp", "pl"):
            raise ValueError(f"style must be lp or pl; got {style!r}")
        if groups < 1 or channels % groups:
            raise ValueError(f"DySample: {channels} channels do not divide into {groups} groups")
        if style == "pl" and channels % 4:
            raise ValueError(f"DySample with style=pl needs channels that divide by 4; got {channels}")
        self.channels, self.groups, self.style = channels, groups, style
        inputs, outputs = (channels // 4, 2 * groups) if style == "pl" else (channels, 8 * groups)
        self.offset = nn.Conv2d(inputs, outputs, 1)
        nn.init.normal_(self.offset.weight, std=0.001)
        nn.init.zeros_(self.offset.bias)  # type: ignore[arg-type]
        self.scope = nn.Conv2d(inputs, outputs, 1, bias=False) if dyscope else None
        if self.scope is not None:
            nn.init.zeros_(self.scope.weight)

    def uncounted_flops(self, height: int, width: int) -> int:
        """Of the bilinear samples of an input of that size: 4 products and sums for each value of the output."""
        return 8 * self.channels * 4 * height * width

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C, 2 H, 2 W)."""
        height, width = x.shape[2:]
        right, low = widen(self._offsets(x)).chunk(2, dim=1)  # (B, groups, 2 H, 2 W) each
        across = (places(2 * width, right).to(right.dtype) + 0.5) / 2  # positions in pixels of the input
        down = (places(2 * height, low).to(low.dtype) + 0.5) / 2
        grid = torch.stack(
            [(across + right) * (2 / width) - 1, (down[:, None] + low) * (2 / height) - 1], dim=-1
        )  # (B, groups, 2 H, 2 W, 2) from -1 to 1
        maps = rearrange(widen(x), "b (g c) h w -> (b g) c h w", g=self.groups)
        y = F.grid_sample(maps, grid.flatten(0, 1), padding_mode="border", align_corners=False)
        sampled: Tensor = rearrange(y, "(b g) c h w -> b (g c) h w", g=self.groups)
        return sampled.to(x.dtype)

    def _offsets(self, x: Tensor) -> Tensor:
        """Return how far each pixel of the output samples from its place: (B, 2 groups, 2 H, 2 W), in input pixels."""
        shuffled = F.pixel_shuffle(x, 2) if self.style == "pl" else x
        offset: Tensor = self.offset(shuffled)
        offset = offset * REACH if self.scope is None else offset * (2 * REACH * self.scope(shuffled).sigmoid())
        return offset if self.style == "pl" else F.pixel_shuffle(offset, 2)
